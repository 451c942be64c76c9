"""`autoheal demo` as people start it: with pipes, and on terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parts
import places

LIMIT_S = 240.0
# The least that Linux has: soon full where nobody reads.
PIPE_BYTES = 4096
# A whole day fits into it.
ROOMY_BYTES = 1 << 18
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


class Place(places.Place):
    """One where demonstrations are started."""

    def start(self, *arguments: str, **environment: str) -> Running:
        return self._start(PIPE_BYTES, arguments, environment)

    def start_unread(self, *arguments: str, **environment: str) -> Running:
        """One that can go on to its end before somebody reads."""
        return self._start(ROOMY_BYTES, arguments, environment)

    def _start(
        self, pipe_bytes: int, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Running:
        return Running(
            self.popen(
                [*DEMO, *arguments],
                self.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pipesize=pipe_bytes,
            ),
        )

    def run(self, *arguments: str, **environment: str) -> Ended:
        return self.start(*arguments, **environment).end()


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
        pid = self.process.pid
        (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found)

    def await_stuck(self) -> None:
        """Until its output waits for somebody to read it."""

        def is_stuck() -> bool:
            assert self.process.poll() is None
            # "running", or the system call in which it waits and the file it is about.
            waits = Path(f"/proc/{self.process.pid}/syscall").read_text().split()
            return waits[1:2] == ["0x1"]

        parts.until(is_stuck, LIMIT_S, "nothing more can be written")

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
        self.process = place.popen(
            ["setsid", "--ctty", *DEMO, *arguments],
            given,
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
