"""A proxy between a client and dockerd's unix socket that can lose a request, or a reply.

The two differ in what the client cannot see: a dropped request was never applied, a cut reply was.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

READ_BYTES_MAX = 65536
NO_BODY_STATUSES = frozenset({204, 304})
SWITCHING_PROTOCOLS = 101


class Request(NamedTuple):
    """What a client asked for."""

    method: str
    path: str


if TYPE_CHECKING:
    Match = Callable[[str, str], bool]


class Head(NamedTuple):
    """The first lines of a message: as they came, and what they say about the body."""

    raw: bytes
    first_line: str
    headers: dict[str, str]


class DockerProxy:
    """Listens on one unix socket and passes on to another; one thread for each connection."""

    def __init__(self, listen_path: Path | str, upstream_path: Path | str) -> None:
        """Say where to listen and where dockerd listens."""
        self.listen_path = Path(listen_path)
        self.upstream_path = Path(upstream_path)
        self.url = f"unix://{self.listen_path}"
        self.requests: list[Request] = []
        self.dropped: list[Request] = []
        self.cut: list[Request] = []
        self._lock = threading.Lock()
        self._drops: list[Match] = []
        self._cuts: list[Match] = []
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Listen."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        self.stop()

    def drop_next_request(self, match: Match) -> None:
        """Swallow the next request that matches, and close the client's connection."""
        with self._lock:
            self._drops.append(match)

    def cut_next_reply(self, match: Match) -> None:
        """Pass the next request that matches on, and keep the whole reply from the client."""
        with self._lock:
            self._cuts.append(match)

    def start(self) -> None:
        """Listen."""
        self.listen_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.listen_path))
        self._listener.listen()
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Close all connections and end all threads."""
        listener, self._listener = self._listener, None
        if listener is not None:
            _close(listener)
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            _shut(connection)
        for thread in self._threads:
            thread.join(timeout=5)
        self.listen_path.unlink(missing_ok=True)

    def _spawn(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # The listener is closed by stop().
            while True:
                client, _ = listener.accept()
                self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        upstream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._lock:
            self._sockets |= {client, upstream}
        try:
            # A connection that either side breaks off ends here; the client sees the same.
            with contextlib.suppress(OSError, EOFError):
                upstream.connect(str(self.upstream_path))
                with client.makefile("rb") as asked, upstream.makefile("rb") as answered:
                    while self._exchange(client, upstream, asked, answered):
                        pass
        finally:
            with self._lock:
                self._sockets -= {client, upstream}
            _close(client)
            _close(upstream)

    def _exchange(
        self, client: socket.socket, upstream: socket.socket, asked: BinaryIO, answered: BinaryIO
    ) -> bool:
        """Serve one request; False ends the connection."""
        head = read_head(asked)
        method, path, _ = head.first_line.split(" ", 2)
        request = Request(method, path)
        body = b"".join(read_body(asked, head, until_closed=False))
        drop, cut = self._record(request)
        if drop:
            return False
        upstream.sendall(head.raw + body)
        send = _nowhere if cut else client.sendall
        return _relay_reply(request, answered, send) and not cut

    def _record(self, request: Request) -> tuple[bool, bool]:
        with self._lock:
            self.requests.append(request)
            drop = _take(self._drops, request)
            cut = not drop and _take(self._cuts, request)
            (self.dropped if drop else self.cut if cut else []).append(request)
        return drop, cut


def _relay_reply(request: Request, answered: BinaryIO, send: Callable[[bytes], object]) -> bool:
    """Pass one reply on as it comes; return whether another may follow on this connection."""
    head = read_head(answered)
    send(head.raw)
    status = int(head.first_line.split(" ", 2)[1])
    if status == SWITCHING_PROTOCOLS:
        message = "the proxy does not speak upgraded protocols"
        raise EOFError(message)
    if request.method == "HEAD" or status in NO_BODY_STATUSES:
        return True
    for part in read_body(answered, head, until_closed=True):
        send(part)
    delimited = {"content-length", "transfer-encoding"} & head.headers.keys()
    return bool(delimited) and head.headers.get("connection", "").lower() != "close"


def read_head(stream: BinaryIO) -> Head:
    """Read up to the empty line; raise EOFError when the peer has closed."""
    lines = []
    while (line := _line(stream)) != b"\r\n":
        lines.append(line)
    headers = {}
    for line in lines[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Head(b"".join(lines) + b"\r\n", lines[0].decode("latin-1").strip(), headers)


def read_body(stream: BinaryIO, head: Head, *, until_closed: bool) -> Iterator[bytes]:
    """Yield a body in its wire form, as its parts come.

    One without a length is empty, or with `until_closed` ends with the connection.
    """
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        yield from _chunks(stream)
    elif "content-length" in head.headers:
        yield _exactly(stream, int(head.headers["content-length"]))
    elif until_closed:
        while part := stream.read1(READ_BYTES_MAX):  # type: ignore[attr-defined]  # numpy's and io's own
            yield part


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while True:
        size_line = _line(stream)
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            break
        yield size_line + _exactly(stream, size + 2)
    trailer = size_line
    while (line := _line(stream)) != b"\r\n":
        trailer += line
    yield trailer + line


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(READ_BYTES_MAX)
    if not line.endswith(b"\n"):
        raise EOFError
    return line


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _take(matches: list[Match], request: Request) -> bool:
    """Remove the first match that fits, and say whether there was one."""
    for match in matches:
        if match(request.method, request.path):
            matches.remove(match)
            return True
    return False


def _nowhere(_data: bytes) -> None:
    """Send nothing."""


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _close(connection: socket.socket) -> None:
    _shut(connection)
    connection.close()
