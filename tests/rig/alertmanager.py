"""A real Alertmanager on a free port of the loopback address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rig.commands import RigError, wait_for

if TYPE_CHECKING:
    from types import TracebackType

PROGRAMS = ("prometheus-alertmanager", "alertmanager")
START_TIMEOUT_SECONDS = 20.0


class Alertmanager:
    """An Alertmanager with one receiver, which notifies nobody, or one webhook at once."""

    def __init__(self, webhook_url: str | None = None) -> None:
        """Plan it; `webhook_url` receives firing and resolved alerts as Alertmanager's own JSON."""
        self._webhook_url = webhook_url
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @staticmethod
    def program() -> str | None:
        """Return the installed program's name, Debian's or the project's own, or None."""
        return next((name for name in PROGRAMS if shutil.which(name)), None)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        program = self.program()
        if program is None:
            message = f"none of {', '.join(PROGRAMS)} is installed"
            raise RigError(message)
        self._directory = tempfile.TemporaryDirectory(prefix="autoheal-alertmanager-")
        home = Path(self._directory.name)
        (home / "config.json").write_text(json.dumps(self._config()))
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        with (home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={home}/config.json",
                    f"--storage.path={home}/data",
                    f"--web.listen-address={address}",
                    "--cluster.listen-address=",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(self._ready, START_TIMEOUT_SECONDS, "alertmanager to be ready")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and remove its files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire now; resolved ones are only counted, see history()."""
        found: list[dict[str, Any]] = self._get("/api/v2/alerts")
        return found

    def history(self) -> dict[str, float]:
        """Return how many alerts it has received: {'firing': 1.0, 'resolved': 1.0}."""
        found = {}
        for line in self._text("/metrics").splitlines():
            if line.startswith("alertmanager_alerts_received_total{") and 'version="v2"' in line:
                labels, _, value = line.rpartition(" ")
                found[labels.partition('status="')[2].partition('"')[0]] = float(value)
        return found

    def _config(self) -> dict[str, object]:
        hooks = [{"url": self._webhook_url, "send_resolved": True}] if self._webhook_url else []
        # JSON is YAML. Intervals are short, because a test waits for them.
        route = {
            "receiver": "tests",
            "group_wait": "100ms",
            "group_interval": "1s",
            "repeat_interval": "1h",
        }
        return {"route": route, "receivers": [{"name": "tests", "webhook_configs": hooks}]}

    def _ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            home = self._directory.name if self._directory else ""
            log = (Path(home) / "log").read_text(errors="replace")[-1000:]
            message = f"alertmanager ended; its log ends:\n{log}"
            raise RuntimeError(message)
        try:
            self._text("/-/ready")
        except urllib.error.URLError:
            return False
        return True

    def _get(self, path: str) -> Any:  # noqa: ANN401 - Alertmanager's JSON
        return json.loads(self._text(path))

    def _text(self, path: str) -> str:
        address = f"{self.url}{path}"
        with urllib.request.urlopen(address, timeout=5) as response:  # noqa: S310 - loopback
            text: str = response.read().decode()
        return text


def free_port() -> int:
    """Return a port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
