"""The nodes' own load: its mean, what is missing in it, and saturation slot by slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from autoheal.core.view.node_window import NodeLoad, NodeWindow
from autoheal.core.view.window import SPARE_SLOTS
from autoheal.model import NodeFigures
from builders import NOW, STEP, batch

MEAN_SLOTS = 5
SLOT = NOW // STEP
MEMORY = 8 * 2**30
HORIZON = (2 * MEAN_SLOTS + SPARE_SLOTS) * STEP


def window(*, longest: int = MEAN_SLOTS) -> NodeWindow:
    return NodeWindow(step_ms=STEP, mean_ms=MEAN_SLOTS * STEP, longest_ms=longest * STEP)


def tell(
    into: NodeWindow,
    cpu: float | None,
    memory_percent: float | None = 0.0,
    *,
    at_ms: int,
    node: str = "node-1",
    memory: int | None = MEMORY,
) -> None:
    figures = NodeFigures(4.0, cpu, memory, memory_percent)
    into.fold(dataclasses.replace(batch({}, node_id=node), figures=figures), at_ms)


def told(cpu: Sequence[float | None], memory: Sequence[float | None] | None = None) -> NodeWindow:
    """One figure per slot, the last in the slot before NOW."""
    made = window()
    for index, value in enumerate(cpu):
        other = 0.0 if memory is None else memory[index]
        tell(made, value, other, at_ms=NOW - (len(cpu) - index) * STEP)
    return made


@pytest.mark.parametrize(
    ("cpu", "mean"),
    [
        ([10.0, 20.0, 30.0, 40.0, 50.0], 30.0),
        ([99.0, 10.0, 20.0, 30.0, 40.0, 50.0], 30.0),
        # load only argues against acting: what is missing counts as full
        ([10.0, 20.0, 30.0, 40.0, None], 40.0),
        ([10.0, 20.0, 30.0, None, None], None),
        ([None] * 5, None),
    ],
)
def test_a_nodes_load_is_its_mean_over_the_window(
    cpu: list[float | None], mean: float | None
) -> None:
    assert told(cpu).loads(NOW) == {"node-1": NodeLoad(mean, 0.0, MEMORY)}


def test_cpu_and_memory_are_told_apart() -> None:
    assert told([10.0] * 5, [70.0] * 5).loads(NOW)["node-1"] == NodeLoad(10.0, 70.0, MEMORY)


def test_the_slot_now_being_filled_does_not_count() -> None:
    made = told([10.0] * 5)
    tell(made, 99.0, at_ms=NOW)
    assert made.loads(NOW)["node-1"].cpu_percent == 10.0


def test_the_memory_that_was_told_last_stays_known() -> None:
    made = told([10.0] * 5)
    tell(made, 10.0, at_ms=NOW, memory=None)
    assert made.loads(NOW)["node-1"].memory == MEMORY


def test_removing_a_figure_never_lowers_the_load() -> None:
    whole = [100.0, 20.0, 60.0, 0.0, 90.0]
    full = told(whole).loads(NOW)["node-1"].cpu_percent
    assert full is not None
    for index in range(len(whole)):
        thinned = [None if place == index else value for place, value in enumerate(whole)]
        less = told(thinned).loads(NOW)["node-1"].cpu_percent
        assert less is None or less >= full


@pytest.mark.parametrize(
    ("cpu", "memory", "saturated"),
    [
        ([90.0] * 5, [0.0] * 5, True),
        ([0.0] * 5, [90.0] * 5, True),
        ([89.9] * 5, [89.9] * 5, False),
        ([100.0, 80.0, 90.0, 90.0, 90.0], [0.0] * 5, True),
        ([100.0, 100.0, 100.0, 100.0, 0.0], [0.0] * 5, False),
    ],
)
def test_a_node_is_saturated_when_its_mean_is(
    cpu: list[float | None], memory: list[float | None], *, saturated: bool
) -> None:
    slots = range(SLOT - 1, SLOT)
    assert told(cpu, memory).saturated(["node-1"], slots, 90, missing=0.0) == [[saturated]]


def test_saturation_is_told_for_the_end_of_each_slot() -> None:
    made = told([0.0] * 4 + [100.0] * 5)
    shown = made.saturated(["node-1"], range(SLOT - 5, SLOT), 60, missing=0.0)
    assert [bool(slot[0]) for slot in shown] == [False, False, True, True, True]


@pytest.mark.parametrize(("missing", "saturated"), [(0.0, False), (100.0, True)])
def test_a_node_that_is_silent_is_taken_for_what_is_asked(
    missing: float, *, saturated: bool
) -> None:
    slots = range(SLOT - 1, SLOT)
    shown = window().saturated(["node-1"], slots, 90, missing=missing)
    assert shown == [[saturated]]


@pytest.mark.parametrize(("silence", "known"), [(-1, True), (0, False)])
def test_a_silent_node_is_forgotten_when_the_window_has_passed_it(
    silence: int, *, known: bool
) -> None:
    made = window()
    tell(made, 1.0, at_ms=NOW, node="gone")
    slots = 2 * MEAN_SLOTS + SPARE_SLOTS
    tell(made, 1.0, at_ms=NOW + (slots + silence) * STEP)
    made.forget()
    assert (made._ring.column("gone") is not None) is known
    assert ("gone" in made._memory) is known


def test_what_is_older_than_the_window_is_passed_over() -> None:
    made = window()
    tell(made, 1.0, at_ms=NOW)
    tell(made, 1.0, at_ms=NOW - HORIZON, node="late")
    assert set(made._ring.keys()) == {"node-1"}


def test_a_node_of_which_nothing_is_known_has_no_load() -> None:
    assert told([None] * 5, [None] * 5).loads(NOW) == {}
    assert told([1.0] * 5).loads(NOW + MEAN_SLOTS * STEP) == {}
