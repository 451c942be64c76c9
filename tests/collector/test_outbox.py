from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.fakes import HandClock
from autoheal.outbox import Outbox
from autoheal.ports import Write
from autoheal.telemetry import Telemetry
from collector.fakes import Store, value


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(HandClock())


def fill(outbox: Outbox, *numbers: int) -> None:
    for number in numbers:
        outbox.put("samples", {"n": b"%d" % number}, float(number))


def test_sends_in_order_in_batches_with_rising_numbers(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry, batch_max=2)
    fill(outbox, *range(5))
    assert outbox.waiting == 5
    assert outbox.flush()
    assert store.kept == [Write("samples", {"n": b"%d" % n}, n + 1, float(n)) for n in range(5)]
    assert [len(call) for call in store.calls] == [2, 2, 1]
    assert outbox.waiting == 0
    assert outbox.flush()
    assert len(store.calls) == 3, "nothing waits, nothing is asked of the store"


def test_keeps_what_the_store_did_not_take(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry)
    store.away = True
    fill(outbox, 1, 2)
    assert not outbox.flush()
    fill(outbox, 3)
    assert not outbox.flush()
    assert (outbox.waiting, value(telemetry, "autoheal_outbox_entries", outbox="samples")) == (3, 3)
    store.away = False
    assert outbox.flush()
    assert store.sequences == [1, 2, 3]
    assert value(telemetry, "autoheal_outbox_entries", outbox="samples") == 0


def test_a_lost_reply_repeats_the_same_numbers_and_ages(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry, batch_max=2)
    fill(outbox, 1, 2, 3)
    store.loses_replies = True
    assert not outbox.flush()
    store.loses_replies = False
    assert outbox.flush()
    assert store.calls[0] == store.calls[1]
    assert store.sequences == [1, 2, 1, 2, 3]


def test_the_oldest_go_when_it_is_full(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry, entries_max=3)
    fill(outbox, *range(5))
    assert outbox.flush()
    assert store.sequences == [3, 4, 5]
    assert value(telemetry, "autoheal_outbox_dropped_total", outbox="samples") == 2
    assert outbox.breaks == 2


def test_bytes_are_bounded_but_the_newest_stays(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry, bytes_max=100)
    for size in (40, 40, 40, 500):
        outbox.put("samples", {"n": b"x" * size}, 0.0)
    assert outbox.waiting == 1
    outbox.put("samples", {"n": b"x" * 40}, 0.0)
    assert outbox.flush()
    assert store.sequences == [5]


def test_what_was_sent_takes_no_room(store: Store, telemetry: Telemetry) -> None:
    outbox = Outbox("samples", store, telemetry, bytes_max=100)
    for _ in range(10):
        outbox.put("samples", {"n": b"x" * 40}, 0.0)
        outbox.flush()
    for _ in range(2):
        outbox.put("samples", {"n": b"x" * 40}, 0.0)
    assert outbox.waiting == 2


def test_a_break_is_a_drop_or_a_return(
    store: Store, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox("samples", store, telemetry)
    fill(outbox, 1)
    with caplog.at_level(logging.INFO):
        outbox.flush()
        assert outbox.breaks == 0
        store.away = True
        fill(outbox, 2)
        outbox.flush()
        outbox.flush()
        assert outbox.breaks == 0
        store.away = False
        outbox.flush()
    assert outbox.breaks == 1
    assert len(caplog.records) == 2, "one word when it goes, one when it is back"


def test_other_errors_are_not_taken_for_absence(telemetry: Telemetry) -> None:
    class Broken:
        def append(self, writes: Sequence[Write]) -> None:
            raise ValueError(f"{len(writes)} entries of an odd kind")

    outbox = Outbox("samples", Broken(), telemetry)
    fill(outbox, 1)
    with pytest.raises(ValueError, match="odd kind"):
        outbox.flush()
    assert outbox.waiting == 1


def test_dropping_while_sending_loses_and_repeats_nothing_else(telemetry: Telemetry) -> None:
    """The store is slow; meanwhile so much comes in that the entries being sent are dropped."""
    store = Store()

    class Slow(Store):
        def append(self, writes: Sequence[Write]) -> None:
            if not store.kept:
                fill(outbox, *range(10, 15))
            store.append(writes)

    outbox = Outbox("samples", Slow(), telemetry, entries_max=3)
    fill(outbox, 1, 2)
    assert outbox.flush()
    assert store.sequences == [1, 2, 5, 6, 7]


def test_threads_keep_the_order(telemetry: Telemetry) -> None:
    store = Store()

    class Slow(Store):
        def append(self, writes: Sequence[Write]) -> None:
            time.sleep(0.001)
            store.append(writes)

    outbox = Outbox("samples", Slow(), telemetry, batch_max=7)

    def work() -> None:
        for number in range(50):
            fill(outbox, number)
            outbox.flush()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.flush()
    assert store.sequences == list(range(1, 201))


@given(st.lists(st.sampled_from(["put", "flush", "away", "lossy", "back"]), max_size=60))
def test_what_the_store_has_is_a_rising_run_without_the_dropped(steps: list[str]) -> None:
    store = Store()
    telemetry = Telemetry(HandClock())
    outbox = Outbox("samples", store, telemetry, entries_max=4, batch_max=3)
    count = 0
    for step in steps:
        if step == "put":
            count += 1
            fill(outbox, count)
        elif step == "flush":
            outbox.flush()
        else:
            store.away, store.loses_replies = step == "away", step == "lossy"
    store.away = store.loses_replies = False
    assert outbox.flush()
    first_seen = list(dict.fromkeys(store.sequences))
    assert first_seen == sorted(first_seen)
    dropped = value(telemetry, "autoheal_outbox_dropped_total", outbox="samples")
    assert count - dropped <= len(first_seen) <= count
