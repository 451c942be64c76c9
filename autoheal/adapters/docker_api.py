"""The Docker API as two transports: one that can only read, one that can also update a service.

What a transport may send is a list of method and path, held below the session: whichever of the
session's routes a request takes, one that is not on the list raises before a byte is sent. Dry run
is therefore a wiring (it is handed a `ReadOnlyDocker`), not a decision that someone must remember.

Reads and writes use the newest API version of the server itself: it zeroes the fields of a service
update that are newer than the version in the path, so an older one would lose parts of a spec.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import docker
import docker.errors
import requests
import requests.adapters
import urllib3.connection
import urllib3.exceptions
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnectionPool

from autoheal.errors import AutohealError, RemoteRefused, RemoteUnreachable, UserError

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection  # a name for the type checker only

    from autoheal.ports import JsonObject, SwarmReader

CONNECTIONS_MAX = 32
DETAIL_CHARACTERS = 500

_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_QUERY = r"(\?.*)?"
_READABLE = re.compile(
    r"/version|/v[0-9]+\.[0-9]+/("
    r"version|info|_ping|events|services|tasks|nodes|containers/json"
    rf"|(services|tasks|nodes)/{_ID}"
    rf"|containers/{_ID}/(json|stats)"
    rf"){_QUERY}"
)
_UPDATE = re.compile(rf"/v[0-9]+\.[0-9]+/services/{_ID}/update\?version=[0-9]+")
_API_VERSION = re.compile(r"[0-9]+\.[0-9]+")
_UNIX_BASE = "http+docker://localhost"
_SCHEMES = ("unix://", "tcp://", "http://", "https://")

_READS = {"GET": _READABLE, "HEAD": _READABLE}
_READS_AND_UPDATE = {**_READS, "POST": _UPDATE}

_NO_ANSWER = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.JSONDecodeError,
    urllib3.exceptions.HTTPError,
)


class ForbiddenRequestError(AutohealError):
    """Our own mistake: a request that this transport exists to make impossible."""


class _Guard(requests.adapters.BaseAdapter):
    """The only way out of the session: passes a request on if its method and path are listed."""

    def __init__(
        self, inner: requests.adapters.HTTPAdapter, allowed: Mapping[str, re.Pattern[str]]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._allowed = allowed

    def send(  # the signature is requests'
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT002  # likewise
        timeout: Any = None,  # noqa: ANN401  # likewise
        verify: bool | str = True,  # noqa: FBT002  # likewise
        cert: Any = None,  # noqa: ANN401  # likewise
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        pattern = self._allowed.get(request.method or "")
        if pattern is None or not pattern.fullmatch(request.path_url):
            raise ForbiddenRequestError(
                f"{request.method} {request.path_url} is not among the requests allowed here"
            )
        return self._inner.send(request, stream, timeout, verify, cert, proxies)

    def close(self) -> None:
        self._inner.close()


class _UnixConnection(urllib3.connection.HTTPConnection):
    """Unlike the SDK's, leaves no socket open when nobody listens: urllib3 closes `sock`."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixPool(UnixHTTPConnectionPool):
    def _new_conn(self) -> BaseHTTPConnection:
        return _UnixConnection(self.socket_path)


class _UnixAdapter(UnixHTTPAdapter):
    """The SDK's, with one pool of connections instead of one per full URL."""

    def __init__(self, socket_path: str) -> None:
        super().__init__(socket_path)
        self._pool = _UnixPool(_UNIX_BASE, self.socket_path, maxsize=CONNECTIONS_MAX)

    def get_connection(
        self,
        url: bytes | str,  # noqa: ARG002  # the socket is the same for all
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002  # nothing is between
    ) -> UnixHTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class ReadOnlyDocker:
    """GET on one Docker engine. Threads may share it; constructing it connects to nothing.

    `url` is unix://..., tcp://... or http(s)://...; `timeout_s` bounds connecting and every silence
    within an answer. Raises UserError for a URL that cannot be meant.
    """

    _allowed: Mapping[str, re.Pattern[str]] = _READS

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._version: str | None = None
        self._session, self._base = _session(url, self._allowed)

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        """The decoded answer to GET `path`. Raises RemoteUnreachable, RemoteRefused."""
        with self._speaking(self._timeout_s):
            return self._send("GET", self._versioned(path), parameters).json()

    def lines(self, path: str, *, silence_s: float, **parameters: str) -> Iterator[bytes]:
        """The lines of an answer that goes on, as they come.

        A silence of more than `silence_s` is an engine that hangs. Raises RemoteUnreachable,
        RemoteRefused.
        """
        with self._speaking(self._timeout_s):
            path = self._versioned(path)
        with self._speaking(silence_s):
            response = self._send("GET", path, parameters, stream=True, silence_s=silence_s)
            with closing(response):
                yield from response.iter_lines()

    def close(self) -> None:
        """Close idle connections; a later request opens new ones."""
        self._session.close()

    def _versioned(self, path: str) -> str:
        """The path under the server's newest version, asked for once per connection's life."""
        if self._version is None:
            answer = self._send("GET", "/version", {}).json()
            version = answer.get("ApiVersion") if isinstance(answer, dict) else None
            if not isinstance(version, str) or not _API_VERSION.fullmatch(version):
                raise RemoteUnreachable(f"what answers at {self.url} is not a Docker engine")
            self._version = version
        return f"/v{self._version}{path}"

    def _send(  # one place that knows how a request of ours looks
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        body: JsonObject | None = None,
        stream: bool = False,
        silence_s: float | None = None,
    ) -> requests.Response:
        response = self._session.request(
            method,
            self._base + path,
            params=parameters,
            json=body,
            stream=stream,
            timeout=(self._timeout_s, silence_s or self._timeout_s),
            allow_redirects=False,
        )
        if response.status_code >= requests.codes.multiple_choices:
            with closing(response):
                raise RemoteRefused(response.status_code, _detail(response))
        return response

    @contextmanager
    def _speaking(self, silence_s: float) -> Iterator[None]:
        """Says in our words what went wrong; the next request asks for the version again."""
        try:
            yield
        except _NO_ANSWER as error:
            self._version = None
            raise RemoteUnreachable(
                f"Docker at {self.url} gave no answer: {_reason(error, silence_s)}"
            ) from error
        except RemoteRefused:
            self._version = None  # an engine that was replaced may refuse the old version
            raise


class WritableDocker(ReadOnlyDocker):
    """A reader that can also do the one mutation: update a service, bound to its version."""

    _allowed = _READS_AND_UPDATE

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        """POST the whole spec, as a compare-and-swap on `version`.

        Raises RemoteRefused (which does not always mean 'not applied'), and RemoteUnreachable:
        whether it was applied is unknown.
        """
        with self._speaking(self._timeout_s):
            path = self._versioned(f"/services/{service}/update")
            self._send("POST", path, {"version": str(version)}, body=spec).close()


@dataclass(frozen=True, slots=True)
class SwarmRole:
    """What an engine is in its Swarm; `node` is "" outside of one."""

    node: str
    active: bool
    manager: bool
    leader: bool


def swarm_role(reader: SwarmReader) -> SwarmRole:
    """Ask the engine for its role. Raises RemoteUnreachable, RemoteRefused."""
    swarm = reader.get("/info").get("Swarm") or {}
    node = swarm.get("NodeID") or ""
    active = swarm.get("LocalNodeState") == "active"
    manager = active and bool(swarm.get("ControlAvailable"))
    leader = False
    if manager:
        status = reader.get(f"/nodes/{node}").get("ManagerStatus") or {}
        leader = bool(status.get("Leader"))
    return SwarmRole(node, active, manager, leader)


def _session(url: str, allowed: Mapping[str, re.Pattern[str]]) -> tuple[requests.Session, str]:
    """A session whose every route leads through the guard, and the base of its URLs."""
    if not url.startswith(_SCHEMES):
        raise UserError(f'"{url}" is not a Docker URL (try unix:///var/run/docker.sock)')
    try:  # a version given means that none is asked for now
        session = docker.APIClient(base_url=url, version=DEFAULT_DOCKER_API_VERSION)
    except docker.errors.DockerException as error:
        raise UserError(f'"{url}" is not a Docker URL: {error}') from error
    inner: requests.adapters.HTTPAdapter
    if url.startswith("unix://"):
        socket_path = url.removeprefix("unix://")
        inner = _UnixAdapter(socket_path)
    else:
        inner = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS_MAX)
    session.adapters.clear()
    session.mount("", _Guard(inner, allowed))  # every URL has this prefix: there is no other way
    session.trust_env = False  # no proxies and no .netrc between us and the engine
    return session, session.base_url


def _detail(response: requests.Response) -> str:
    """The message of an error's JSON body, or the body's beginning."""
    try:
        body = response.json()
    except requests.exceptions.JSONDecodeError:
        body = None
    message = body.get("message") if isinstance(body, dict) else None
    text = str(message) if message else response.text.strip() or str(response.reason)
    return text[:DETAIL_CHARACTERS]


def _reason(error: BaseException, silence_s: float) -> str:
    """The deepest cause in the system's own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError | requests.Timeout):
            return f"nothing within {silence_s:g} s"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "its answer was not JSON"
    return "the connection was cut"
