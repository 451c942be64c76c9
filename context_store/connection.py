"""The connection: raw commands and raw replies, no automatic retry, one place for all errors.

The client library is used for its connection pool and its protocol parser only. Its command layer
is left out: it sends a command again when a reply is lost, which writes an entry twice, and it
reshapes replies by version. The protocol is RESP2 because there the pool notices an idle connection
that died (a store that was restarted) before anything is sent on it, and replaces it: so a
restart in between costs no write.

A connection on which anything at all went wrong is closed, never given back to the pool: no reply
can be taken for the answer to another question.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

from redis import exceptions as client
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.retry import Retry

from .entries import ServerFacts
from .errors import StoreRefused, StoreUnavailable, translate

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]
# A reply is a tree of these; an error inside of a list is the outcome of one queued command.
Reply: TypeAlias = "int | bytes | list[Reply] | client.RedisError | None"

CONNECTIONS_MAX = 64
WAIT_S_MAX = 10.0
# Each attempt that aborts means that somebody else's succeeded; more would be a livelock.
ATTEMPTS_MAX = 10
VERSION_MIN = (7, 0)

_URL_OPTIONS = frozenset(
    {"db", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile"}
)
_URL_HELP = (
    "the store's URL must look like redis://host:6379/0, rediss://user@host:6379 "
    "or unix:///path/store.sock, with special characters in the password percent-encoded"
)


class Aborted(Exception):  # noqa: N818  # control flow inside of this library, not an error
    """A watched key changed before EXEC: nothing was written."""


class _Wire(Protocol):
    """What is used of the client library's connection, with types."""

    def pack_commands(self, commands: Iterable[Command]) -> list[bytes]: ...

    def send_packed_command(self, command: list[bytes]) -> None: ...

    def read_response(self) -> Reply: ...

    def disconnect(self) -> None: ...


class Session:
    """One connection for the time of one operation."""

    def __init__(self, connection: _Wire) -> None:
        self._connection = connection
        self._watching = False

    def watch(self, keys: Sequence[str], reads: Sequence[Command]) -> list[Reply]:
        """Watch keys and read: the next transaction aborts if one of them changes from here on."""
        self._watching = True
        return self.batch([("WATCH", *keys), *reads])[1:]

    def unwatch(self) -> None:
        """Forget what is watched, so that the connection can serve another operation."""
        if self._watching:
            self.call("UNWATCH")
            self._watching = False

    def call(self, *command: Argument) -> Reply:
        """Send one command and return its reply; an error reply is raised."""
        return self.batch([command])[0]

    def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands in one go, not as a transaction, and return their replies."""
        self._send(commands)
        return [self._receive() for _ in commands]

    def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """Run commands in one MULTI and return their replies.

        Raises Aborted when a key watched on this session has changed.
        """
        self._send([("MULTI",), *commands, ("EXEC",)])
        refusals = [
            refusal
            for refusal in [self._acknowledged() for _ in range(len(commands) + 1)]
            if refusal is not None
        ]
        try:
            replies = self._receive()
        except client.ExecAbortError as abort:
            # The reason is with the command that was not queued.
            raise (refusals[0] if refusals else abort) from None
        self._watching = False
        if replies is None:
            raise Aborted
        outcomes = as_list(replies)
        for outcome in outcomes:
            if isinstance(outcome, client.RedisError):
                raise outcome
        return outcomes

    def _send(self, commands: Iterable[Command]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def _receive(self) -> Reply:
        return self._connection.read_response()

    def _acknowledged(self) -> client.ResponseError | None:
        try:
            self._receive()
        except client.ResponseError as refusal:
            return refusal
        return None


Outcome = TypeVar("Outcome")


class Connector:
    """Connections to one server."""

    def __init__(self, url: str, *, password: str | None, timeout_s: float) -> None:
        options = _options(url)
        if password is not None:
            options["password"] = password
        self.where = _where(options)
        self._pool = _pool(options, timeout_s=timeout_s, reply_s=timeout_s)
        # Waiting needs a reply timeout above the longest wait, so a pool of its own.
        self._waiting_pool = _pool(options, timeout_s=timeout_s, reply_s=timeout_s + WAIT_S_MAX)

    @contextmanager
    def session(self, *, waiting: bool = False) -> Iterator[Session]:
        """Lend a connection; all errors of the client library leave as this library's own."""
        pool = self._waiting_pool if waiting else self._pool
        try:
            connection = cast("_Wire", pool.get_connection())
            try:
                session = Session(connection)
                yield session
                session.unwatch()
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)  # type: ignore[arg-type]  # it is the pool's own
        except client.RedisError as error:
            raise translate(error, self.where) from error

    def call(self, *command: Argument) -> Reply:
        """Run one command on a connection of its own."""
        with self.session() as session:
            return session.call(*command)

    def batch(self, commands: Sequence[Command]) -> list[Reply]:
        """Run commands in one go, in order, not as a transaction: for reading.

        A full Redis refuses what is queued in a MULTI, even reads; these it still answers.
        """
        with self.session() as session:
            return session.batch(commands)

    def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """Run commands in one MULTI, all or nothing, on a connection of its own."""
        with self.session() as session:
            return session.transaction(commands)

    def close(self) -> None:
        """Close every connection."""
        self._pool.disconnect()
        self._waiting_pool.disconnect()

    def check(self) -> ServerFacts:
        """Return what the server is; raise StoreRefused if it cannot keep a memory."""
        facts = server_facts(as_bytes(self.call("INFO")))
        refuse_unfit(facts, self.where)
        return facts


def settled(connector: Connector, attempt: Callable[[Session], Outcome]) -> Outcome:
    """Repeat an attempt until no watched key changes under it.

    Only what certainly wrote nothing is repeated: a lost reply leaves as StoreUnavailable.
    """
    for _ in range(ATTEMPTS_MAX):
        try:
            with connector.session() as session:
                return attempt(session)
        except Aborted:
            continue
    raise StoreUnavailable(
        f"the store at {connector.where} is too busy: {ATTEMPTS_MAX} attempts were overtaken"
    )


def server_facts(info: bytes) -> ServerFacts:
    """Return the facts in an INFO reply; what it does not tell is left empty."""
    told = parse_info(info)
    valkey = told.get("valkey_version")
    return ServerFacts(
        name="redis" if valkey is None else "valkey",
        version=valkey or told.get("redis_version", ""),
        policy=told.get("maxmemory_policy", ""),
        append_only=told.get("aof_enabled") == "1",
        run_id=told.get("run_id", ""),
    )


def parse_info(info: bytes) -> dict[str, str]:
    """Return the `name:value` lines of an INFO reply."""
    lines = info.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def refuse_unfit(facts: ServerFacts, where: str) -> None:
    """Raise StoreRefused for a server that is too old or that may drop data on its own."""
    if _version(facts.version) < VERSION_MIN:
        raise StoreRefused(
            f"{where} is {facts.name} {facts.version or 'of unknown version'}; "
            "7.0 or later is needed"
        )
    if facts.policy != "noeviction":
        raise StoreRefused(
            f"{where} may evict data (maxmemory-policy {facts.policy or 'unknown'}); "
            "set maxmemory-policy noeviction in its configuration"
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split(".")[:2])


def _options(url: str) -> dict[str, object]:
    parse: Callable[[str], dict[str, object]] = parse_url
    # Nothing of a URL that cannot be read is repeated: its parts may be the password's.
    try:
        unknown = sorted(set(parse_qs(urlsplit(url).query)) - _URL_OPTIONS)
        options = parse(url)
    except ValueError:
        raise StoreRefused(_URL_HELP) from None
    if unknown:
        raise StoreRefused(
            f"the store's URL has options that are not known ({len(unknown)} of them); "
            f"use only {', '.join(sorted(_URL_OPTIONS))}"
        )
    if "unix" in str(options.get("connection_class")).lower() and not options.get("path"):
        raise StoreRefused(_URL_HELP)
    return options


def _where(options: Mapping[str, object]) -> str:
    path = options.get("path")
    if path:
        return f"unix://{path}"
    scheme = "rediss" if "SSL" in str(options.get("connection_class")) else "redis"
    return f"{scheme}://{options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _pool(options: Mapping[str, object], *, timeout_s: float, reply_s: float) -> ConnectionPool:
    settings: dict[str, object] = {
        **options,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": reply_s,
        "max_connections": CONNECTIONS_MAX,
    }
    make: Callable[..., ConnectionPool] = ConnectionPool
    return make(**settings)


def as_int(reply: Reply) -> int:
    """Return a reply that has to be an integer, also when it came as text."""
    if isinstance(reply, bytes | int):
        try:
            return int(reply)
        except ValueError:
            pass
    raise _unexpected(reply)


def as_bytes(reply: Reply) -> bytes:
    """Return a reply that has to be a string."""
    if isinstance(reply, bytes):
        return reply
    raise _unexpected(reply)


def as_text(reply: Reply) -> str:
    """Return a reply that has to be a string, decoded."""
    return as_bytes(reply).decode("utf-8", "replace")


def as_list(reply: Reply) -> list[Reply]:
    """Return a reply that has to be a list."""
    if isinstance(reply, list):
        return reply
    raise _unexpected(reply)


def as_ms(reply: Reply) -> int:
    """Return the reply of TIME in milliseconds."""
    seconds, microseconds = as_list(reply)
    return as_int(seconds) * 1000 + as_int(microseconds) // 1000


def _unexpected(reply: Reply) -> StoreUnavailable:
    return StoreUnavailable(f"the store's reply has an unexpected shape: {type(reply).__name__}")
