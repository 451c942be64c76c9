"""What conditions say of a service, in words, and when a line cannot be told."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.core.decision.evidence import describe, evaluate, waits_for_a_slope
from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    MetricCondition,
    SourceCondition,
)
from autoheal.core.state import Lane, LaneState, ServiceState
from autoheal.core.view.readings import FigureCondition
from autoheal.model import Verdict
from builders import MINUTE, NOW, Scene, escalate, metric_condition, scene, source, source_condition

OVER = 30 * MINUTE
LONG_BEFORE = NOW - 10 * OVER


def of_metric(name: str, over_time: Aggregate, **more: object) -> MetricCondition:
    made = metric_condition(name, OVER, over_time=over_time, ahead_ms=10 * MINUTE)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]  # any field by name


def of_source(over_time: Aggregate, *, per_task: bool = False) -> SourceCondition:
    return source_condition(
        over_ms=OVER, over_time=over_time, per_task=per_task, ahead_ms=5 * MINUTE
    )


def world_of(condition: FigureCondition, figure: float | None = 90.0) -> Scene:
    made = scene(escalate(when=condition), figures={"web": figure})
    made.rules = dataclasses.replace(made.rules, sources=(source(),))
    made.now_ms = NOW
    return made


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (of_metric("cpu_percent", Aggregate.MEAN), "mean cpu_percent over 30m"),
        (
            of_metric("cpu_percent", Aggregate.P95, over_tasks=Aggregate.P95, over_ms=2 * MINUTE),
            "p95 cpu_percent over 2m",
        ),
        (
            of_metric("cpu_percent", Aggregate.P50, over_tasks=Aggregate.MAX),
            "max over tasks, p50 cpu_percent over 30m",
        ),
        (
            of_metric("cpu_percent", Aggregate.MIN, over_tasks=Aggregate.P90),
            "p90 over tasks, min cpu_percent over 30m",
        ),
        (of_metric("tasks_missing", Aggregate.P99), "p99 tasks_missing over 30m"),
        (of_metric("tasks_missing", Aggregate.LAST), "last tasks_missing over 30m"),
        (
            of_metric("memory_percent", Aggregate.SLOPE, over_tasks=Aggregate.MAX),
            "max over tasks, slope of memory_percent per minute over 30m",
        ),
        (
            of_metric("memory_percent", Aggregate.FORECAST),
            "mean over tasks, forecast of memory_percent in 10m over 30m",
        ),
        (
            of_metric("tasks_missing", Aggregate.FORECAST, ahead_ms=90_000),
            "forecast of tasks_missing in 1m30s over 30m",
        ),
        (of_metric("tasks_missing", Aggregate.RATE), "rate of tasks_missing per second over 30m"),
        (of_source(Aggregate.MEAN), "mean jobs over 30m"),
        (of_source(Aggregate.LAST, per_task=True), "last jobs per task over 30m"),
        (of_source(Aggregate.RATE), "rate of jobs per second over 30m"),
        (of_source(Aggregate.SLOPE), "slope of jobs per minute over 30m"),
        (
            of_source(Aggregate.FORECAST, per_task=True),
            "forecast of jobs per task in 5m over 30m",
        ),
    ],
)
def test_a_figure_is_told_in_words(condition: FigureCondition, words: str) -> None:
    world = world_of(condition)
    [rule] = world.rules.rules
    state = state_of(LONG_BEFORE)
    [evidence] = describe(rule, world.services["web"], state, (NOW, world.snapshot()))
    assert evidence.what == words
    assert evidence.value == 90.0


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [(90.0, Verdict.TRUE), (50.0, Verdict.FALSE), (None, Verdict.NO_DATA)],
)
@pytest.mark.parametrize("also", [None, Verdict.TRUE])
def test_a_source_counts_alone_and_in_company(
    figure: float | None, verdict: Verdict, also: Verdict | None
) -> None:
    of_source_alone = source_condition(comparison=Comparison.ABOVE, threshold=50.0)
    world = world_of(of_source_alone, figure)
    if also is not None:
        metric = metric_condition()
        world.figures_for = {metric: {"web": 100.0}}
        joined = Combined(Combinator.ALL, (metric, of_source_alone))
        [rule] = world.rules.rules
        changed = dataclasses.replace(rule, when=joined)
        world.rules = dataclasses.replace(world.rules, rules=(changed,))
    [rule] = world.rules.rules
    now = (NOW, world.snapshot())
    assert evaluate(rule, world.services["web"], state_of(LONG_BEFORE), now).verdict is verdict


# lines that span a change


def state_of(
    deployed_ms: int = LONG_BEFORE, operated_ms: int | None = None, rolled_ms: int | None = None
) -> ServiceState:
    world = scene(escalate())
    world.tick()
    known = world.state.services["web"]
    return dataclasses.replace(
        known,
        deployed_ms=deployed_ms,
        operated_ms=operated_ms,
        lanes={Lane.RULES: LaneState(rolled_ms=rolled_ms)},
    )


@pytest.mark.parametrize("change", ["deployed_ms", "operated_ms", "rolled_ms"])
@pytest.mark.parametrize(
    ("condition", "spoils"),
    [
        (of_metric("memory_percent", Aggregate.SLOPE), True),
        (of_metric("memory_percent", Aggregate.FORECAST), True),
        (of_source(Aggregate.SLOPE, per_task=True), True),
        (of_source(Aggregate.FORECAST, per_task=True), True),
        (of_source(Aggregate.SLOPE), False),
        (of_source(Aggregate.FORECAST), False),
        (of_metric("memory_percent", Aggregate.MEAN), False),
        (of_metric("memory_percent", Aggregate.RATE), False),
        (of_source(Aggregate.MEAN, per_task=True), False),
    ],
)
def test_a_line_that_reaches_back_past_a_change_of_the_service_is_no_data(
    condition: FigureCondition, change: str, *, spoils: bool
) -> None:
    world = world_of(condition)
    [rule] = world.rules.rules
    for ago_ms, is_spoilt in ((OVER - 1, spoils), (OVER, False)):
        state = state_of(**{change: NOW - ago_ms})
        reading = evaluate(rule, world.services["web"], state, (NOW, world.snapshot()))
        assert (reading.verdict is Verdict.NO_DATA) is is_spoilt
        assert waits_for_a_slope(rule, state, NOW) is is_spoilt
