"""What this process says of itself by HTTP: /metrics, /healthz, /readyz.

/healthz means that every loop ticks, not that a socket answers. Requests are few and small, so each
has its own thread; there are bounds on their number, their size and their time, so that a client
that hangs takes neither memory nor the health check with it.
"""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.exposition import choose_encoder

from autoheal.adapters.clock import SystemClock
from autoheal.errors import UserError
from autoheal.settings import parse_listen
from autoheal.telemetry import Telemetry

log = logging.getLogger(__name__)

_CONNECTIONS_MAX = 16
_CONNECTION_AGE_S_MAX = 10.0
_READ_TIMEOUT_S = 5.0
_REQUEST_BYTES_MAX = 16_384
_POLL_S = 0.1
_TEXT = "text/plain; charset=utf-8"

Ready = Callable[[], Sequence[str]]


class Exposition:
    """The server on `listen` (host:port, port 0 for a free one), on a thread of its own.

    `ready` returns the reasons why this process is not ready yet: none means ready.
    """

    def __init__(self, listen: str, telemetry: Telemetry, ready: Ready) -> None:
        self._listen = listen
        self._telemetry = telemetry
        self._ready = ready
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve from now on. Raises UserError if the address is no address, or taken."""
        try:
            host, port = parse_listen(self._listen)
            self._server = _Server(host, port, self._telemetry, self._ready)
        except ValueError as error:
            raise UserError(f"cannot listen: {error}") from error
        except OSError as error:
            raise UserError(f"cannot listen on {self._listen}: {error.strerror}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="exposition", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Free the port and end all threads. May be called twice."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        self._server = self._thread = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port as they are. Only while it runs."""
        if self._server is None:
            raise RuntimeError("the exposition has not been started")
        host, port = self._server.server_address[:2]
        return str(host), int(port)


class _Server(ThreadingHTTPServer):
    """Bounds the number and the age of connections; closing it waits for their threads."""

    request_queue_size = _CONNECTIONS_MAX
    allow_reuse_port = False  # a second process must hear that the port is taken
    daemon_threads = False  # closing joins only these; `hang_up` sees to it that they end

    def __init__(self, host: str, port: int, telemetry: Telemetry, ready: Ready) -> None:
        self.telemetry = telemetry
        self.ready = ready
        self._clock = SystemClock()
        self._opened: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without the reverse look-up of our own name that the base class does."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # as inherited
        """Give the connection a thread, or close it when there are too many."""
        with self._lock:
            admitted = len(self._opened) < _CONNECTIONS_MAX
            if admitted:
                self._opened[request] = self._clock.monotonic()
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  # as inherited
        """The connection has ended."""
        with self._lock:
            self._opened.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called by the serving thread several times a second: end what takes too long."""
        self._hang_up_opened_before(self._clock.monotonic() - _CONNECTION_AGE_S_MAX)

    def hang_up(self) -> None:
        """End all connections."""
        self._hang_up_opened_before(float("inf"))

    def _hang_up_opened_before(self, limit: float) -> None:
        # Under the lock a connection that is listed is still open: its thread unlists it first.
        with self._lock:
            for connection, opened in self._opened.items():
                if opened < limit:
                    _shut_down(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002  # as inherited
        """Say on one line what a connection died of, without the base class's traceback."""
        error = sys.exception()
        if isinstance(error, ConnectionError | TimeoutError):
            log.debug("a client went away", exc_info=error)
        else:
            log.error("a request failed", exc_info=error)


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        log.debug("the client had gone already: %s", error)


class _BoundedReader(io.BufferedReader):
    """Ends after so many bytes, as if the client had sent no more."""

    left = _REQUEST_BYTES_MAX

    def readline(self, size: int | None = -1, /) -> bytes:
        bounded = self.left if size is None or size < 0 else min(size, self.left)
        line = super().readline(bounded)
        self.left -= len(line)
        return line


class _Handler(BaseHTTPRequestHandler):
    """One request, then the connection is closed (HTTP/1.0)."""

    server: _Server
    timeout = _READ_TIMEOUT_S
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _TEXT

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = _BoundedReader(self.connection.makefile("rb", buffering=0))
        self.rfile = self._reader

    def parse_request(self) -> bool:
        """Whether the request is one to be answered by `do_GET`; if not, it has been answered."""
        if not super().parse_request():
            return False
        if self._reader.left <= 0:
            self.request_version = self.protocol_version  # the one read may have been cut off
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        if self.command not in ("GET", "HEAD"):
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n", allow="GET, HEAD")
            return False
        return True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/healthz":
            self._verdict(self._stale_loops())
        elif path == "/readyz":
            self._verdict(self.server.ready())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "try /metrics, /healthz or /readyz\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _metrics(self) -> None:
        try:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        except TypeError:  # a version that is no number
            encode, content_type = generate_latest, CONTENT_TYPE_LATEST
        self._answer(HTTPStatus.OK, encode(self.server.telemetry.registry), content_type)

    def _stale_loops(self) -> list[str]:
        telemetry = self.server.telemetry
        return [
            f"{loop}: last tick {age:.0f}s ago, limit {telemetry.limit(loop):g}s"
            for loop, age in sorted(telemetry.stale().items())
        ]

    def _verdict(self, reasons: Sequence[str]) -> None:
        if reasons:
            text = "".join(f"{reason}\n" for reason in reasons)
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, text)
        else:
            self._answer(HTTPStatus.OK, "ok\n")

    def _answer(
        self, status: HTTPStatus, body: str | bytes, content_type: str = _TEXT, allow: str = ""
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if allow:
            self.send_header("Allow", allow)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        """The Server header: no versions."""
        return "autoheal"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as inherited
        """Requests are of interest only when debugging."""
        log.debug(format, *args)
