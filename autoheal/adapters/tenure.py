"""One loop's time in office: its lease, what it has read, and what it still has to report.

Whoever acts on the world under a lease needs the same four things, in this order:

1. Hold the lease, or do nothing. The deadline is by our own monotonic clock and lies before the
   moment at which the store lets somebody else in, so `require` can be asked before every step.
2. Report what is still unreported before anything else. Reports are steps done in order; one that
   failed is done again, the same, until it returns. Were the lease somebody else's in between, he
   has already settled what we did not report: the epoch tells, and the steps are thrown away.
3. Read history after the lease was gained, all of it: a cut holds what is older than its `now`, so
   history is complete once a cut's `now` lies past the moment of gaining.
4. Act, and report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from autoheal.errors import AutohealError
from autoheal.ports import Clock, Entry, Lease, Reader, Store, Write
from autoheal.telemetry import Telemetry

Step = Callable[[], None]


class TenureOver(AutohealError):  # noqa: N818  # reads as a state, not as a mistake
    """The lease does not last long enough for what was to be done: leave it to the next tick."""


@dataclass(frozen=True, slots=True)
class News:
    """What was read. `afresh`: it starts a new history, forget the old one.

    `complete`: together with earlier news this is all that was written before the lease was ours.
    """

    now_ms: int
    entries: Sequence[Entry]
    afresh: bool
    complete: bool


class Tenure:
    """The lease `name` for `holder`, and the reading and reporting that depends on it.

    `history_ms` is how far back reading starts when the lease is gained, None for the beginning.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        *,
        name: str,
        holder: str,
        ttl_s: float,
        streams: Sequence[str],
        history_ms: int | None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._leading = telemetry.leader.labels(name)
        self._name = name
        self._holder = holder
        self._ttl_s = ttl_s
        self._streams = tuple(streams)
        self._history_ms = history_ms
        self._lease: Lease | None = None
        self._epoch = 0
        self._reader: Reader | None = None
        self._gained_ms = 0
        self._afresh = True
        self._unreported: deque[Step] = deque()
        self._sequences = dict.fromkeys(streams, 0)

    @property
    def is_held(self) -> bool:
        """Whether the lease was ours when last asked for."""
        return self._lease is not None

    @property
    def cursors(self) -> Mapping[str, str]:
        """Where reading stands, to wait for more; empty while the lease is somebody else's."""
        return {} if self._reader is None else self._reader.cursors

    def hold(self) -> bool:
        """Hold the lease from now on; False while somebody else does. Raises ConnectionError."""
        lease = None if self._lease is None else self._store.renew(self._lease, self._ttl_s)
        if lease is None:
            lease = self._gain()
        self._lease = lease
        self._leading.set(lease is not None)
        return lease is not None

    def end(self) -> None:
        """Give the lease up, if it is ours. Raises ConnectionError."""
        lease, self._lease, self._reader = self._lease, None, None
        self._leading.set(0)
        if lease is not None:
            self._store.release(lease)

    def require(self, margin_s: float = 0.0) -> None:
        """Raise TenureOver unless the lease lasts for `margin_s` more."""
        if self._lease is None or self._clock.monotonic() + margin_s >= self._lease.deadline:
            raise TenureOver(f"the lease {self._name!r} has less than {margin_s:g} s left")

    def read(self) -> News:
        """Report what is unreported, then read. Raises ConnectionError, TenureOver."""
        self.flush()
        if self._reader is None:
            gained_ms = self._store.now_ms()
            since_ms = 0 if self._history_ms is None else gained_ms - self._history_ms
            self._reader = self._store.reader(self._streams, since_ms=since_ms)
            self._gained_ms, self._afresh = gained_ms, True
        cut = self._reader.cut()
        afresh, self._afresh = self._afresh, False
        return News(cut.now_ms, cut.entries, afresh, cut.now_ms > self._gained_ms)

    def append(self, stream: str, fields: Mapping[str, bytes]) -> None:
        """Take up an entry to be written by `flush`."""
        self._sequences[stream] += 1
        write = Write(stream, fields, self._sequences[stream], self._clock.monotonic())
        self.then(partial(self._append, write))

    def then(self, step: Step) -> None:
        """Take up something else to be done by `flush`, after all that was taken up before."""
        self._unreported.append(step)

    def flush(self) -> None:
        """Do what was taken up, in order. What raises stays, with all that follows it.

        Raises TenureOver, ConnectionError, and what the steps raise.
        """
        while self._unreported:
            self.require()
            self._unreported[0]()
            self._unreported.popleft()

    def _append(self, write: Write) -> None:
        # Whoever stood still past the end of his lease must not add to what his successor wrote.
        if self._lease is None or not self._store.append_under(self._lease, (write,)):
            raise TenureOver(f"the lease {self._name!r} is another's by now")

    def _gain(self) -> Lease | None:
        self._lease = self._reader = None
        lease = self._store.acquire(self._name, self._holder, self._ttl_s)
        if lease is not None:
            if lease.epoch != self._epoch + 1:
                self._unreported.clear()
            self._epoch = lease.epoch
        return lease
