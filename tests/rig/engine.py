"""Raw JSON over an engine's unix socket: what Docker itself says, without a client library."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any

from rig.commands import RigError

if TYPE_CHECKING:
    from pathlib import Path

REQUEST_TIMEOUT_SECONDS = 10.0


class EngineError(RigError):
    """The engine answered with an error status, or not at all (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status beside the text."""
        super().__init__(message)
        self.status = status


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        """Remember the socket's path; connecting is http.client's affair."""
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    path: Path,
    method: str,
    target: str,
    body: object = None,
    *,
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
) -> Any:  # noqa: ANN401 - the engine's JSON
    """Send one request and return the decoded reply, or None where it is empty."""
    connection = UnixConnection(path, timeout_seconds)
    payload = None if body is None else json.dumps(body)
    try:
        connection.request(method, target, payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        message = f"{method} {target}: {error!r}"
        raise EngineError(0, message) from error
    finally:
        connection.close()
    if response.status >= http.client.BAD_REQUEST:
        message = f"{method} {target}: {response.status} {text.strip()}"
        raise EngineError(response.status, message)
    if not text or not response.headers.get("Content-Type", "").startswith("application/json"):
        return text or None
    return json.loads(text)
