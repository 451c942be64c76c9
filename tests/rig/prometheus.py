"""A real Prometheus on a free port of the loopback address."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rig.alertmanager import free_port
from rig.commands import RigError, wait_for

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = "prometheus"
START_TIMEOUT_SECONDS = 30.0


class Prometheus:
    """A Prometheus that scrapes the given `host:port`s, if any, each second."""

    def __init__(self, *targets: str) -> None:
        """Plan it."""
        self._targets = targets
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self._address}"

    @staticmethod
    def is_installed() -> bool:
        """Whether there is one on this machine."""
        return shutil.which(PROGRAM) is not None

    def __enter__(self) -> Self:
        """Start."""
        self._directory = tempfile.TemporaryDirectory(prefix="autoheal-prometheus-")
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
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
        """Start it on its data, and wait until it answers queries."""
        home = self._home
        scrape = {"job_name": "tests", "static_configs": [{"targets": list(self._targets)}]}
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
        # JSON is YAML.
        (home / "config.json").write_text(json.dumps(config))
        with (home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",  # It must not outlive a killed test run.
                    PROGRAM,
                    f"--config.file={home}/config.json",
                    f"--storage.tsdb.path={home}/data",
                    f"--web.listen-address={self._address}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for(self._ready, START_TIMEOUT_SECONDS, "prometheus to be ready")

    def kill(self) -> None:
        """End it at once; `start` goes on with the same data and address."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it and remove its files."""
        self.kill()
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    @property
    def _home(self) -> Path:
        if self._directory is None:
            message = "use it in a with statement"
            raise RigError(message)
        return Path(self._directory.name)

    def _ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            log = (self._home / "log").read_text(errors="replace")[-1000:]
            message = f"prometheus ended; its log ends:\n{log}"
            raise RigError(message)
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):  # noqa: S310 - loopback
                return True
        except (urllib.error.URLError, ConnectionError):
            return False
