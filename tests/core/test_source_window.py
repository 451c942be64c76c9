"""What outside sources told: how long a value holds, what a failure hides, what conditions read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.core.limits import Limits
from autoheal.core.rule import Aggregate, Comparison, SourceCondition
from autoheal.core.view.node_window import NodeWindow
from autoheal.core.view.readings import Frame, Reading
from autoheal.core.view.service_series import ServiceSeries
from autoheal.core.view.source_window import SourceState, SourceWindow
from autoheal.core.view.swarm_view import SwarmView
from autoheal.core.view.task_rows import TaskRows
from autoheal.core.view.window import SPARE_SLOTS, Window
from autoheal.model import Verdict
from builders import (
    MINUTE,
    NOW,
    STEP,
    inventory,
    service,
    source,
    source_condition,
    source_value,
    task,
)

SLOTS = 5
OVER = SLOTS * STEP
START = NOW - OVER
WINDOW = range(START // STEP, NOW // STEP)
FAILED = "connection refused"
NO_DATA = Reading(Verdict.NO_DATA, 0.0)

# (time after the start of the window, the value, or why there is none)
Told = tuple[int, float | str]


def window_of(told: Sequence[Told], *, stale_after_ms: int = MINUTE) -> SourceWindow:
    made = SourceWindow(
        [source(stale_after_ms=stale_after_ms)], step_ms=STEP, longest_ms=OVER + stale_after_ms
    )
    for after_ms, value in told:
        given = (None, value) if isinstance(value, str) else (value, "")
        made.fold(source_value(*given), START + after_ms)
    return made


def figures(window: SourceWindow) -> list[float | None]:
    return [None if np.isnan(each) else float(each) for each in window.figures("jobs", WINDOW)]


# how long a value holds


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        pytest.param([], [None] * 5, id="nothing was told"),
        pytest.param([(0, 7.0)], [7, 7, 7, 7, 7], id="one value, which holds"),
        pytest.param([(-STEP, 7.0)], [7, 7, 7, 7, 7], id="one from before the window"),
        pytest.param([(STEP, 7.0)], [None, 7, 7, 7, 7], id="not before it was told"),
        pytest.param([(STEP - 1, 7.0)], [7, 7, 7, 7, 7], id="told just before a slot's end"),
        pytest.param([(0, 7.0), (STEP, 9.0)], [7, 9, 9, 9, 9], id="the next one ends it"),
        pytest.param([(0, 7.0), (1, 8.0)], [8, 8, 8, 8, 8], id="two in a slot: the last one"),
        pytest.param([(1, 8.0), (0, 7.0)], [8, 8, 8, 8, 8], id="the last one by its own time"),
        pytest.param([(0, 7.0), (0, 8.0)], [8, 8, 8, 8, 8], id="of one time: the later entry"),
        pytest.param(
            [(0, 7.0), (3 * STEP, 9.0), (STEP, 8.0)],
            [7, 8, 8, 9, 9],
            id="a late one fills its past",
        ),
        pytest.param([(0, 7.0), (STEP, FAILED)], [7, 7, 7, 7, 7], id="a failure ends nothing"),
        pytest.param([(0, 7.0), (STEP, -1.0)], [7, 7, 7, 7, 7], id="below 0 is a failure"),
        pytest.param([(0, 7.0), (STEP, 1e306)], [7, 7, 7, 7, 7], id="so is one above 1e15"),
        pytest.param([(0, 7.0), (STEP, math.nan)], [7, 7, 7, 7, 7], id="and what is no number"),
        pytest.param([(0, 1e15)], [1e15] * 5, id="1e15 is a value"),
        pytest.param([(0, 0.0)], [0, 0, 0, 0, 0], id="0 is a value"),
        pytest.param([(0, FAILED)], [None] * 5, id="a failure is no value"),
    ],
)
def test_a_value_holds_until_the_next_one(told: list[Told], shown: list[float | None]) -> None:
    assert figures(window_of(told)) == shown


@pytest.mark.parametrize(
    ("stale_after_ms", "shown"),
    [
        (STEP - 1, [None] * 5),
        (STEP, [7, None, None, None, None]),
        (2 * STEP - 1, [7, None, None, None, None]),
        (2 * STEP, [7, 7, None, None, None]),
    ],
)
def test_a_value_goes_stale(stale_after_ms: int, shown: list[float | None]) -> None:
    """Also while the source says that it cannot be read."""
    failures: list[Told] = [(1, FAILED), (STEP, FAILED)]
    for later in ([], failures):
        made = window_of([(0, 7.0), *later], stale_after_ms=stale_after_ms)
        assert figures(made) == shown


def test_sources_do_not_see_each_other_and_unknown_ones_are_passed_over() -> None:
    made = SourceWindow([source("a"), source("b")], step_ms=STEP, longest_ms=OVER)
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        made.fold(source_value(value, name=name), START)
    assert [made.figures(name, WINDOW)[0] for name in ("a", "b")] == [1.0, 2.0]
    assert list(made.states(NOW)) == ["a", "b"]


@given(
    st.lists(
        st.tuples(st.integers(-20 * STEP, OVER - 1), st.sampled_from([1.0, 2.0, 3.0, FAILED])),
        max_size=20,
    ),
    st.integers(1, 12 * STEP),
)
def test_forgetting_changes_nothing_that_is_read_later(
    told: list[Told], stale_after_ms: int
) -> None:
    plain = window_of(told, stale_after_ms=stale_after_ms)
    forgetful = window_of(told, stale_after_ms=stale_after_ms)
    forgetful.forget(NOW)
    assert figures(forgetful) == figures(plain)
    assert forgetful.states(NOW) == plain.states(NOW)


def test_what_no_window_reaches_back_to_is_forgotten() -> None:
    kept_ms = OVER + MINUTE + SPARE_SLOTS * STEP
    made = window_of([(OVER - kept_ms - 1, 1.0), (OVER - kept_ms, 2.0), (0, 3.0)])
    made.forget(NOW)
    early = range(NOW // STEP - 100, NOW // STEP)
    assert set(made.figures("jobs", early)) >= {2.0, 3.0}
    assert 1.0 not in made.figures("jobs", early)


# how a source stands


@pytest.mark.parametrize(
    ("told", "state"),
    [
        pytest.param([], SourceState(), id="nothing was told"),
        pytest.param([(0, 7.0)], SourceState(7.0, OVER), id="a value"),
        pytest.param([(OVER - MINUTE, 7.0)], SourceState(7.0, MINUTE), id="nearly stale"),
        pytest.param([(OVER - MINUTE - 1, 7.0)], SourceState(None, MINUTE + 1), id="stale"),
        pytest.param(
            [(0, FAILED), (STEP, "timed out")],
            SourceState(None, None, "timed out", START),
            id="never a value: the newest error, and since when",
        ),
        pytest.param(
            [(0, 7.0), (1, FAILED), (2, FAILED)],
            SourceState(7.0, OVER, FAILED, START + 1),
            id="a value that holds through a failure",
        ),
        pytest.param(
            [(0, FAILED), (1, 7.0)], SourceState(7.0, OVER - 1), id="a value ends the failure"
        ),
        pytest.param(
            [(0, FAILED), (1, 7.0), (2, FAILED)],
            SourceState(7.0, OVER - 1, FAILED, START + 2),
            id="which may begin anew",
        ),
        pytest.param(
            [(1, FAILED), (0, 7.0)],
            SourceState(7.0, OVER, FAILED, START + 1),
            id="a late value is no end of it",
        ),
        pytest.param(
            [(1, 7.0), (0, FAILED)], SourceState(7.0, OVER - 1), id="nor a late failure a beginning"
        ),
        pytest.param([(0, "")], SourceState(None, None, "no value", START), id="a failure unnamed"),
        pytest.param(
            [(0, -2.5)], SourceState(None, None, "-2.5 is below 0", START), id="a figure below 0"
        ),
        pytest.param(
            [(0, 1e306)],
            SourceState(None, None, "1e+306 is above 1e+15", START),
            id="a figure too large to reckon with",
        ),
        pytest.param(
            [(0, math.inf)], SourceState(None, None, "inf is not a figure", START), id="no figure"
        ),
    ],
)
def test_how_a_source_stands(told: list[Told], state: SourceState) -> None:
    assert window_of(told).states(NOW) == {"jobs": state}


def test_how_old_the_last_value_is_is_not_forgotten() -> None:
    made = window_of([(0, 6.0), (1, 7.0)])
    later_ms = NOW + 1000 * MINUTE
    made.forget(later_ms)
    assert made.states(later_ms)["jobs"] == SourceState(None, later_ms - START - 1)


# what conditions read


def view_of(running: dict[str, int]) -> SwarmView:
    """Services seen in every slot with as many tasks as are said to run, since long ago."""
    view = SwarmView()
    names = [f"{name}.{number}" for name, count in running.items() for number in range(count)]
    whole = inventory(
        services=[service(name) for name in running],
        tasks=[task(name, of=name.partition(".")[0]) for name in names],
        clock_ms=START - STEP,
    )
    view.fold(whole, START - STEP)
    for slot in range(SLOTS):
        at_ms = START + slot * STEP
        view.fold(inventory(keyframe=False, clock_ms=at_ms), at_ms)
    return view


def frame_of(told: SourceWindow, view: SwarmView, *, now_ms: int = NOW) -> Frame:
    services = [view.services[name] for name in sorted(view.services)]
    samples = Window([], step_ms=STEP, longest_ms=OVER)
    rows = TaskRows(samples, services, view.spans, warm_up_ms=0)
    nodes = NodeWindow(step_ms=STEP, mean_ms=STEP, longest_ms=STEP)
    series = ServiceSeries(view, rows, nodes, services, Limits())
    return Frame(rows, series, told, now_ms=now_ms, step_ms=STEP)


def row(values: Sequence[float | None]) -> SourceWindow:
    """One value per slot, which holds for that slot only."""
    told = [(place * STEP, value) for place, value in enumerate(values) if value is not None]
    return window_of(told, stale_after_ms=STEP)


def read(
    values: Sequence[float | None], condition: SourceCondition, *, running: int = 2
) -> Reading:
    return frame_of(row(values), view_of({"web": running})).read(condition).of("web")


VALUES = [10.0, 20.0, 30.0, 60.0, 50.0]


@pytest.mark.parametrize(
    ("over_time", "value"),
    [
        (Aggregate.MEAN, 34.0),
        (Aggregate.MAX, 60.0),
        (Aggregate.MIN, 10.0),
        (Aggregate.P50, 30.0),
        (Aggregate.P90, 56.0),
        (Aggregate.LAST, 50.0),
        (Aggregate.SLOPE, 144.0),
        (Aggregate.FORECAST, 70.0),
        (Aggregate.RATE, 5.0),
    ],
)
def test_a_source_is_read_over_time(over_time: Aggregate, value: float) -> None:
    condition = source_condition(over_ms=OVER, over_time=over_time, ahead_ms=STEP)
    assert read(VALUES, condition).value == value


@pytest.mark.parametrize(
    ("comparison", "values", "reading"),
    [
        (Comparison.ABOVE, [90, 90, 90, 90, 90], Reading(Verdict.TRUE, 90.0)),
        (Comparison.ABOVE, [90, 90, None, 90, 90], Reading(Verdict.TRUE, 72.0)),
        (Comparison.AT_LEAST, [60, 60, None, 60, 60], Reading(Verdict.FALSE, 48.0)),
        (Comparison.ABOVE, [90, None, None, 90, 90], NO_DATA),
        (Comparison.BELOW, [9, 9, 9, 9, 9], Reading(Verdict.TRUE, 9.0)),
        (Comparison.BELOW, [9, 9, None, 9, 9], NO_DATA),
        (Comparison.AT_MOST, [9, 9, None, 9, 9], NO_DATA),
        (Comparison.BELOW, [None] * 5, NO_DATA),
        (Comparison.ABOVE, [None] * 5, NO_DATA),
    ],
)
def test_a_gap_counts_as_0_for_a_high_condition_and_is_no_data_for_a_low_one(
    comparison: Comparison, values: list[float | None], reading: Reading
) -> None:
    assert read(values, source_condition(over_ms=OVER, comparison=comparison)) == reading


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("over_time", [Aggregate.SLOPE, Aggregate.FORECAST, Aggregate.RATE])
def test_a_line_and_a_rate_need_every_value(over_time: Aggregate, comparison: Comparison) -> None:
    condition = source_condition("jobs", OVER, comparison, 0.0, over_time, ahead_ms=MINUTE)
    assert read(VALUES, condition).verdict is not Verdict.NO_DATA
    assert read([None, *VALUES[1:]], condition) == NO_DATA
    short = dataclasses.replace(condition, over_ms=STEP)
    assert read(VALUES, short) == NO_DATA


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize(("newest", "value"), [(80.0, 80.0), (0.0, 0.0), (None, None)])
def test_the_last_value_is_that_of_the_newest_slot_or_none(
    comparison: Comparison, newest: float | None, value: float | None
) -> None:
    """What would stand in for it is all that there would be: an alarm would end on it."""
    condition = source_condition("jobs", OVER, comparison, 50.0, Aggregate.LAST)
    reading = read([90.0] * 4 + [newest], condition)
    assert (None if reading == NO_DATA else reading.value) == value


huge = st.sampled_from([0.0, 1e15, 1e306, 1.7e308])


@pytest.mark.parametrize("per_task", [False, True])
@pytest.mark.parametrize("over_time", Aggregate)
@pytest.mark.parametrize("comparison", Comparison)
@settings(max_examples=10)
@given(values=st.lists(huge, min_size=SLOTS, max_size=SLOTS))
def test_no_value_however_large_is_read_as_one_without_end(
    comparison: Comparison, over_time: Aggregate, *, values: list[float], per_task: bool
) -> None:
    condition = source_condition(
        "jobs", OVER, comparison, 50.0, over_time, ahead_ms=24 * 60 * MINUTE, per_task=per_task
    )
    assert math.isfinite(read(values, condition).value)


def test_every_service_reads_the_same_figure_and_per_task_its_share() -> None:
    view = view_of({"api": 4, "idle": 0, "web": 2})
    plain, shared = source_condition(over_ms=OVER), source_condition(over_ms=OVER, per_task=True)
    frame = frame_of(row([60.0] * SLOTS), view)
    whole = Reading(Verdict.TRUE, 60.0)
    assert [frame.read(plain).of(each) for each in ("api", "idle", "web")] == [whole] * 3
    assert frame.read(plain).of("unknown") == NO_DATA
    read_as = [frame.read(shared).of(each) for each in ("api", "idle", "web")]
    assert read_as == [Reading(Verdict.FALSE, 15.0), NO_DATA, Reading(Verdict.FALSE, 30.0)]
    nobody = frame_of(row([60.0] * SLOTS), SwarmView())
    assert nobody.read(plain).of("web") == nobody.read(shared).of("web") == NO_DATA


def test_per_task_each_slot_is_divided_by_the_tasks_that_ran_in_it() -> None:
    view = view_of({"web": 3})
    failed = [
        task(f"web.{number}", state="failed", index=11, since_ms=START + slot * STEP)
        for number, slot in ((0, 2), (1, 4))
    ]
    shown = inventory(tasks=failed, keyframe=False, clock_ms=NOW - 1)
    view.fold(shown, NOW - 1)
    condition = source_condition(over_ms=OVER, per_task=True)
    # 60 by 3, 3, 2, 2, 1
    assert frame_of(row([60.0] * SLOTS), view).read(condition).of("web").value == 32.0


@pytest.mark.parametrize(
    ("stopped", "above", "below"),
    [
        (1, Reading(Verdict.FALSE, 48.0), NO_DATA),
        (2, NO_DATA, NO_DATA),
    ],
)
def test_per_task_without_a_task_there_is_no_figure(
    stopped: int, above: Reading, below: Reading
) -> None:
    view = view_of({"web": 1})
    over = task("web.0", state="failed", index=11, since_ms=NOW - stopped * STEP)
    view.fold(inventory(tasks=[over], keyframe=False, clock_ms=NOW - 1), NOW - 1)
    frame = frame_of(row([60.0] * SLOTS), view)
    for comparison, reading in ((Comparison.ABOVE, above), (Comparison.BELOW, below)):
        condition = source_condition("jobs", OVER, comparison, 60.0, per_task=True)
        assert frame.read(condition).of("web") == reading


def test_per_task_a_time_without_an_inventory_is_missing() -> None:
    """Tasks that nobody told of may have run, and had their share."""
    view = SwarmView()
    whole = inventory(services=[service()], tasks=[task("web.0")], clock_ms=NOW - 2 * STEP)
    view.fold(whole, NOW - 2 * STEP)
    frame = frame_of(row([60.0] * SLOTS), view)
    assert frame.read(source_condition(over_ms=OVER, per_task=True)).of("web") == NO_DATA
    assert frame.read(source_condition(over_ms=OVER)).of("web").verdict is Verdict.TRUE


@pytest.mark.parametrize("level", [1e9 / 3, 7e12 / 3, 1e15 / 7])
def test_an_even_level_has_no_slope_however_high_it_is(level: float) -> None:
    for comparison in (Comparison.ABOVE, Comparison.BELOW):
        condition = source_condition("jobs", OVER, comparison, 0.0, Aggregate.SLOPE)
        assert read([level] * SLOTS, condition) == Reading(Verdict.FALSE, 0.0)


def test_the_slope_of_small_figures_is_not_rounded_away() -> None:
    condition = source_condition("jobs", OVER, Comparison.ABOVE, 0.0, Aggregate.SLOPE)
    assert read([0.001 * place for place in range(SLOTS)], condition).value == 0.012


present = st.sampled_from([0.0, 0.5, 1.0, 20.0, 50.0, 64.0, 120.0, 1000.0])


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("aggregate", Aggregate)
@settings(max_examples=15)
@given(
    values=st.lists(present, min_size=SLOTS, max_size=SLOTS),
    threshold=st.sampled_from([-20.0, 0.0, 20.0, 50.0, 130.0]),
    per_task=st.booleans(),
    lost=st.permutations(range(SLOTS)),
)
def test_a_slot_without_a_value_never_turns_what_is_not_true_into_true(
    aggregate: Aggregate,
    comparison: Comparison,
    values: list[float],
    threshold: float,
    *,
    per_task: bool,
    lost: list[int],
) -> None:
    condition = source_condition(
        "jobs", OVER, comparison, threshold, aggregate, ahead_ms=MINUTE, per_task=per_task
    )
    view = view_of({"web": 2})
    thinned: list[float | None] = list(values)
    before = frame_of(row(thinned), view).read(condition).of("web").verdict
    for place in lost:
        thinned[place] = None
        after = frame_of(row(thinned), view).read(condition).of("web").verdict
        assert after is not Verdict.TRUE or before is Verdict.TRUE
        before = after


def test_an_answer_to_another_question_of_the_same_name_does_not_count() -> None:
    made = window_of([(0, 7.0)])
    made.fold(dataclasses.replace(source_value(9.0), definition="other"), START + 1)
    assert figures(made)[0] == 7.0
