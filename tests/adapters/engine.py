"""A scripted Docker engine: HTTP on a unix socket, so that the real client is what is tested."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

VERSION = {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}


@dataclass
class Seen:
    """One request as the engine got it."""

    method: str
    path: str
    parameters: dict[str, str]
    body: bytes


@dataclass
class Engine:
    """Answers by path (without version); what is not scripted is 404."""

    socket: Path
    routes: dict[str, Callable[[Seen, Handler], None]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    _server: Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def paths(self) -> list[str]:
        return [seen.path for seen in self.seen]

    def says(self, path: str, value: object, status: int = 200) -> None:
        self.routes[path] = lambda _, handler: handler.json(value, status)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self._server = Server(str(self.socket), self)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """As a process that ends: nobody listens, and open connections are cut."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, engine: Engine) -> None:
        self.engine = engine
        self.connections: list[socket.socket] = []
        super().__init__(path, Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def cut(self) -> None:
        for connection in self.connections:
            with suppress(OSError):  # ended already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is part of the script."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Quiet."""

    def address_string(self) -> str:
        return "unix"

    def json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.raw(body, status)

    def raw(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_stream(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Hang up in the middle."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self) -> None:
        assert isinstance(self.server, Server)
        engine = self.server.engine
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        seen = Seen(self.command, parts.path, dict(parse_qsl(parts.query)), self.rfile.read(length))
        engine.seen.append(seen)
        unversioned = parts.path
        if unversioned.startswith("/v1."):
            unversioned = "/" + unversioned.split("/", 2)[2]
        route = engine.routes.get(unversioned)
        if route is None:
            self.json({"message": f"no such thing: {unversioned}"}, 404)
        else:
            route(seen, self)
