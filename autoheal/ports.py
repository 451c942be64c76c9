"""What the loops need of the world, as protocols of two or three methods.

Each belongs to the loop that calls it. An absent remote raises `RemoteUnreachable`; a store that is
away raises `ConnectionError` (context_store's StoreUnavailable is one), after which nothing is
known of the last write, and writing the same again is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from autoheal.model import Decision, Event, NodeFigures, RosterRow
    from autoheal.records import Samples

JsonObject = Mapping[str, Any]


class Clock(Protocol):
    """The two clocks of a process. Wall time is only ever compared with Docker's own times."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this node believes."""
        ...


class Container(Protocol):
    """A local container that belongs to a Swarm task."""

    @property
    def id(self) -> str:
        """64 hexadecimal characters."""
        ...

    @property
    def task(self) -> str:
        """Swarm's task id."""
        ...

    @property
    def service(self) -> str:
        """Swarm's service id."""
        ...


class ContainerSource(Protocol):
    """Which Swarm containers run on this node."""

    def containers(self) -> Sequence[Container]:
        """All running ones. Raises RemoteUnreachable."""
        ...


class StatsSource(Protocol):
    """Figures of this node's containers: cgroup files, or Docker's stats API."""

    def sample(self, containers: Sequence[Container]) -> Samples:
        """One row per container that could be read; a figure that cannot be had is NaN, never 0."""
        ...

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        """Whose they are, with the limits in force now."""
        ...


class NodeSource(Protocol):
    """The node's own load."""

    def figures(self) -> NodeFigures:
        """CPU since the last call, memory now."""
        ...


class EventSource(Protocol):
    """Docker's event stream of this node."""

    def events(self, stop: Callable[[], bool]) -> Iterator[Event | None]:
        """Events as they happen; None at least every few seconds as a sign of life.

        Ends when the stream ends or `stop()` is true. Raises RemoteUnreachable.
        """
        ...


class FigureSource(Protocol):
    """One figure from elsewhere: a query, the length of a queue, a number in a response."""

    def read(self) -> float:
        """The figure now. Raises RemoteError, whose text holds no secret."""
        ...


class SwarmReader(Protocol):
    """GET on the Docker API, and nothing else."""

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        """The decoded answer. Raises RemoteUnreachable, RemoteRefused."""
        ...


class SwarmWriter(SwarmReader, Protocol):
    """The one mutation: a service update as a compare-and-swap on its version."""

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        """POST the whole spec. Raises RemoteRefused, RemoteUnreachable (outcome unknown)."""
        ...


class Notifier(Protocol):
    """A place where people are told: Alertmanager, a webhook."""

    @property
    def name(self) -> str:
        """For logs and metrics."""
        ...

    def send(self, alerts: Sequence[Alert]) -> None:
        """Deliver the present state of these alerts. Raises RemoteError."""
        ...


class Alert(Protocol):
    """One escalation as people see it."""

    @property
    def decision(self) -> Decision:
        """The decision that raised it."""
        ...

    @property
    def started_ms(self) -> int:
        """When it began to fire, wall clock."""
        ...

    @property
    def ended_ms(self) -> int | None:
        """When it was resolved, None while it fires."""
        ...


@dataclass(frozen=True, slots=True)
class Write:
    """One entry to append. Sent again with the same `sequence` it counts once.

    `sequence` rises strictly per writer and stream; `taken` is the writer's monotonic time, in s,
    at which what it tells was true, so that a late delivery does not shift it.
    """

    stream: str
    fields: Mapping[str, bytes]
    sequence: int
    taken: float


class Entry(Protocol):
    """One entry of a stream, as a reader gets it. `at_ms` is the id's time less the age."""

    @property
    def stream(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def ms(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def fields(self) -> Mapping[str, bytes]: ...


class Cut(Protocol):
    """All entries whose id is older than `now_ms` and that earlier cuts did not hold."""

    @property
    def now_ms(self) -> int: ...
    @property
    def run_id(self) -> str: ...
    @property
    def entries(self) -> Sequence[Entry]: ...


class Lease(Protocol):
    """The right to be the one that acts, until `deadline` (monotonic seconds)."""

    @property
    def name(self) -> str: ...
    @property
    def holder(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def deadline(self) -> float: ...


class Reader(Protocol):
    """Reads streams by time cuts and drops repeated appends."""

    @property
    def cursors(self) -> Mapping[str, str]:
        """Per stream the id of the last entry handed out."""
        ...

    def cut(self) -> Cut:
        """Everything new. Raises ConnectionError."""
        ...


class StreamWriter(Protocol):
    """Appends to the streams."""

    def append(self, writes: Sequence[Write]) -> None:
        """All or none. Raises ConnectionError: perhaps written; write the same again."""
        ...


class Leases(Protocol):
    """Leases and the fencing epochs that go with them."""

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """None while somebody else holds it."""
        ...

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """None when it is lost."""
        ...

    def release(self, lease: Lease) -> None:
        """Give it up, if it is still ours."""
        ...

    def epoch(self, name: str) -> int:
        """The newest epoch ever given out under this name; 0 before the first."""
        ...


class Reach(Protocol):
    """How far back a stream goes and what it takes."""

    @property
    def oldest_ms(self) -> int | None: ...
    @property
    def entries(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class Store(StreamWriter, Leases, Protocol):
    """The context store, as the loops use it."""

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """A reader whose first cut starts at `since_ms`."""
        ...

    def wait(self, cursors: Mapping[str, str], timeout_s: float) -> bool:
        """Sleep until an entry past a cursor is there, or the time is up."""
        ...

    def now_ms(self) -> int:
        """The store's clock."""
        ...

    def append_under(self, lease: Lease, writes: Sequence[Write]) -> bool:
        """Append all or none; False, and none, once a newer lease of that name was given."""
        ...

    def state(self) -> dict[str, bytes]:
        """The engine's state, one field per service."""
        ...

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        """State and entries together, or nothing; False when the lease's epoch is not the newest.

        Repeating the call after a ConnectionError settles it: `marker` names the field that tells
        whether this very commit has happened.
        """
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep a value under a key of its own."""
        ...

    def get(self, key: str) -> bytes | None:
        """Read it back."""
        ...


class Insight(Store, Protocol):
    """What a person who asks for the status wants to know of the store besides."""

    def holder(self, name: str) -> str | None:
        """Who holds the lease now."""
        ...

    def reach(self, streams: Sequence[str]) -> Mapping[str, Reach]:
        """Per stream, how far back it goes."""
        ...
