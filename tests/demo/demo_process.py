"""`autoheal demo` as people start it, in a place where all that it leaves behind can be seen."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parts

LIMIT_S = 240.0
# The least that Linux has: soon full where nobody reads.
PIPE_BYTES = 4096
DEMO = (sys.executable, "-m", "autoheal", "demo")
QUICK = ("--speed", "0")

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a demonstration ended, and what it said."""

    code: int
    output: str
    errors: str

    @property
    def lines(self) -> list[Line]:
        """The output of --json."""
        return [json.loads(line) for line in self.output.splitlines()]

    def told(self, kind: str) -> list[Line]:
        return [line for line in self.lines if line["type"] == kind]

    @property
    def decisions(self) -> list[Line]:
        """Each with its `outcome`, in the order they were made."""
        return self.lines[-1]["decisions"]  # type: ignore[no-any-return]  # JSON


class Place:
    """Directories of its own for all that a demonstration could write."""

    def __init__(self, path: Path, temporary: str = "t") -> None:
        self.path = path
        self.temporary = path / temporary
        for directory in (path / "home", path / "cwd", self.temporary):
            directory.mkdir(parents=True)

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        ours = {
            "HOME": str(self.path / "home"),
            "TMPDIR": str(self.temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**parts.clean_environment(), **ours, **given}

    def start(self, *arguments: str, **environment: str) -> Running:
        return Running(
            subprocess.Popen(
                [*DEMO, *arguments],
                cwd=self.path / "cwd",
                env=self.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pipesize=PIPE_BYTES,
                text=True,
            ),
        )

    def run(self, *arguments: str, **environment: str) -> Ended:
        return self.start(*arguments, **environment).end()

    def processes(self) -> dict[int, str]:
        """All that were started here and still run: id and name."""
        return {
            int(directory.name): (directory / "comm").read_text().strip()
            for directory in Path("/proc").glob("[0-9]*")
            if self._is_of_here(directory)
        }

    def _is_of_here(self, process: Path) -> bool:
        """By its environment; or, as the server overwrites that, by its title or directory."""
        ours = str(self.temporary)
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            title = (process / "cmdline").read_bytes()
            directory = str((process / "cwd").readlink())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False  # ended meanwhile, or somebody else's
        return f"TMPDIR={ours}".encode() in variables or (
            b"unixsocket:" in title and (ours.encode() in title or ours in directory)
        )

    def left(self) -> list[str]:
        """Whatever is still there: files, directories, processes."""
        mine = {self.temporary, *self.temporary.parents}
        found = [str(path) for path in self.path.rglob("*") if path not in mine]
        usual = {str(self.path / "home"), str(self.path / "cwd")}
        return sorted({*found} - usual) + [f"{p} {name}" for p, name in self.processes().items()]


@contextmanager
def place() -> Iterator[Place]:
    """One with a path so short that a socket fits below it, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        found = Place(Path(directory))
        try:
            yield found
        finally:
            for process in found.processes():  # only where a test has failed
                os.kill(process, signal.SIGKILL)


class Running:
    """A demonstration that has been started; its output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._output, self._errors = process.stdout, process.stderr
        self._read: list[str] = []

    def read_until(self, word: str) -> list[str]:
        """The lines up to the first that holds this word. Fails where there is none."""
        for line in self._output:
            self._read.append(line)
            if word in line:
                return self._read
        raise AssertionError(f"never said: {word}; but: {self.end()}")

    def stop_reading(self) -> Ended:
        """Close the pipe, as `head` does."""
        self._output.close()
        return self.end()

    def store(self) -> int:
        """The process id of its embedded store."""
        parent = re.compile(rf"^PPid:\s*{self.process.pid}$", re.MULTILINE)
        (found,) = (
            int(status.parent.name)
            for status in Path("/proc").glob("[0-9]*/status")
            if parent.search(status.read_text())
        )
        return found

    def await_unread(self, count: int) -> None:
        """Until so many bytes wait for somebody to read them."""
        waiting = array.array("i", [0])
        while waiting[0] < count:
            assert self.process.poll() is None
            time.sleep(0.01)
            fcntl.ioctl(self._output, termios.FIONREAD, waiting)

    def end(self) -> Ended:
        """Read on to its end."""
        rest = "" if self._output.closed else self._output.read()
        errors = self._errors.read()
        self._output.close()
        self._errors.close()
        return Ended(self.process.wait(LIMIT_S), "".join(self._read) + rest, errors)


class Terminal:
    """A demonstration on a terminal of its own, as the foreground of its session."""

    def __init__(
        self, place: Place, columns: int, *arguments: str, term: str = "xterm", **environment: str
    ) -> None:
        self._master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.before = termios.tcgetattr(self._master)
        given = place.environment({"TERM": term, **environment})
        for name in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM"} - {*environment}:
            given.pop(name, None)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *DEMO, *arguments],
            cwd=place.path / "cwd",
            env=given,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._bytes = b""

    @property
    def written(self) -> str:
        return self._bytes.decode()

    def read_until(self, word: str) -> None:
        """Fails where it never says so."""
        while word.encode() not in self._bytes:
            assert self._read(), f"never said: {word}; but: {self.written}"

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def hang_up(self) -> int:
        """The terminal is gone; the exit code."""
        os.close(self._master)
        return self.process.wait(LIMIT_S)

    def end(self) -> int:
        """Read on to its end; the exit code."""
        while self._read():
            pass
        code = self.process.wait(LIMIT_S)
        self.after = termios.tcgetattr(self._master)
        os.close(self._master)
        return code

    def _read(self) -> bool:
        try:
            self._bytes += os.read(self._master, 65536)
        except OSError:  # nobody has it open any more
            return False
        return True


def interrupted_codes(number: signal.Signals) -> set[int]:
    """How a process says that this signal ended it: by its own code, or early and by its death."""
    return {128 + number, -number}
