"""Short words for what the tests write and read."""

import time

from context_store import Append, Cut, Reader, Stamp, Store


def an_append(
    stream: str = "s",
    sequence: int = 1,
    *,
    boot: str = "boot",
    age_ms: int = 0,
    value: bytes = b"v",
    entry_id: str = "*",
) -> Append:
    return Append(stream, {"value": value}, Stamp(boot, sequence, age_ms), entry_id)


def past(store: Store, ms: int) -> None:
    """Wait until the store's clock is past a time, so that a cut has to hold what is there."""
    while store.now_ms() <= ms:
        time.sleep(0.0005)


def cut_of_all(store: Store, reader: Reader) -> Cut:
    past(store, store.now_ms())
    return reader.cut()


def all_values(store: Store, stream: str = "s") -> list[bytes]:
    return [
        entry.fields["value"]
        for entry in cut_of_all(store, store.reader([stream], since_ms=0)).entries
    ]


def sequences(cut: Cut) -> list[int]:
    return [entry.sequence for entry in cut.entries]
