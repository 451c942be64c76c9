"""The store: append, commit, wait, trim. Each operation is safe to call again after a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .connection import (
    WAIT_S_MAX,
    Command,
    Connector,
    Reply,
    Session,
    as_bytes,
    as_int,
    as_list,
    as_ms,
    as_text,
    settled,
)
from .entries import (
    AGE_FIELD,
    BOOT_FIELD,
    SEQUENCE_FIELD,
    Append,
    Lease,
    Reach,
    Retention,
    ServerFacts,
    parse_id,
)
from .errors import StoreRefused
from .lease import Leases, milliseconds
from .reader import Reader

# The size of a stream is estimated from this many of its nodes: exact enough for a cap, and the
# server stands still for microseconds only.
USAGE_SAMPLES = 100
TRIM_ROUNDS_MAX = 10


class Store:
    """One server, below one prefix. Safe for several threads."""

    def __init__(
        self, connector: Connector, *, prefix: str, monotonic: Callable[[], float]
    ) -> None:
        self._connector = connector
        self._prefix = prefix
        self._leases = Leases(connector, prefix=prefix, monotonic=monotonic)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        monotonic: Callable[[], float],
        prefix: str = "ah:",
        password: str | None = None,
        timeout_s: float = 5.0,
    ) -> Store:
        """Connect to redis://, rediss:// or unix:// and check that the server is fit.

        `password` goes before one in the URL; `timeout_s` is the longest time for one reply.
        Raises StoreRefused or StoreUnavailable.
        """
        store = cls(
            Connector(url, password=password, timeout_s=timeout_s),
            prefix=prefix,
            monotonic=monotonic,
        )
        try:
            store.check()
        except BaseException:
            store.close()
            raise
        return store

    def check(self) -> ServerFacts:
        """Return what the server says of itself; StoreRefused if it is too old or may evict."""
        return self._connector.check()

    def now_ms(self) -> int:
        """Return the store's clock: milliseconds since 1970."""
        return as_ms(self._connector.call("TIME"))

    def append(self, append: Append) -> str:
        """Write one entry and return its id."""
        return as_text(self._connector.call(*self._xadd(append)))

    def append_all(self, appends: Sequence[Append]) -> tuple[str, ...]:
        """Write entries in one transaction, all or nothing, and return their ids."""
        if not appends:
            return ()
        ids = self._connector.transaction([self._xadd(append) for append in appends])
        return tuple(as_text(entry_id) for entry_id in ids)

    def append_under(self, lease: Lease, appends: Sequence[Append]) -> bool:
        """Append, all or nothing, unless a newer lease was given: then False, and nothing.

        The epoch is watched, so that a holder who stood still past his lease's end adds nothing to
        what his successor has written. After StoreUnavailable call again with the same arguments.
        """
        epoch_key = self._leases.epoch_key(lease.name)

        def attempt(session: Session) -> bool:
            (epoch,) = session.watch((epoch_key,), [("GET", epoch_key)])
            if epoch is None or as_int(epoch) != lease.epoch:
                return False
            session.transaction([self._xadd(append) for append in appends])
            return True

        return settled(self._connector, attempt)

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """Return a reader of these streams that starts at `since_ms`, inclusive."""
        return Reader(self._connector, prefix=self._prefix, streams=streams, since_ms=since_ms)

    def wait(self, streams: Mapping[str, str], timeout_s: float) -> bool:
        """Return True as soon as a stream has an entry after the given id, False at the timeout.

        The id "$" stands for the end as it is when the store is asked. A single call waits 10 s at
        most. Entries that a cut left for later count: do not spin on True while `now` stands still.
        """
        if not streams:
            raise ValueError("waiting needs a stream to wait for")
        block_ms = milliseconds(min(max(timeout_s, 0.0), WAIT_S_MAX))
        keys = [self._key(name) for name in streams]
        read: Command = (
            "XREAD",
            "COUNT",
            1,
            "BLOCK",
            block_ms,
            "STREAMS",
            *keys,
            *streams.values(),
        )
        with self._connector.session(waiting=True) as session:
            return session.call(*read) is not None

    def state(self) -> dict[str, bytes]:
        """Return the whole state."""
        flat = as_list(self._connector.call("HGETALL", self._state_key))
        return {as_text(flat[i]): as_bytes(flat[i + 1]) for i in range(0, len(flat), 2)}

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        appends: Sequence[Append],
    ) -> bool:
        """Change the state and append, all or nothing, if no newer lease was given.

        None as a value deletes the field. `marker` names the field of `state` whose value no other
        commit ever has: if the store already holds it, this commit has happened and the answer is
        True. So after StoreUnavailable, when the outcome is unknown, call again with the same
        arguments. False: a newer epoch exists, and this call wrote nothing.

        Raises StoreFull (nothing was written), StoreUnavailable, StoreRefused.
        """
        mark = state.get(marker)
        if mark is None:
            raise ValueError(f"the marker {marker!r} needs a value in the state")

        def attempt(session: Session) -> bool:
            epoch, found = self._watch(session, lease, marker, appends)
            if found == mark:
                return True
            if epoch != lease.epoch:
                return False
            session.transaction(self._changes(state, appends))
            return True

        return settled(self._connector, attempt)

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Return a new lease with a new epoch, or None if another holder has it.

        `holder` is a random id of one life of a process. A holder that asks again gets a new
        epoch, which fences what it held before.
        """
        return self._leases.acquire(name, holder, ttl_s)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """Return the lease with a later deadline, or None if it is lost."""
        return self._leases.renew(lease, ttl_s)

    def release(self, lease: Lease) -> None:
        """End the lease if it is still ours; its epoch is never given again."""
        self._leases.release(lease)

    def holder(self, name: str) -> str | None:
        """Return who holds the lease, None if nobody does."""
        return self._leases.holder(name)

    def epoch(self, name: str) -> int:
        """Return the epoch of the last lease given, 0 if there was none."""
        return self._leases.epoch(name)

    def put(self, key: str, value: bytes) -> None:
        """Keep a value under a plain key, without an end."""
        self._connector.call("SET", self._key(key), value)

    def get(self, key: str) -> bytes | None:
        """Return the value of a plain key, None if there is none."""
        reply = self._connector.call("GET", self._key(key))
        return None if reply is None else as_bytes(reply)

    def close(self) -> None:
        """Close all connections; the store can be used again and then reconnects."""
        self._connector.close()

    def trim(self, retention: Mapping[str, Retention]) -> dict[str, int]:
        """Drop what is too old, then the oldest of what is too large; return entries removed.

        XTRIM is used because it still works when the store is full.
        """
        now_ms = self.now_ms()
        removed = {}
        for stream, kept in retention.items():
            oldest_ms = max(0, now_ms - kept.age_ms)
            aged = as_int(self._connector.call("XTRIM", self._key(stream), "MINID", oldest_ms))
            removed[stream] = aged + self._trim_bytes(stream, kept.bytes_max)
        return removed

    def reach(self, streams: Sequence[str]) -> dict[str, Reach]:
        """Return how far back each stream goes, and how many entries and bytes it takes."""
        return {stream: self._reach(stream) for stream in streams}

    @property
    def _state_key(self) -> str:
        return self._key("state")

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _xadd(self, append: Append) -> Command:
        stamp = append.stamp
        fields: dict[str, bytes | str | int] = {
            BOOT_FIELD: stamp.boot,
            SEQUENCE_FIELD: stamp.sequence,
            AGE_FIELD: stamp.age_ms,
            **append.fields,
        }
        flat = [part for pair in fields.items() for part in pair]
        return ("XADD", self._key(append.stream), append.id, *flat)

    def _watch(
        self, session: Session, lease: Lease, marker: str, appends: Sequence[Append]
    ) -> tuple[int, bytes | None]:
        """Watch what a commit depends on; return the current epoch and the marker's value.

        The state is watched along with the epoch for the sake of a transaction that arrives late:
        if the server was frozen and the same commit was sent again, only one of the two runs.
        """
        epoch_key = self._leases.epoch_key(lease.name)
        streams = sorted({append.stream for append in appends})
        epoch, mark, *types = session.watch(
            (epoch_key, self._state_key),
            [
                ("GET", epoch_key),
                ("HGET", self._state_key, marker),
                *(("TYPE", self._key(stream)) for stream in streams),
            ],
        )
        for stream, kind in zip(streams, types, strict=True):
            # MULTI does not undo: a command that fails inside would leave the others done.
            if as_text(kind) not in {"stream", "none"}:
                raise StoreRefused(
                    f"the key {self._key(stream)} is a {as_text(kind)}, not a stream; remove it"
                )
        return (
            0 if epoch is None else as_int(epoch),
            None if mark is None else as_bytes(mark),
        )

    def _changes(
        self, state: Mapping[str, bytes | None], appends: Sequence[Append]
    ) -> list[Command]:
        kept = [
            part for name, value in state.items() if value is not None for part in (name, value)
        ]
        dropped = [name for name, value in state.items() if value is None]
        commands: list[Command] = [("HSET", self._state_key, *kept)]
        if dropped:
            commands.append(("HDEL", self._state_key, *dropped))
        return [*commands, *(self._xadd(append) for append in appends)]

    def _trim_bytes(self, stream: str, bytes_max: int | None) -> int:
        removed = 0
        for _ in range(0 if bytes_max is None else TRIM_ROUNDS_MAX):
            taken, entries = self._size(stream)
            if bytes_max is None or taken <= bytes_max or entries == 0:
                break
            # In proportion, and at least one: entries differ in size, so it may take some rounds.
            keep = min(entries * bytes_max // taken, entries - 1)
            removed += as_int(self._connector.call("XTRIM", self._key(stream), "MAXLEN", keep))
        return removed

    def _size(self, stream: str) -> tuple[int, int]:
        key = self._key(stream)
        taken, entries = self._connector.batch(
            [("MEMORY", "USAGE", key, "SAMPLES", USAGE_SAMPLES), ("XLEN", key)]
        )
        return 0 if taken is None else as_int(taken), as_int(entries)

    def _reach(self, stream: str) -> Reach:
        key = self._key(stream)
        first, last, entries, taken = self._connector.batch(
            [
                ("XRANGE", key, "-", "+", "COUNT", 1),
                ("XREVRANGE", key, "+", "-", "COUNT", 1),
                ("XLEN", key),
                ("MEMORY", "USAGE", key, "SAMPLES", USAGE_SAMPLES),
            ]
        )
        return Reach(
            oldest_ms=_first_ms(as_list(first)),
            newest_ms=_first_ms(as_list(last)),
            entries=as_int(entries),
            bytes=0 if taken is None else as_int(taken),
        )


def _first_ms(rows: Sequence[Reply]) -> int | None:
    return parse_id(as_text(as_list(rows[0])[0]))[0] if rows else None
