"""What conditions read of services, against a slow and obvious reference; missing data is never
bolder than data.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.core.limits import Limits
from autoheal.core.rule import (
    OVER_TASKS,
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    MetricCondition,
    SourceCondition,
    leaves,
    negated,
)
from autoheal.core.view.node_window import NodeWindow
from autoheal.core.view.readings import Frame, Reading
from autoheal.core.view.service_series import ServiceSeries
from autoheal.core.view.source_window import SourceWindow
from autoheal.core.view.swarm_view import Span, SwarmView
from autoheal.core.view.task_rows import TaskRows
from autoheal.core.view.window import Window
from autoheal.metrics import METRICS
from autoheal.model import Service, Verdict
from builders import (
    LONG_AGO,
    MINUTE,
    NOW,
    STEP,
    batch,
    metric_condition,
    roster_row,
    service,
    task,
)

SLOTS = 5
SLOT = NOW // STEP
OVER = SLOTS * STEP
# task -> per slot of the window, oldest first, the measured figure or None
Samples = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class World:
    """Some services' tasks and what was measured of them, in the units of the measured metric."""

    samples: Samples
    services: tuple[Service, ...] = (service(),)
    ages_ms: Mapping[str, int] | None = None
    ended_ms: Mapping[str, int] | None = None

    def owner(self, name: str) -> str:
        return name.partition(".")[0]

    def span(self, name: str) -> Span:
        age_ms = (self.ages_ms or {}).get(name, NOW - LONG_AGO)
        ended_ms = (self.ended_ms or {}).get(name)
        return Span(task(name, of=self.owner(name)), NOW - age_ms, ended_ms)


def measured_name(metric: str) -> str:
    return next(each.numerator or each.name for each in METRICS if each.name == metric)


def frame_of(
    window: Window,
    services: Sequence[Service],
    spans: Mapping[str, Span],
    *,
    now_ms: int,
    warm_up_ms: int = 0,
) -> Frame:
    """A frame over tasks only: of the services themselves nothing was seen."""
    rows = TaskRows(window, services, spans, warm_up_ms=warm_up_ms)
    nodes = NodeWindow(step_ms=STEP, mean_ms=STEP, longest_ms=STEP)
    series = ServiceSeries(SwarmView(), rows, nodes, services, Limits())
    sources = SourceWindow((), step_ms=STEP, longest_ms=STEP)
    return Frame(rows, series, sources, now_ms=now_ms, step_ms=STEP)


def read(
    world: World,
    condition: MetricCondition,
    *,
    order: Callable[[Sequence[str]], Sequence[str]] = sorted,
    warm_up_ms: int = 0,
) -> dict[str, Reading]:
    """Through a real window: each task on a node of its own, folded in the given order."""
    by_id = {each.id: each for each in world.services}
    window = Window([condition.metric], step_ms=STEP, longest_ms=OVER)
    metrics = [measured_name(condition.metric)]
    for name in order(list(world.samples)):
        owner = by_id[world.owner(name)]
        row = roster_row(
            name, of=owner.id, cpu_limit=owner.cpu_limit, memory_limit=owner.memory_limit
        )
        for index, value in enumerate(world.samples[name]):
            if value is not None:
                at_ms = (SLOT - SLOTS + index) * STEP
                made = batch({name: [value]}, [row], metrics=metrics, node_id=name)
                window.fold(made, at_ms, by_id, 1)
    spans = {name: world.span(name) for name in order(list(world.samples))}
    frame = frame_of(window, world.services, spans, now_ms=NOW, warm_up_ms=warm_up_ms)
    readings = frame.read(condition)
    return {each.id: readings.of(each.id) for each in world.services}


# the reference: plain lists, one service at a time

# Each slot's distance from the middle of the window, in minutes.
DISTANCES = [(index - (SLOTS - 1) / 2) * STEP / MINUTE for index in range(SLOTS)]


def at_share(share: float) -> Callable[[Sequence[float]], float]:
    """A percentile: between the two closest ranks, in proportion."""

    def of(values: Sequence[float]) -> float:
        rank = share * (len(values) - 1)
        below = math.floor(rank)
        low, high = sorted(values)[below], sorted(values)[math.ceil(rank)]
        return low + (high - low) * (rank - below)

    return of


def slope_of(values: Sequence[float]) -> float:
    weighted = sum(distance * value for distance, value in zip(DISTANCES, values, strict=True))
    return weighted / sum(distance * distance for distance in DISTANCES)


def rate_of(values: Sequence[float]) -> float:
    rises = [now - old if now >= old else now for old, now in itertools.pairwise(values)]
    return sum(rises) * 1000 / ((len(values) - 1) * STEP)


AGGREGATES: dict[Aggregate, Callable[[Sequence[float]], float]] = {
    Aggregate.MEAN: lambda values: sum(values) / len(values),
    Aggregate.MAX: max,
    Aggregate.MIN: min,
    Aggregate.P50: at_share(0.5),
    Aggregate.P90: at_share(0.9),
    Aggregate.P95: at_share(0.95),
    Aggregate.P99: at_share(0.99),
    Aggregate.LAST: lambda values: values[-1],
    Aggregate.SLOPE: slope_of,
    Aggregate.RATE: rate_of,
}
LINES = (Aggregate.SLOPE, Aggregate.FORECAST)


def over_time(condition: MetricCondition, values: Sequence[float]) -> float:
    if condition.over_time is not Aggregate.FORECAST:
        return AGGREGATES[condition.over_time](values)
    distance = DISTANCES[-1] + condition.ahead_ms / MINUTE
    return sum(values) / len(values) + slope_of(values) * distance


def rises_with(condition: MetricCondition, slot: int) -> bool:
    """Whether a higher figure in this slot makes the line's value higher."""
    alone = [float(index == slot) for index in range(SLOTS)]
    return over_time(condition, alone) > 1e-9


HOLDS: dict[Comparison, Callable[[float, float], bool]] = {
    Comparison.ABOVE: lambda value, bound: value > bound,
    Comparison.BELOW: lambda value, bound: value < bound,
    Comparison.AT_LEAST: lambda value, bound: value >= bound,
    Comparison.AT_MOST: lambda value, bound: value <= bound,
}
CAPPED = {"throttled_percent", "cpu_percent", "memory_percent"}


def figure(metric: str, value: float | None, of: Service) -> float | None:
    """The metric from what was measured, by its definition."""
    if value is None:
        return None
    if metric == "cpu_percent":
        return 100 * value / (of.cpu_limit or of.cpu_reservation or 4.0)
    if metric == "memory_percent":
        return None if of.memory_limit is None else 100 * value / of.memory_limit
    return value


def is_bounded(metric: str, of: Service) -> bool:
    if metric == "cpu_percent":
        return of.cpu_limit is not None
    if metric == "memory_percent":
        return of.memory_limit is not None
    return metric in CAPPED


def ready_figures(
    world: World, metric: str, of: Service, index: int, warm_up_ms: int
) -> list[float | None]:
    """What the tasks that were ready in a slot showed, by task id."""
    begin_ms = (SLOT - SLOTS + index) * STEP
    ready = []
    for name in sorted(world.samples):
        span = world.span(name)
        assert span.running_from_ms is not None
        is_ready = span.running_from_ms + warm_up_ms <= begin_ms
        still = span.ended_ms is None or begin_ms + STEP <= span.ended_ms
        if world.owner(name) == of.id and is_ready and still:
            ready.append(figure(metric, world.samples[name][index], of))
    return ready


def rounded(condition: MetricCondition, value: float) -> float:
    changes = (*LINES, Aggregate.RATE)
    if condition.metric == "memory_bytes" and condition.over_time in changes:
        return round(value)
    return round(value, 6 if condition.over_time in (Aggregate.SLOPE, Aggregate.RATE) else 3)


def expected(
    world: World, condition: MetricCondition, of: Service, *, warm_up_ms: int = 0
) -> tuple[Verdict, float]:
    high = condition.comparison in (Comparison.ABOVE, Comparison.AT_LEAST)
    line, rate = condition.over_time in LINES, condition.over_time is Aggregate.RATE
    needs_cap = line or rate or not high
    bounded = is_bounded(condition.metric, of) and not rate
    cap = 100.0 if line else max(100.0, condition.threshold)
    per_slot, sampled_slots, gap, sampled = [], 0, False, False
    for index in range(SLOTS):
        ready = ready_figures(world, condition.metric, of, index, warm_up_ms)
        fill = cap if (not line or rises_with(condition, index)) is not high else 0.0
        gap = gap or None in ready or not ready
        sampled = any(value is not None for value in ready)
        sampled_slots += sampled
        filled = [fill if value is None else value for value in ready]
        if bounded and needs_cap:
            filled = [min(value, cap) for value in filled]
        per_slot.append(AGGREGATES[condition.over_tasks](filled) if sampled else fill)
    if sampled_slots < 0.8 * SLOTS or (gap and needs_cap and not bounded):
        return Verdict.NO_DATA, 0.0
    if condition.over_time is Aggregate.LAST and not sampled:
        return Verdict.NO_DATA, 0.0
    value = rounded(condition, over_time(condition, per_slot))
    holds = HOLDS[condition.comparison](value, condition.threshold)
    return (Verdict.TRUE if holds else Verdict.FALSE), value


# strategies: figures that are exact in binary, so that the reference rounds alike

conditions = st.builds(
    metric_condition,
    st.sampled_from([each.name for each in METRICS if not each.of_service]),
    st.sampled_from([OVER, OVER - 1, OVER - STEP + 1]),
    st.sampled_from(Comparison),
    st.sampled_from([-20.0, 0.0, 5.0, 20.0, 50.0, 100.0, 130.0]),
    st.sampled_from(OVER_TASKS),
    st.sampled_from(Aggregate),
    st.sampled_from([0, STEP, 2 * MINUTE]),
)
limited = st.sampled_from(
    [
        service(cpu_limit=1.0, memory_limit=128),
        service(cpu_limit=None, cpu_reservation=2.0, memory_limit=None),
        service(cpu_limit=None, memory_limit=64),
    ]
)
present = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 20.0, 50.0, 64.0, 120.0, 150.0])
values = st.none() | present
series = st.lists(values, min_size=SLOTS, max_size=SLOTS)
ages = st.sampled_from([NOW - LONG_AGO, OVER, OVER - 1, 2 * STEP, 0, -STEP])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = [f"web.{number}" for number in range(draw(st.integers(0, 3)))]
    ended = {name: NOW - draw(st.integers(0, 6)) * STEP // 2 for name in names}
    return World(
        samples={name: draw(series) for name in names},
        services=(draw(limited),),
        ages_ms={name: draw(ages) for name in names} if draw(st.booleans()) else None,
        ended_ms=ended if draw(st.integers(0, 3)) == 0 else None,
    )


@pytest.mark.parametrize("aggregate", Aggregate)
@given(worlds(), conditions)
def test_readings_are_those_of_the_obvious_reference(
    aggregate: Aggregate, world: World, asked: MetricCondition
) -> None:
    condition = dataclasses.replace(asked, over_time=aggregate)
    verdict, value = expected(world, condition, world.services[0])
    reading = read(world, condition)["web"]
    assert reading.verdict is verdict
    if verdict is not Verdict.NO_DATA:
        assert reading.value == pytest.approx(value, abs=0.0011)


full = st.lists(present, min_size=SLOTS, max_size=SLOTS)


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("aggregate", Aggregate)
@settings(max_examples=15)
@given(st.lists(full, min_size=1, max_size=3), conditions, limited, st.data())
def test_removing_a_sample_never_turns_what_is_not_true_into_true(
    aggregate: Aggregate,
    comparison: Comparison,
    figures: list[list[float]],
    asked: MetricCondition,
    of: Service,
    data: st.DataObject,
) -> None:
    condition = dataclasses.replace(asked, over_time=aggregate, comparison=comparison)
    whole = World({f"web.{n}": row for n, row in enumerate(figures)}, (of,))
    before = read(whole, condition)["web"].verdict
    places = [(n, slot) for n in range(len(figures)) for slot in range(SLOTS)]
    thinned = {name: list(row) for name, row in whole.samples.items()}
    for number, slot in data.draw(st.lists(st.sampled_from(places), max_size=6)):
        thinned[f"web.{number}"][slot] = None
        after = read(World(thinned, (of,)), condition)["web"].verdict
        assert after is not Verdict.TRUE or before is Verdict.TRUE
        before = after


combined: st.SearchStrategy[Condition] = st.recursive(
    conditions,
    lambda inner: st.builds(
        Combined, st.sampled_from(Combinator), st.lists(inner, min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=4,
)


def holds(condition: Condition, world: World) -> bool:
    """Whether it is TRUE, by Kleene: what is unknown is not TRUE, alone or in company."""
    match condition:
        case Combined(Combinator.ALL, conditions):
            return all(holds(each, world) for each in conditions)
        case Combined(Combinator.ANY, conditions):
            return any(holds(each, world) for each in conditions)
        case MetricCondition():
            return read(world, condition)["web"].verdict is Verdict.TRUE
        case Combined() | EventCondition() | SourceCondition():
            raise AssertionError(condition)


@given(st.lists(full, min_size=1, max_size=2), combined, st.booleans(), limited, st.data())
def test_nor_does_it_where_conditions_are_joined_or_negated(
    figures: list[list[float]], asked: Condition, negate: bool, of: Service, data: st.DataObject
) -> None:
    condition = negated(asked) if negate else asked
    whole = World({f"web.{n}": row for n, row in enumerate(figures)}, (of,))
    before = holds(condition, whole)
    places = [(n, slot) for n in range(len(figures)) for slot in range(SLOTS)]
    thinned = {name: list(row) for name, row in whole.samples.items()}
    for number, slot in data.draw(st.lists(st.sampled_from(places), max_size=3)):
        thinned[f"web.{number}"][slot] = None
        after = holds(condition, World(thinned, (of,)))
        assert before or not after
        before = after


@given(worlds(), combined)
def test_what_is_known_whole_is_true_or_its_negation_is(world: World, asked: Condition) -> None:
    """Never both, and with data for every leaf one of them.

    But for figures above the cap: a low condition cuts them, so that they can be told two ways.
    """
    tame = all(row is None or row <= 1.0 for rows in world.samples.values() for row in rows)
    both = (holds(asked, world), holds(negated(asked), world))
    assert both != (True, True) or not tame
    readings = [
        read(world, leaf)["web"]
        for side in (asked, negated(asked))
        for leaf in leaves(side)
        if isinstance(leaf, MetricCondition)
    ]
    is_whole = all(row is not None for rows in world.samples.values() for row in rows)
    no_data = any(reading.verdict is Verdict.NO_DATA for reading in readings)
    warm = world.ages_ms is None and world.ended_ms is None and world.samples
    if is_whole and warm and tame and not no_data:
        assert any(both)


@given(worlds(), conditions, st.randoms(use_true_random=False))
def test_the_order_in_which_things_arrive_does_not_matter(
    world: World, condition: MetricCondition, chance: object
) -> None:
    def shuffled(names: Sequence[str]) -> Sequence[str]:
        turned = list(names)
        chance.shuffle(turned)  # type: ignore[attr-defined]  # numpy's and io's own
        return turned

    assert read(world, condition, order=shuffled) == read(world, condition)


@given(
    st.lists(st.floats(0, 100, width=32), min_size=2, max_size=8),
    st.sampled_from([Comparison.ABOVE, Comparison.AT_LEAST]),
)
def test_the_order_of_addition_does_not_show(figures: list[float], comparison: Comparison) -> None:
    """The same figures under other task ids: the sum's last bits differ, the reading does not."""
    condition = metric_condition("throttled_percent", OVER, comparison, 50.0)
    forth = World({f"web.{n}": [value] * SLOTS for n, value in enumerate(figures)})
    back = World({f"web.{n}": [value] * SLOTS for n, value in enumerate(reversed(figures))})
    assert read(forth, condition)["web"].value == pytest.approx(
        read(back, condition)["web"].value, abs=0.0011
    )


# edges by hand


def of_one(row: Sequence[float | None], condition: MetricCondition, **more: object) -> Reading:
    owner = more.pop("of", service())
    assert isinstance(owner, Service)
    world = World({"web.1": row}, (owner,), **more)  # type: ignore[arg-type]  # any field by name
    return read(world, condition)["web"]


@pytest.mark.parametrize(
    ("comparison", "value", "verdict"),
    [
        (Comparison.ABOVE, 49.999, Verdict.FALSE),
        (Comparison.ABOVE, 50.0, Verdict.FALSE),
        (Comparison.ABOVE, 50.001, Verdict.TRUE),
        (Comparison.AT_LEAST, 49.999, Verdict.FALSE),
        (Comparison.AT_LEAST, 50.0, Verdict.TRUE),
        (Comparison.BELOW, 50.0, Verdict.FALSE),
        (Comparison.BELOW, 49.999, Verdict.TRUE),
        (Comparison.AT_MOST, 50.001, Verdict.FALSE),
        (Comparison.AT_MOST, 50.0, Verdict.TRUE),
        # less than half of the last digit is not seen
        (Comparison.ABOVE, 50.0004, Verdict.FALSE),
        (Comparison.AT_LEAST, 49.9996, Verdict.TRUE),
    ],
)
def test_figures_are_compared_to_three_decimals(
    comparison: Comparison, value: float, verdict: Verdict
) -> None:
    condition = metric_condition("throttled_percent", OVER, comparison, 50.0)
    assert of_one([value] * SLOTS, condition).verdict is verdict


@pytest.mark.parametrize(
    ("missing", "verdict"), [(0, Verdict.TRUE), (1, Verdict.TRUE), (2, Verdict.NO_DATA)]
)
@pytest.mark.parametrize(
    "condition",
    [
        metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0),
        metric_condition("throttled_percent", OVER, Comparison.BELOW, 99.0),
    ],
)
def test_less_than_four_slots_of_five_is_no_data(
    missing: int, verdict: Verdict, condition: MetricCondition
) -> None:
    row = [None] * missing + [50.0] * (SLOTS - missing)
    assert of_one(row, condition).verdict is verdict


@pytest.mark.parametrize("comparison", Comparison)
def test_the_last_of_a_gap_is_no_data(comparison: Comparison) -> None:
    condition = metric_condition(
        "throttled_percent", OVER, comparison, 50.0, over_time=Aggregate.LAST
    )
    assert of_one([90.0] * 4 + [None], condition) == Reading(Verdict.NO_DATA, 0.0)
    assert of_one([None, 90.0, 90.0, 90.0, 60.0], condition).value == 60.0


def test_a_threshold_that_cannot_be_added_up_is_no_data_where_it_is_filled_in() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.BELOW, 1.7e308)
    assert of_one([40.0] * 4 + [None], condition) == Reading(Verdict.NO_DATA, 0.0)


def test_coverage_counts_slots_and_not_tasks() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    samples: Samples = {"web.1": [90.0] * SLOTS, "web.2": [None] * SLOTS, "web.3": [None] * SLOTS}
    assert read(World(samples), condition)["web"] == Reading(Verdict.TRUE, 30.0)


@pytest.mark.parametrize(
    ("comparison", "threshold", "value"),
    [
        (Comparison.ABOVE, 30.0, 20.0),
        (Comparison.AT_LEAST, 30.0, 20.0),
        (Comparison.BELOW, 30.0, 70.0),
        (Comparison.AT_MOST, 30.0, 70.0),
        (Comparison.BELOW, 120.0, 80.0),
    ],
)
def test_a_missing_task_counts_as_the_value_least_favourable(
    comparison: Comparison, threshold: float, value: float
) -> None:
    condition = metric_condition("throttled_percent", OVER, comparison, threshold)
    samples: Samples = {"web.1": [40.0] * SLOTS, "web.2": [None] * SLOTS}
    assert read(World(samples), condition)["web"].value == value


@pytest.mark.parametrize(
    ("comparison", "over_time", "value"),
    [
        (Comparison.ABOVE, Aggregate.MEAN, 32.0),
        (Comparison.ABOVE, Aggregate.MIN, 0.0),
        (Comparison.ABOVE, Aggregate.MAX, 40.0),
        (Comparison.BELOW, Aggregate.MEAN, 52.0),
        (Comparison.BELOW, Aggregate.MIN, 40.0),
        (Comparison.BELOW, Aggregate.MAX, 100.0),
    ],
)
def test_a_missing_slot_counts_as_the_value_least_favourable(
    comparison: Comparison, over_time: Aggregate, value: float
) -> None:
    condition = metric_condition("throttled_percent", OVER, comparison, 50.0, over_time=over_time)
    assert of_one([40.0, 40.0, None, 40.0, 40.0], condition).value == value


@pytest.mark.parametrize("comparison", [Comparison.BELOW, Comparison.AT_MOST])
@pytest.mark.parametrize(
    ("metric", "of"),
    [
        ("cpu_cores", service()),
        ("memory_bytes", service()),
        ("pids", service()),
        ("cpu_percent", service(cpu_limit=None)),
        ("cpu_percent", service(cpu_limit=None, cpu_reservation=1.0)),
    ],
)
def test_where_nothing_bounds_a_figure_a_gap_below_is_no_data(
    comparison: Comparison, metric: str, of: Service
) -> None:
    condition = metric_condition(metric, OVER, comparison, 90.0)
    assert of_one([0.25] * SLOTS, condition, of=of).verdict is Verdict.TRUE
    gap = [0.25, 0.25, None, 0.25, 0.25]
    assert of_one(gap, condition, of=of).verdict is Verdict.NO_DATA
    two = World({"web.1": [0.25] * SLOTS, "web.2": gap}, (of,))
    assert read(two, condition)["web"].verdict is Verdict.NO_DATA


def test_memory_percent_without_a_limit_is_no_data() -> None:
    for comparison in Comparison:
        condition = metric_condition("memory_percent", OVER, comparison, 50.0)
        reading = of_one([1.0] * SLOTS, condition, of=service(memory_limit=None))
        assert reading.verdict is Verdict.NO_DATA


@pytest.mark.parametrize(
    ("age_ms", "warm_up_ms", "value"),
    [
        (OVER, 0, 75.0),
        (MINUTE + OVER, MINUTE, 75.0),
        (MINUTE + OVER - 1, MINUTE, 70.0),
        (MINUTE, MINUTE, 50.0),
        (MINUTE - 1, MINUTE, 50.0),
    ],
)
def test_a_task_counts_in_the_slots_that_begin_after_its_warm_up(
    age_ms: int, warm_up_ms: int, value: float
) -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    world = World({"web.1": [50.0] * SLOTS, "web.2": [100.0] * SLOTS}, ages_ms={"web.2": age_ms})
    assert read(world, condition, warm_up_ms=warm_up_ms)["web"].value == value


@pytest.mark.parametrize(
    ("ended_before_ms", "value"), [(-1, 75.0), (0, 75.0), (1, 70.0), (STEP, 70.0), (OVER, 50.0)]
)
def test_an_ended_task_counts_in_the_slots_that_it_filled(
    ended_before_ms: int, value: float
) -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    world = World(
        {"web.1": [50.0] * SLOTS, "web.2": [100.0] * SLOTS},
        ended_ms={"web.2": NOW - ended_before_ms},
    )
    assert read(world, condition)["web"].value == value


def test_a_service_whose_tasks_are_all_warming_up_is_no_data() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    world = World({"web.1": [50.0] * SLOTS})
    assert read(world, condition, warm_up_ms=NOW)["web"].verdict is Verdict.NO_DATA


def test_a_service_without_a_task_and_an_unknown_one_are_no_data() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.BELOW, 10.0)
    world = World({"web.1": [5.0] * SLOTS}, (service(), service("idle")))
    assert read(world, condition)["idle"] == Reading(Verdict.NO_DATA, 0.0)
    assert read(World({}), condition)["web"].verdict is Verdict.NO_DATA


def test_a_task_of_a_service_that_is_gone_is_passed_over() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    window = Window([condition.metric], step_ms=STEP, longest_ms=OVER)
    spans = {"a": Span(task("a", of="gone"), LONG_AGO, None), "b": Span(task("b"), None, None)}
    frame = frame_of(window, [service()], spans, now_ms=NOW)
    assert frame.read(condition).positions == {}


def test_the_slot_now_being_filled_does_not_count() -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    window = Window([condition.metric], step_ms=STEP, longest_ms=OVER)
    for slot in range(SLOT - SLOTS, SLOT + 1):
        value = 99.0 if slot == SLOT else 50.0
        made = batch({"web.1": [value]}, [roster_row()], metrics=["throttled_percent"])
        window.fold(made, slot * STEP, {}, 1)
    spans = {"web.1": Span(task(), LONG_AGO, None)}
    for now_ms, value in ((NOW + STEP - 1, 50.0), (NOW + STEP, 59.8)):
        frame = frame_of(window, [service()], spans, now_ms=now_ms)
        assert frame.read(condition).of("web").value == value


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, key=lambda n: n[::-1])])
def test_services_do_not_see_each_others_tasks(
    order: Callable[[Sequence[str]], Sequence[str]],
) -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0)
    names = ["a.1", "a.2", "b.1", "c.1", "c.2"]
    world = World(
        {name: [10.0 * number] * SLOTS for number, name in enumerate(names)},
        (service("a"), service("b"), service("c")),
    )
    found = {name: each.value for name, each in read(world, condition, order=order).items()}
    assert found == {"a": 5.0, "b": 20.0, "c": 35.0}


@pytest.mark.parametrize("metric", ["cpu_percent", "memory_percent", "throttled_percent"])
def test_what_a_limit_bounds_is_filled_in_below_too(metric: str) -> None:
    condition = metric_condition(metric, OVER, Comparison.BELOW, 60.0)
    full_figure = {"cpu_percent": 0.5, "memory_percent": 64.0, "throttled_percent": 50.0}[metric]
    row = [full_figure, full_figure, None, full_figure, full_figure]
    of = service(cpu_limit=1.0, memory_limit=128)
    assert of_one(row, condition, of=of) == Reading(Verdict.FALSE, 60.0)


@pytest.mark.parametrize(
    ("comparison", "value"), [(Comparison.ABOVE, 40.0), (Comparison.BELOW, 60.0)]
)
@pytest.mark.parametrize("over_tasks", OVER_TASKS)
def test_a_slot_before_any_task_was_ready_counts_as_missing(
    over_tasks: Aggregate, comparison: Comparison, value: float
) -> None:
    condition = metric_condition("throttled_percent", OVER, comparison, 10.0, over_tasks)
    world = World({"web.1": [50.0] * SLOTS}, ages_ms={"web.1": OVER - STEP})
    assert read(world, condition)["web"].value == value


@pytest.mark.parametrize("over_tasks", OVER_TASKS)
def test_a_task_that_is_not_ready_weighs_nothing(over_tasks: Aggregate) -> None:
    condition = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 10.0, over_tasks)
    for strange in (0.0, 100.0):
        world = World({"web.1": [50.0] * SLOTS, "web.2": [strange] * SLOTS}, ages_ms={"web.2": 0})
        assert read(world, condition)["web"].value == 50.0


def test_a_window_shorter_than_a_step_is_one_slot() -> None:
    condition = metric_condition("throttled_percent", 1, Comparison.ABOVE, 10.0)
    assert of_one([0.0, 0.0, 0.0, 0.0, 50.0], condition).value == 50.0


def test_figures_above_the_cap_are_cut_for_a_low_condition_only() -> None:
    over = [150.0] * SLOTS
    low = metric_condition("throttled_percent", OVER, Comparison.BELOW, 20.0)
    high = metric_condition("throttled_percent", OVER, Comparison.ABOVE, 20.0)
    assert of_one(over, low).value == 100.0
    assert math.isclose(of_one(over, high).value, 150.0)


def test_figures_that_nothing_caps_are_not_cut_for_a_low_condition() -> None:
    """A share of the node may pass 100 %: one busy slot of five is no idle service."""
    condition = metric_condition("cpu_percent", OVER, Comparison.BELOW, 50.0)
    of = service(cpu_limit=None, cpu_reservation=1.0)
    assert of_one([0.0, 0.0, 0.0, 0.0, 4.0], condition, of=of) == Reading(Verdict.FALSE, 80.0)


# slopes


def slope(
    metric: str = "throttled_percent",
    comparison: Comparison = Comparison.ABOVE,
    threshold: float = 100.0,
) -> MetricCondition:
    return metric_condition(metric, OVER, comparison, threshold, over_time=Aggregate.SLOPE)


@pytest.mark.parametrize(
    ("row", "per_minute"),
    [
        ([10.0, 20.0, 30.0, 40.0, 50.0], 120.0),
        ([50.0, 40.0, 30.0, 20.0, 10.0], -120.0),
        ([30.0] * SLOTS, 0.0),
        ([0.0, 0.0, 90.0, 0.0, 0.0], 0.0),
        ([0.0, 0.0, 0.0, 0.0, 10.0], 24.0),
    ],
)
def test_a_slope_is_that_of_the_best_line_per_minute(row: list[float], per_minute: float) -> None:
    assert of_one(row, slope()).value == per_minute


@pytest.mark.parametrize(
    ("comparison", "row", "value"),
    [
        # high: early gaps count as full, late ones as empty
        (Comparison.ABOVE, [None, 20.0, 30.0, 40.0, 50.0], -96.0),
        (Comparison.ABOVE, [10.0, 20.0, 30.0, 40.0, None], 0.0),
        (Comparison.ABOVE, [10.0, 20.0, None, 40.0, 50.0], 120.0),
        # low: the other way round
        (Comparison.BELOW, [None, 40.0, 30.0, 20.0, 10.0], 0.0),
        (Comparison.BELOW, [50.0, 40.0, 30.0, 20.0, None], 96.0),
        # cut at the cap, so that the cap is the worst
        (Comparison.ABOVE, [60.0, 70.0, 80.0, 90.0, 500.0], 120.0),
    ],
)
def test_a_slopes_gaps_are_filled_against_the_condition(
    comparison: Comparison, row: list[float | None], value: float
) -> None:
    reading = of_one(row, slope(comparison=comparison, threshold=0.0))
    assert reading.value == value
    assert reading.verdict is not Verdict.NO_DATA


@pytest.mark.parametrize("comparison", Comparison)
@pytest.mark.parametrize("metric", ["memory_bytes", "cpu_cores", "pids"])
def test_the_slope_of_what_nothing_caps_needs_every_sample(
    metric: str, comparison: Comparison
) -> None:
    condition = slope(metric, comparison, 0.0)
    assert of_one([1.0, 2.0, 3.0, 4.0, 5.0], condition).value == 12.0
    assert of_one([1.0, 2.0, None, 4.0, 5.0], condition).verdict is Verdict.NO_DATA


def test_a_slope_over_one_slot_is_no_data() -> None:
    condition = metric_condition("pids", STEP, over_time=Aggregate.SLOPE, threshold=-1.0)
    assert of_one([1.0] * SLOTS, condition).verdict is Verdict.NO_DATA


def test_a_slow_slope_is_not_rounded_away() -> None:
    """One per cent in an hour."""
    row = [50.0 + index / 720 for index in range(SLOTS)]
    assert of_one(row, slope()).value == pytest.approx(1 / 60, rel=0.01)


@pytest.mark.parametrize("level", [1e9 / 3, 7e10 / 3, 1e12 / 7])
@pytest.mark.parametrize("tasks", [1, 3, 7])
def test_an_even_level_of_memory_has_no_slope_whatever_the_order_of_addition(
    level: float, tasks: int
) -> None:
    samples = {f"web.{n}": [level * (n + 1)] * SLOTS for n in range(tasks)}
    for comparison in (Comparison.ABOVE, Comparison.BELOW):
        reading = read(World(samples), slope("memory_bytes", comparison, 0.0))["web"]
        assert reading == Reading(Verdict.FALSE, 0.0)
        assert math.copysign(1.0, reading.value) == 1.0


def test_a_slope_over_tasks_is_refused() -> None:
    condition = metric_condition("pids", OVER, over_tasks=Aggregate.SLOPE)
    with pytest.raises(ValueError, match="over time, not over tasks"):
        of_one([1.0] * SLOTS, condition)
