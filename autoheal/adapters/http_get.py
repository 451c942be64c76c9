"""One careful GET: a deadline for the whole answer and a limit to its size.

What `requests` bounds is each read on its own: a server that sends a byte now and then keeps it
waiting for ever. Nor is anything followed here: no redirect, no proxy of the environment.
"""

from __future__ import annotations

import base64
import io
import socket
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import unquote, urlsplit, urlunsplit

from autoheal.adapters.secret_file import read_secret
from autoheal.errors import RemoteError, RemoteRefused, RemoteUnreachable
from autoheal.ports import Clock
from autoheal.units import format_duration

ANSWER_BYTES_MAX = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status. `name` is the server's, for errors."""

    name: str
    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        """Whether it is what was asked for."""
        return self.status == HTTPStatus.OK

    def refusal(self, words: str = "") -> RemoteRefused:
        """Why it is not; `words` are the server's own. Without them, the status in words."""
        return RemoteRefused(self.status, f"{words or _phrase(self.status)}, says {self.name}")


class HttpGet:
    """A URL that is asked again and again, on a connection of its own each time.

    The user in the URL and the password in `password_file` are basic authentication, `token_file`
    holds a bearer token. Both files are read at each request, so a new secret counts at once. No
    secret reaches an error's text, nor does the URL's path and query, which may hold one.
    """

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        timeout_ms: int,
        password_file: str | None = None,
        token_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        self._user = parts.username
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._password_file = password_file
        self._token_file = token_file

    def get(self) -> Answer:
        """Ask once. Raises RemoteError."""
        headers = {"Accept": "application/json", **self._authorization()}
        deadline = self._clock.monotonic() + self._timeout_ms / 1000
        try:
            status, body = self._ask(headers, deadline)
        except TimeoutError:
            within = format_duration(self._timeout_ms)
            raise RemoteUnreachable(f"{self.name}: no answer within {within}") from None
        except (OSError, HTTPException) as error:
            raise RemoteUnreachable(f"{self.name}: {_cause(error)}") from None
        if len(body) > ANSWER_BYTES_MAX:
            raise RemoteError(f"{self.name}: the answer is longer than {ANSWER_BYTES_MAX} bytes")
        return Answer(self.name, status, body)

    def _ask(self, headers: dict[str, str], deadline: float) -> tuple[int, bytes]:
        connection = self._connection(self._host, self._port, timeout=self._timeout_ms / 1000)
        with closing(connection):
            connection.request("GET", self._target, headers=headers)
            with HTTPResponse(connection.sock, method="GET") as response:
                response.fp.close()
                response.fp = io.BufferedReader(_Until(connection.sock, self._clock, deadline))
                response.begin()
                return response.status, response.read(ANSWER_BYTES_MAX + 1)

    def _authorization(self) -> dict[str, str]:
        if self._token_file is not None:
            return {"Authorization": f"Bearer {read_secret(self._token_file)}"}
        if self._user is None:
            return {}
        password = "" if self._password_file is None else read_secret(self._password_file)
        pair = f"{unquote(self._user)}:{password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


class _Until(io.RawIOBase):
    """What a socket receives until a deadline; from then on, TimeoutError."""

    def __init__(self, connected: socket.socket, clock: Clock, deadline: float) -> None:
        super().__init__()
        self._socket = connected
        self._clock = clock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's own type is private
        remaining_s = self._deadline - self._clock.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining_s)
        return self._socket.recv_into(buffer)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no success"


def _cause(error: OSError | HTTPException) -> str:
    """Words for what went wrong; those of HTTPException would repeat what the server sent."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
