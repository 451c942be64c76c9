"""Where a command is started as people start it, and whatever it leaves behind can be seen."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import parts

LIMIT_S = 60.0
LOOK_S = 0.005


class Place:
    """Directories of its own for all that a command could write; nothing outlives it.

    Its path is so short that a socket fits below it, unlike pytest's own; `temporary` is what is
    below it for temporary files.
    """

    def __init__(self, temporary: str = "t") -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="place-")
        self.path = Path(self._directory.name)
        self.home, self.cwd = self.path / "home", self.path / "cwd"
        self.temporary = self.path / temporary
        for directory in (self.home, self.cwd, self.temporary):
            directory.mkdir(parents=True)
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started:
            process.kill()
            with process:  # waits, and closes its pipes
                pass
        parts.until(lambda: not self._kill(), LIMIT_S, "all that was started here has ended")
        self._directory.cleanup()

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        ours = {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**parts.clean_environment(), **ours, **given}

    def popen(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        **options: Any,  # noqa: ANN401  # subprocess's own
    ) -> subprocess.Popen[str]:
        """Start it here; it ends with this place at the latest."""
        process = subprocess.Popen(command, cwd=self.cwd, env=environment, text=True, **options)
        self._started.append(process)
        return process

    def processes(self) -> dict[int, str]:
        """All that were started here and still run: id and name."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            # Others' end meanwhile, or are none of our business.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if self._is_of_here(directory):
                    found[int(directory.name)] = (directory / "comm").read_text().strip()
        return found

    def _is_of_here(self, process: Path) -> bool:
        """By its environment; or, as the server overwrites that, by its title or directory."""
        ours = str(self.temporary)
        if f"TMPDIR={ours}".encode() in (process / "environ").read_bytes().split(b"\0"):
            return True
        title = (process / "cmdline").read_bytes()
        return b"unixsocket:" in title and (
            ours.encode() in title or ours in str((process / "cwd").readlink())
        )

    def left(self) -> list[str]:
        """Whatever is still there: files, directories, processes."""
        usual = {self.home, self.cwd, self.temporary, *self.temporary.parents}
        found = [str(path) for path in self.path.rglob("*") if path not in usual]
        return sorted(found) + [f"{p} {name}" for p, name in self.processes().items()]

    def _kill(self) -> bool:
        """Whether there was anything to kill."""
        found = self.processes()
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return bool(found)


def await_heeded(process: subprocess.Popen[str]) -> None:
    """Until the command handles interrupts itself, which it shows by handling alarms too.

    Fails where it ends before, or never does.
    """
    status = Path(f"/proc/{process.pid}/status")
    alarm = 1 << (signal.SIGALRM - 1)
    deadline = time.monotonic() + LIMIT_S
    while not _caught(status.read_text()) & alarm:
        assert process.poll() is None, "it ended before it heeded interrupts"
        assert time.monotonic() < deadline, "interrupts are not heeded"
        time.sleep(LOOK_S)


def _caught(status: str) -> int:
    """The signals that have a handler, a bit each."""
    (found,) = re.findall(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
    return int(found, 16)
