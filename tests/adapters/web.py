"""A small real HTTP server that answers as badly as it is told to."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Behaviour = Callable[["Request"], None]
DRIP_S = 0.02


class Request(BaseHTTPRequestHandler):
    """One request, and the means to answer it; `server` is what the test was given."""

    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, dict(self.headers.items())))
        # A client that has given up closes its end.
        with suppress(ConnectionError, ssl.SSLError):
            self.site.behaviour(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self, piece: bytes) -> None:
        """Send this again and again, for ever."""
        while not self.site.over.wait(DRIP_S):
            self.wfile.write(piece)

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Site:
    """The server: what it was asked, and how it behaves."""

    scheme: str
    port: int = 0
    behaviour: Behaviour = lambda request: request.answer(404)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def says(self, body: str, status: int = 200) -> None:
        self.behaviour = lambda request: request.answer(status, body.encode())


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Site]:
    """Serve, over TLS with a certificate and its key."""
    site = Site("http" if certificate is None else "https")
    handler = type("Handler", (Request,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.port = server.server_port
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.over.set()
            server.shutdown()
            thread.join()


def hangs(request: Request) -> None:
    request.site.over.wait()


def drips_headers(request: Request) -> None:
    request.wfile.write(b"HTTP/1.0 200 OK\r\n")
    request.drip(b"X-Long: more\r\n")


def drips_one_header(request: Request) -> None:
    request.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    request.drip(b"m")


def drips_body(request: Request) -> None:
    request.send_response(200)
    request.end_headers()
    request.drip(b" ")


def is_huge(request: Request) -> None:
    request.send_response(200)
    request.end_headers()
    while not request.site.over.is_set():
        request.wfile.write(b" " * 65_536)


def is_no_http(request: Request) -> None:
    request.wfile.write(b"+PONG secret1\r\n")


def redirects(request: Request) -> None:
    request.answer(302, Location="/elsewhere")
