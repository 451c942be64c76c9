"""Real servers for the tests: Redis and Valkey over TCP, and the embedded one."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
import redis

from context_store import EmbeddedServer
from context_store.embedded import find_binary

KINDS = ("redis", "valkey", "embedded")
TCP_KINDS = ("redis", "valkey")


class Server(Protocol):
    url: str

    def kill(self) -> None: ...

    def restart(self) -> None: ...

    def stop(self) -> None: ...

    @property
    def pid(self) -> int: ...


def binary(kind: str) -> str:
    """Return the server's path; a missing one skips, or fails where all stores are required."""
    if kind == "redis":
        found = shutil.which("redis-server")
    else:
        with contextlib.suppress(ValueError):
            path = find_binary()
            found = str(path) if "valkey" in path.name else None
    if found is None:
        missing = f"no {kind} server on this machine"
        if os.environ.get("AUTOHEAL_REQUIRE_STORES") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class TcpServer:
    def __init__(self, kind: str, directory: Path, *settings: str) -> None:
        self._binary = binary(kind)
        self._directory = directory
        self._settings = settings
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process = self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self._process = self._start()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)  # a test may have frozen it
        self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL",  # not to outlive a killed test run
                    self._binary, *self._settings, "--port", str(self.port),
                    "--bind", "127.0.0.1", "--dir", str(self._directory),
                    "--daemonize", "no",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        until(lambda: answers(self.port), process)
        return process


class Embedded:
    """The embedded server with the same handles, on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = EmbeddedServer(directory, appendfsync="always")
        self.url = self._server.start()

    @property
    def pid(self) -> int:
        return self._server.pid

    def kill(self) -> None:
        os.kill(self.pid, 9)
        self._server.stop()

    def restart(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.kill()
        assert self._server.start() == self.url

    def stop(self) -> None:
        self._server.stop()


DURABLE = (
    "--appendonly", "yes", "--appendfsync", "always", "--save", "",
    "--maxmemory-policy", "noeviction",
)  # fmt: skip


def start(kind: str, directory: Path) -> Server:
    if kind == "embedded":
        binary("valkey")
        return Embedded(directory)
    return TcpServer(kind, directory, *DURABLE)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(("127.0.0.1", port))
            probe.sendall(b"PING\r\n")
            return probe.recv(64)[:5] in {b"+PONG", b"-NOAU", b"-NOPE"}
        except OSError:
            return False


class _Condition(Protocol):
    def __call__(self) -> bool: ...


def until(
    condition: _Condition, process: subprocess.Popen[bytes] | None = None, limit_s: float = 20.0
) -> None:
    """Wait for a condition; the limit is only there to end a test that would hang."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        assert process is None or process.poll() is None, "the process ended"
        time.sleep(0.005)


@contextlib.contextmanager
def raw(url: str) -> Iterator["redis.Redis"]:
    """Give a plain client, to see and to do what the library does not."""
    client: redis.Redis = redis.Redis.from_url(url, protocol=2)
    try:
        yield client
    finally:
        client.close()
