"""The context store as the loops use it, and how it is found: the only place that knows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import context_store
from autoheal import records
from autoheal.adapters.clock import boot_id
from autoheal.errors import UserError
from autoheal.model import Mode
from autoheal.ports import Clock, Lease, Reach, Reader, Write
from autoheal.settings import Settings

STORE_ADDRESS = "store.url"

log = logging.getLogger(__name__)


class Memory:
    """The context store as one writer uses it: every writer has its own boot id.

    (A writer that retries must not be overtaken by another one's higher sequence number.)
    """

    def __init__(self, store: context_store.Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._boot = boot_id()

    def append(self, writes: Sequence[Write]) -> None:
        """See ports.StreamWriter."""
        self._store.append_all([self._append(write) for write in writes])

    def append_under(self, lease: Lease, writes: Sequence[Write]) -> bool:
        """See ports.Store."""
        return self._store.append_under(as_lease(lease), [self._append(write) for write in writes])

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        """See ports.Store."""
        appends = [self._append(write) for write in writes]
        return self._store.commit(as_lease(lease), state=state, marker=marker, appends=appends)

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """See ports.Store."""
        return self._store.reader(streams, since_ms=since_ms)

    def wait(self, cursors: Mapping[str, str], timeout_s: float) -> bool:
        """See ports.Store."""
        return self._store.wait(cursors, timeout_s)

    def now_ms(self) -> int:
        """See ports.Store."""
        return self._store.now_ms()

    def state(self) -> dict[str, bytes]:
        """See ports.Store."""
        return self._store.state()

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._store.acquire(name, holder, ttl_s)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._store.renew(as_lease(lease), ttl_s)

    def release(self, lease: Lease) -> None:
        """See ports.Leases."""
        self._store.release(as_lease(lease))

    def epoch(self, name: str) -> int:
        """See ports.Leases."""
        return self._store.epoch(name)

    def holder(self, name: str) -> str | None:
        """See ports.Insight."""
        return self._store.holder(name)

    def reach(self, streams: Sequence[str]) -> Mapping[str, Reach]:
        """See ports.Insight."""
        return self._store.reach(streams)

    def put(self, key: str, value: bytes) -> None:
        """See ports.Store."""
        self._store.put(key, value)

    def get(self, key: str) -> bytes | None:
        """See ports.Store."""
        return self._store.get(key)

    def _append(self, write: Write) -> context_store.Append:
        age_ms = max(0, round((self._clock.monotonic() - write.taken) * 1000))
        stamp = context_store.Stamp(self._boot, write.sequence, age_ms)
        return context_store.Append(write.stream, write.fields, stamp, self._entry_id())

    def _entry_id(self) -> str:
        """The id of an entry that is appended now: the store gives it."""
        return "*"


def as_lease(lease: Lease) -> context_store.Lease:
    """A lease as the store knows it."""
    return context_store.Lease(lease.name, lease.holder, lease.epoch, lease.deadline)


def data_directory(settings: Settings) -> Path:
    """Where the embedded store, the audit file and a generated key lie."""
    if settings.data_directory is not None:
        return settings.data_directory
    if os.geteuid() == 0:
        return Path("/var/lib/autoheal")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "autoheal"


def connect(settings: Settings, clock: Clock) -> context_store.Store:
    """The configured store. Raises UserError where it is away or unfit."""
    if settings.store_url is None:
        raise UserError("no store: set AUTOHEAL_STORE_URL (redis://HOST:PORT)")
    password = settings.store_password
    return connect_to(settings.store_url, clock, password.get_secret_value() if password else None)


def connect_to(url: str, clock: Clock, password: str | None = None) -> context_store.Store:
    """The store at this address. Raises UserError where it is away or unfit."""
    try:
        return context_store.Store.connect(url, monotonic=clock.monotonic, password=password)
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        raise UserError(str(error)) from error


@contextmanager
def store_for_all(
    settings: Settings, clock: Clock
) -> Iterator[tuple[context_store.Store, Callable[[], None]]]:
    """The configured store, or an embedded one that lives as long as this process.

    With it comes what the main thread must call now and then: it starts an embedded server that
    has ended again, on the same data.
    """
    if settings.store_url is not None:
        yield connect(settings, clock), lambda: None
        return
    server = context_store.EmbeddedServer(
        data_directory(settings) / "store",
        maxmemory_bytes=2 * settings.samples_bytes,
        appendfsync="always" if settings.mode is Mode.LIVE else "everysec",
    )
    address = data_directory(settings) / STORE_ADDRESS
    try:
        url = server.start()
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        raise UserError(str(error)) from error
    try:
        address.write_text(url)
        yield connect_to(url, clock), lambda: _revive(server)
    finally:
        address.unlink(missing_ok=True)
        server.stop()


def _revive(server: context_store.EmbeddedServer) -> None:
    if server.is_running:
        return
    server.stop()
    try:
        server.start()
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        log.error("the embedded store does not start again: %s", error)  # noqa: TRY400  # one line
    else:
        log.error("the embedded store ended; it runs again, on the same data")


def retention(settings: Settings) -> dict[str, context_store.Retention]:
    """How long each stream is kept, and samples also by size."""
    recent = context_store.Retention(settings.samples_age_ms)
    decided = context_store.Retention(settings.decisions_age_ms)
    return {
        records.SAMPLES: context_store.Retention(settings.samples_age_ms, settings.samples_bytes),
        records.INVENTORY: recent,
        records.TICKS: recent,
        # As long as rules may look back, which samples_age must be at least.
        records.SOURCES: recent,
        records.EVENTS: context_store.Retention(settings.events_age_ms),
        records.DECISIONS: decided,
        records.INTENTS: decided,
        records.OUTCOMES: decided,
        records.INCIDENTS: decided,
        records.COMMANDS: decided,
    }
