"""What goes into the store and what comes out: plain, immutable values, no client needed."""

from collections.abc import Mapping
from dataclasses import dataclass

# The stamp travels in the entry itself, under these keys; a user's field may not have their name.
BOOT_FIELD = "b"
SEQUENCE_FIELD = "q"
AGE_FIELD = "a"
STAMP_FIELDS = frozenset({BOOT_FIELD, SEQUENCE_FIELD, AGE_FIELD})


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who wrote an entry, its how-manieth it is, and how old its content was when it was sent.

    `boot` is a random id of one life of a writer. `sequence` rises strictly for each boot and
    stream, in the order in which the writer sends; an append that is sent again keeps it.
    `age_ms` is by the writer's own monotonic clock; when an append is sent again it may be fresh.
    """

    boot: str
    sequence: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class Append:
    """One entry to be written. The store's clock gives the id, except to a simulator."""

    stream: str
    fields: Mapping[str, bytes]
    stamp: Stamp
    id: str = "*"

    def __post_init__(self) -> None:
        """Refuse field names that the stamp needs: a mistake in the caller."""
        taken = sorted(STAMP_FIELDS.intersection(self.fields))
        if taken:
            raise ValueError(f"field names {taken} belong to the stamp")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as read. `ms` is when the store took it, `at_ms` when its content was true."""

    stream: str
    id: str
    ms: int
    at_ms: int
    boot: str
    sequence: int
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Cut:
    """Everything new whose id is older than `now_ms`, by (ms, sequence of the id, stream)."""

    now_ms: int
    run_id: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act under a name.

    It lasts until `deadline`, in seconds of the holder's monotonic clock: taken before the store
    was asked, so that it ends before the store lets anyone else in. `epoch` is the fencing token.
    """

    name: str
    holder: str
    epoch: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a stream is kept, and how many bytes of the store's memory it may take at most."""

    age_ms: int
    bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back a stream goes and what it takes; the times are None when it is empty."""

    oldest_ms: int | None
    newest_ms: int | None
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself: `name` is "redis" or "valkey"; `run_id` is of one life."""

    name: str
    version: str
    policy: str
    append_only: bool
    run_id: str


def parse_id(entry_id: str) -> tuple[int, int]:
    """Return the (ms, sequence) of a stream id; ids compare as these pairs do."""
    ms, _, sequence = entry_id.partition("-")
    return int(ms), int(sequence or 0)
