"""A TCP proxy that loses replies, loses requests, or holds requests back, once each time."""

import contextlib
import select
import socket
import threading
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["lose reply", "lose request", "hold request"]


class Proxy:
    def __init__(self, upstream_url: str) -> None:
        self._upstream = urlsplit(upstream_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._fault: Fault | None = None
        self._word = b""
        self._spare = 0
        self.held = threading.Event()
        self.go = threading.Event()
        self.delivered = threading.Event()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def on(self, word: bytes, fault: Fault, *, spare: int = 0) -> None:
        """Do this to the next request that contains the word, after sparing some."""
        self._word, self._fault, self._spare = word, fault, spare

    def close(self) -> None:
        self._closed.set()
        self.go.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _connect(self) -> socket.socket:
        if self._upstream.scheme == "unix":
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._upstream.path)
            return server
        return socket.create_connection((self._upstream.hostname, self._upstream.port))

    def _serve(self, client: socket.socket) -> None:
        with client, self._connect() as server, contextlib.suppress(OSError):
            while not self._closed.is_set():
                ready, _, _ = select.select([client, server], [], [], 0.05)
                for source in ready:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if source is client and self._strikes(data, server):
                        return
                    (server if source is client else client).sendall(data)

    def _strikes(self, data: bytes, server: socket.socket) -> bool:
        """Do the fault if this is the request for it; True ends the connection."""
        if self._fault is None or self._word not in data:
            return False
        if self._spare > 0:
            self._spare -= 1
            return False
        fault, self._fault = self._fault, None
        if fault == "lose request":
            return True
        if fault == "hold request":
            self.held.set()
            self.go.wait()
        server.sendall(data)
        server.recv(1 << 20)
        self.delivered.set()
        return True
