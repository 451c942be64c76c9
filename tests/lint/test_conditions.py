"""What conditions imply is told without figures, and holds for figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    MetricCondition,
    SourceCondition,
)
from autoheal.lint.conditions import can_follow, implies

MINUTE = 60_000
COMPARISONS = list(Comparison)


def cpu(comparison: Comparison, threshold: float) -> MetricCondition:
    return MetricCondition("cpu_percent", MINUTE, comparison, threshold)


ABOVE_80 = cpu(Comparison.ABOVE, 80)
OOM = EventCondition("oom_killed", MINUTE, Comparison.AT_LEAST, 1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (ABOVE_80, ABOVE_80, True),
        (cpu(Comparison.ABOVE, 80.1), ABOVE_80, True),
        (cpu(Comparison.ABOVE, 79.9), ABOVE_80, False),
        (cpu(Comparison.AT_LEAST, 80), ABOVE_80, False),
        (cpu(Comparison.AT_LEAST, 80.1), ABOVE_80, True),
        (ABOVE_80, cpu(Comparison.AT_LEAST, 80), True),
        (cpu(Comparison.BELOW, 20), cpu(Comparison.AT_MOST, 20), True),
        (cpu(Comparison.AT_MOST, 20), cpu(Comparison.BELOW, 20), False),
        (cpu(Comparison.BELOW, 10), cpu(Comparison.BELOW, 20), True),
        (cpu(Comparison.BELOW, 30), cpu(Comparison.BELOW, 20), False),
        (cpu(Comparison.BELOW, 20), ABOVE_80, False),
        (MetricCondition("cpu_percent", 2 * MINUTE, Comparison.ABOVE, 99), ABOVE_80, False),
        (MetricCondition("pids", MINUTE, Comparison.ABOVE, 99), ABOVE_80, False),
        (
            MetricCondition("cpu_percent", MINUTE, Comparison.ABOVE, 99, over_time=Aggregate.MAX),
            ABOVE_80,
            False,
        ),
        (
            SourceCondition("jobs", MINUTE, Comparison.ABOVE, 99),
            SourceCondition("jobs", MINUTE, Comparison.ABOVE, 80),
            True,
        ),
        (
            SourceCondition("jobs", MINUTE, Comparison.ABOVE, 99, per_task=True),
            SourceCondition("jobs", MINUTE, Comparison.ABOVE, 80),
            False,
        ),
        # A count of events starts anew for each rule.
        (OOM, OOM, False),
        (Combined(Combinator.ALL, (OOM, ABOVE_80)), ABOVE_80, True),
        (Combined(Combinator.ANY, (OOM, ABOVE_80)), ABOVE_80, False),
    ],
)
def test_one_condition_implies_another(one: Condition, other: Condition, expected: bool) -> None:
    assert implies(one, other) is expected


METRICS = ("cpu_percent", "pids")
THRESHOLDS = st.sampled_from([1.0, 2.0, 3.0])
LEAVES = st.builds(
    MetricCondition,
    st.sampled_from(METRICS),
    st.just(MINUTE),
    st.sampled_from(COMPARISONS),
    THRESHOLDS,
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Combined,
        st.sampled_from(list(Combinator)),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=5,
)
FIGURES = [0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0]


def holds(condition: Condition, figures: dict[str, float]) -> bool:
    if isinstance(condition, Combined):
        each = [holds(inner, figures) for inner in condition.conditions]
        return all(each) if condition.combinator is Combinator.ALL else any(each)
    assert isinstance(condition, MetricCondition)
    return bool(condition.comparison.operator(figures[condition.metric], condition.threshold))


@given(CONDITIONS, CONDITIONS)
def test_what_is_implied_holds_for_all_figures(one: Condition, other: Condition) -> None:
    if implies(one, other):
        for cpu_percent in FIGURES:
            for pids in FIGURES:
                figures = {"cpu_percent": cpu_percent, "pids": pids}
                assert holds(other, figures) or not holds(one, figures)


@given(LEAVES, LEAVES)
def test_of_two_comparisons_of_one_figure_what_is_implied_is_told(
    one: MetricCondition, other: MetricCondition
) -> None:
    if one.metric == other.metric and one.comparison.wants_high is other.comparison.wants_high:
        figures = [{one.metric: figure} for figure in FIGURES]
        assert implies(one, other) is all(holds(other, f) or not holds(one, f) for f in figures)


@given(
    st.sampled_from([Comparison.ABOVE, Comparison.AT_LEAST]),
    st.sampled_from([Comparison.BELOW, Comparison.AT_MOST]),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_a_step_can_be_followed_by_its_undoing_exactly_where_some_load_asks_for_both(
    up: Comparison, down: Comparison, high: int, low: int, before: int, more: int
) -> None:
    after = before + more
    # Between two thresholds lies a load that is a multiple of this, if any does.
    loads = [part / 2 for part in range(2 * 12 * 6 + 2)]
    shared = any(
        up.operator(load, high * before) and down.operator(load, low * after) for load in loads
    )
    assert can_follow(cpu(up, high), cpu(down, low), before, after) is shared
