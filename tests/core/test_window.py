"""Slots, late samples, the ring, derived figures and the columns they are kept in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.view.ring import INITIAL_COLUMNS
from autoheal.core.view.window import SPARE_SLOTS, Window
from autoheal.metrics import MEASURED, METRIC_BY_NAME
from autoheal.model import Service
from builders import NOW, STEP, batch, roster_row, service

LENGTH = 6
SLOT = NOW // STEP


def window(*metrics: str, slots: int = LENGTH) -> Window:
    return Window(metrics or ("cpu_cores",), step_ms=STEP, longest_ms=slots * STEP)


def fold(
    into: Window,
    value: float,
    at_ms: int = NOW,
    *,
    task_id: str = "web.1",
    services: Mapping[str, Service] | None = None,
    revision: int = 1,
    with_roster: bool = True,
) -> None:
    roster = [roster_row(task_id)] if with_roster else None
    into.fold(batch({task_id: [value]}, roster), at_ms, services or {}, revision)


def read(
    of: Window, slots: Sequence[int], task_id: str = "web.1", metric: str = "cpu_cores"
) -> list[float | None]:
    column = of.column(task_id)
    columns = np.asarray([-1 if column is None else column], dtype=np.intp)
    values = of.read(metric, slots, columns)[:, 0]
    return [None if np.isnan(value) else float(value) for value in values]


@pytest.mark.parametrize(
    ("after_ms", "slot"),
    [(-1, SLOT - 1), (0, SLOT), (1, SLOT), (STEP - 1, SLOT), (STEP, SLOT + 1)],
)
def test_a_sample_falls_into_the_slot_of_its_time(after_ms: int, slot: int) -> None:
    made = window()
    fold(made, 1.0, NOW + after_ms)
    read_back = read(made, range(SLOT - 1, SLOT + 2))
    assert read_back == [1.0 if each == slot else None for each in range(SLOT - 1, SLOT + 2)]


def test_the_last_sample_of_a_slot_wins() -> None:
    made = window()
    fold(made, 1.0, NOW + 100)
    fold(made, 2.0, NOW)
    assert read(made, [SLOT]) == [2.0]


def test_a_late_sample_fills_its_past_slot() -> None:
    made = window()
    fold(made, 3.0, NOW)
    fold(made, 1.0, NOW - 2 * STEP)
    assert read(made, range(SLOT - 2, SLOT + 1)) == [1.0, None, 3.0]


def test_a_sample_as_old_as_the_ring_is_kept_and_an_older_one_is_dropped() -> None:
    made = window()
    fold(made, 1.0, NOW)
    oldest = SLOT - made.slots + 1
    fold(made, 2.0, oldest * STEP)
    fold(made, 9.0, oldest * STEP - 1)
    assert read(made, [oldest - 1, oldest, SLOT]) == [None, 2.0, 1.0]


def test_the_ring_wraps_and_what_it_overwrites_is_gone() -> None:
    made = window()
    for step in range(3 * made.slots):
        fold(made, float(step), NOW + step * STEP)
    last = SLOT + 3 * made.slots - 1
    kept = read(made, range(last - made.slots, last + 2))
    assert kept == [None, *(float(last - SLOT - n) for n in range(made.slots - 1, -1, -1)), None]


@pytest.mark.parametrize("jump", [LENGTH + SPARE_SLOTS - 1, LENGTH + SPARE_SLOTS, 1000])
def test_slots_that_time_leaps_over_are_empty(jump: int) -> None:
    made = window()
    for step in range(made.slots):
        fold(made, 1.0, NOW + (step - made.slots + 1) * STEP)
    fold(made, 2.0, NOW + jump * STEP)
    read_back = read(made, range(SLOT, SLOT + jump + 1))
    first = 1.0 if jump < made.slots else None
    assert read_back == [first, *[None] * (jump - 1), 2.0]


def test_an_empty_window_reads_as_missing() -> None:
    assert read(window(), range(-3, 3)) == [None] * 6
    assert read(window(), [SLOT]) == [None]


def test_the_window_keeps_the_longest_time_and_room_for_late_samples() -> None:
    assert Window([], step_ms=STEP, longest_ms=2 * STEP).slots == 2 + SPARE_SLOTS
    assert Window([], step_ms=STEP, longest_ms=2 * STEP + 1).slots == 3 + SPARE_SLOTS


def test_a_batch_without_containers_moves_time_on() -> None:
    made = window()
    fold(made, 1.0)
    made.fold(batch({}, []), NOW + made.slots * STEP, {}, 1)
    assert read(made, [SLOT]) == [None]


# rosters


def test_a_container_that_no_roster_has_named_is_passed_over() -> None:
    made = window()
    fold(made, 1.0, with_roster=False)
    assert made.column("web.1") is None
    assert made.containers == 0


def test_a_roster_serves_later_batches_of_its_node_only() -> None:
    made = window()
    fold(made, 1.0)
    fold(made, 2.0, NOW + STEP, with_roster=False)
    made.fold(batch({"web.1": [9.0]}, node_id="node-2"), NOW + 2 * STEP, {}, 1)
    assert read(made, range(SLOT, SLOT + 3)) == [1.0, 2.0, None]


def test_the_order_of_containers_in_a_batch_does_not_matter() -> None:
    made = window()
    roster = [roster_row(f"web.{n}") for n in range(3)]
    made.fold(batch({"web.0": [0.0], "web.1": [1.0], "web.2": [2.0]}, roster), NOW, {}, 1)
    made.fold(batch({"web.2": [12.0], "web.0": [10.0], "web.1": [11.0]}), NOW + STEP, {}, 1)
    for number in range(3):
        assert read(made, [SLOT, SLOT + 1], f"web.{number}") == [number, 10.0 + number]


def test_a_batch_may_lack_a_metric() -> None:
    made = window("cpu_cores", "pids")
    fold(made, 1.0)
    assert read(made, [SLOT], metric="pids") == [None]
    assert read(made, [SLOT], metric="cpu_cores") == [1.0]


# figures derived from others


def derived(
    metric: str,
    value: float,
    *,
    cpu_limit: float | None = None,
    memory_limit: int | None = None,
    reservation: float | None = None,
    cores: float | None = 4.0,
    known: bool = True,
) -> float | None:
    made = window(metric)
    numerator = METRIC_BY_NAME[metric].numerator
    assert numerator is not None
    services = {"web": service(cpu_reservation=reservation)} if known else {}
    roster = [roster_row(cpu_limit=cpu_limit, memory_limit=memory_limit)]
    made.fold(batch({"web.1": [value]}, roster, metrics=[numerator], cores=cores), NOW, services, 1)
    return read(made, [SLOT], metric=metric)[0]


def test_cpu_percent_is_of_the_limit_else_the_reservation_else_the_node() -> None:
    assert derived("cpu_percent", 0.5, cpu_limit=2.0, reservation=1.0) == 25.0
    assert derived("cpu_percent", 0.5, reservation=1.0) == 50.0
    assert derived("cpu_percent", 0.5) == 12.5
    assert derived("cpu_percent", 0.5, known=False) == 12.5
    assert derived("cpu_percent", 0.5, cores=None) is None


def test_memory_percent_is_of_the_limit_and_nothing_else() -> None:
    assert derived("memory_percent", 2**20, memory_limit=2**22) == 25.0
    assert derived("memory_percent", 2**20) is None


@pytest.mark.parametrize("value", [0.0, 0.5, 3e38])
def test_a_share_of_nothing_is_no_figure(value: float) -> None:
    assert derived("cpu_percent", value, cpu_limit=0.0) is None
    assert derived("memory_percent", value, memory_limit=0) is None


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("-inf"), float("nan")])
def test_what_cannot_have_been_measured_is_missing(value: float) -> None:
    made = window()
    fold(made, value)
    assert read(made, [SLOT]) == [None]


def test_a_new_limit_counts_from_the_roster_that_tells_it() -> None:
    made = window("cpu_percent")
    for step, limit in enumerate([1.0, 2.0]):
        made.fold(batch({"web.1": [0.5]}, [roster_row(cpu_limit=limit)]), NOW + step * STEP, {}, 1)
    assert read(made, [SLOT, SLOT + 1], metric="cpu_percent") == [50.0, 25.0]


def test_a_new_reservation_counts_from_the_next_batch() -> None:
    made = window("cpu_percent")
    roster = [roster_row(cpu_limit=None)]
    made.fold(batch({"web.1": [0.5]}, roster), NOW, {"web": service(cpu_reservation=1.0)}, 1)
    made.fold(batch({"web.1": [0.5]}), NOW + STEP, {"web": service(cpu_reservation=2.0)}, 2)
    assert read(made, [SLOT, SLOT + 1], metric="cpu_percent") == [50.0, 25.0]


def test_every_derived_metric_names_a_measured_one() -> None:
    for metric in METRIC_BY_NAME.values():
        assert metric.numerator is None or metric.numerator in MEASURED


# columns


def test_columns_grow_past_their_first_number_and_keep_what_they_hold() -> None:
    made = window()
    for number in range(2 * INITIAL_COLUMNS + 1):
        row = roster_row(f"t{number}")
        made.fold(batch({f"t{number}": [number]}, [row], node_id=f"n{number}"), NOW, {}, 1)
    assert made.containers == 2 * INITIAL_COLUMNS + 1
    for number in range(2 * INITIAL_COLUMNS + 1):
        assert read(made, [SLOT], f"t{number}") == [float(number)]


def test_silent_containers_are_forgotten_and_their_columns_used_again() -> None:
    made = window()
    for generation in range(5 * INITIAL_COLUMNS):
        now_ms = NOW + generation * made.slots * STEP
        fold(made, float(generation), now_ms, task_id=f"t{generation}")
        made.forget()
        assert made.containers == 1
        assert read(made, [now_ms // STEP], f"t{generation}") == [float(generation)]
    assert made.column("t0") is None
    assert made._ring.width == INITIAL_COLUMNS


def test_a_reused_column_shows_nothing_of_its_last_owner() -> None:
    made = window()
    for step in range(made.slots):
        fold(made, 9.0, NOW + step * STEP, task_id="old")
    old_column = made.column("old")
    for step in range(made.slots, 2 * made.slots):
        made.fold(batch({}, None), NOW + step * STEP, {}, 1)
    made.forget()
    last = SLOT + 2 * made.slots - 1
    fold(made, 1.0, last * STEP, task_id="new")
    assert made.column("new") == old_column
    read_back = read(made, range(last - made.slots + 1, last + 1), "new")
    assert read_back == [*[None] * (made.slots - 1), 1.0]


@pytest.mark.parametrize(("silence", "known"), [(-1, True), (0, False)])
def test_a_container_is_kept_as_long_as_the_ring_holds_its_last_sample(
    silence: int, *, known: bool
) -> None:
    made = window()
    fold(made, 1.0)
    made.fold(batch({}, None), NOW + (made.slots + silence) * STEP, {}, 1)
    made.forget()
    assert (made.column("web.1") is not None) is known


def test_forgetting_in_an_empty_window_is_nothing() -> None:
    made = window()
    made.forget()
    assert made.containers == 0


def test_a_new_container_of_a_task_takes_over_its_column() -> None:
    made = window()
    first = roster_row("web.1")
    made.fold(batch({"web.1": [1.0]}, [first]), NOW, {}, 1)
    again = batch({"other": [2.0]}, [roster_row("other")])
    assert again.roster is not None
    row = again.roster[0]
    moved = type(row)(row.key, row.container, "web.1", "web", 1.0, None)
    later = NOW + STEP
    made.fold(type(again)(again.node, again.samples, again.figures, (moved,)), later, {}, 1)
    assert read(made, [SLOT, SLOT + 1]) == [None, 2.0]
    made.fold(batch({}, None), NOW + made.slots * STEP, {}, 1)
    made.forget()
    assert read(made, [SLOT + 1]) == [2.0]


samples = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 1000)), max_size=40
)


@given(samples)
def test_the_window_is_a_map_from_slot_and_task_to_the_last_value(
    written: list[tuple[int, int, int]],
) -> None:
    """Against the obvious: a dictionary, from which what is too old is left out."""
    made, plain, head = window(), dict[tuple[str, int], float](), -1
    for number, slot, value in written:
        name = f"t{number}"
        made.fold(
            batch({name: [value]}, [roster_row(name)], node_id=f"n{number}"), slot * STEP, {}, 1
        )
        head = max(head, slot)
        if slot > head - made.slots:
            plain[name, slot] = float(value)
        plain = {key: kept for key, kept in plain.items() if key[1] > head - made.slots}
        made.forget()
    for number, slot in itertools.product(range(4), range(42)):
        expected = plain.get((f"t{number}", slot))
        assert read(made, [slot], f"t{number}") == [expected]
