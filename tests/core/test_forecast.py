"""Lines, rates and percentiles: against numpy's own, and by hand at the edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.rule import OVER_TASKS, Aggregate, Comparison
from autoheal.core.view.aggregates import line_weights, over_tasks, over_time
from autoheal.core.view.task_rows import Booleans, Doubles
from builders import HOUR, MINUTE, SECOND, STEP, metric_condition

PERCENTILES = {
    Aggregate.P50: 50,
    Aggregate.P90: 90,
    Aggregate.P95: 95,
    Aggregate.P99: 99,
}
WITHIN_TIME_ONLY = sorted(set(Aggregate) - set(OVER_TASKS))

rows = st.lists(st.floats(0, 100, width=32), min_size=2, max_size=40)
steps = st.sampled_from([SECOND, STEP, 15 * SECOND, MINUTE])
aheads = st.sampled_from([0, 1, SECOND, MINUTE, 10 * MINUTE, HOUR])


def column(figures: Sequence[float]) -> Doubles:
    return np.asarray(figures, dtype=np.float64)[:, None]


def aggregated(
    aggregate: Aggregate, figures: Sequence[float], *, step_ms: int = STEP, ahead_ms: int = 0
) -> float:
    asked = metric_condition(over_time=aggregate, ahead_ms=ahead_ms)
    [value] = over_time(asked, column(figures), step_ms=step_ms, digits=3)
    return float(value)


# lines


@given(rows, steps, aheads)
def test_a_forecast_is_numpys_straight_line_at_now_and_so_much_later(
    figures: list[float], step_ms: int, ahead_ms: int
) -> None:
    """Each figure stands at the end of its slot; now is the end of the newest one."""
    ends_ms = np.arange(1 - len(figures), 1) * step_ms
    line = np.polyfit(ends_ms / MINUTE, figures, 1)
    expected = float(np.polyval(line, ahead_ms / MINUTE))
    got = aggregated(Aggregate.FORECAST, figures, step_ms=step_ms, ahead_ms=ahead_ms)
    assert got == pytest.approx(expected, rel=1e-6, abs=1e-2)


@given(rows, steps)
def test_a_slope_is_numpys_per_minute(figures: list[float], step_ms: int) -> None:
    minutes = np.arange(len(figures)) * step_ms / MINUTE
    slope, _ = np.polyfit(minutes, figures, 1)
    got = aggregated(Aggregate.SLOPE, figures, step_ms=step_ms)
    assert got == pytest.approx(float(slope), rel=1e-6, abs=1e-5)


@pytest.mark.parametrize(
    ("ahead_ms", "value"),
    [(0, 50.0), (STEP, 60.0), (STEP // 2, 55.0), (MINUTE, 170.0), (10 * MINUTE, 1250.0)],
)
def test_a_forecast_goes_on_from_the_newest_slot(ahead_ms: int, value: float) -> None:
    figures = [10.0, 20.0, 30.0, 40.0, 50.0]
    assert aggregated(Aggregate.FORECAST, figures, ahead_ms=ahead_ms) == value


@given(st.floats(0, 1e12), st.integers(2, 200), aheads)
def test_an_even_level_is_forecast_as_it_is(level: float, slots: int, ahead_ms: int) -> None:
    value = aggregated(Aggregate.FORECAST, [level] * slots, ahead_ms=ahead_ms)
    assert value == pytest.approx(level, rel=1e-9, abs=0.001)


@given(st.integers(2, 2_000), st.sampled_from([Aggregate.SLOPE, Aggregate.FORECAST]), aheads)
def test_weights_are_whole_numbers(slots: int, aggregate: Aggregate, ahead_ms: int) -> None:
    asked = metric_condition(over_time=aggregate, ahead_ms=ahead_ms)
    weights = line_weights(asked, slots, STEP)
    assert (weights == np.rint(weights)).all()
    of_level = 0 if aggregate is Aggregate.SLOPE else slots * (slots * slots - 1) * STEP
    assert weights.sum() == of_level


# rates


@pytest.mark.parametrize(
    ("figures", "per_second"),
    [
        pytest.param([0, 5, 10, 15], 1.0, id="steady"),
        pytest.param([7, 7, 7], 0.0, id="still"),
        pytest.param([10, 20, 4, 9], 19 / 15, id="it began anew: 10, then 4, then 5"),
        pytest.param([10, 0, 0], 0.0, id="it fell to nothing"),
        pytest.param([9, 8, 7], 1.5, id="each fall is a new start"),
        pytest.param([1, 3], 0.4, id="two slots"),
    ],
)
def test_a_rate_is_the_rise_per_second(figures: list[float], per_second: float) -> None:
    assert aggregated(Aggregate.RATE, figures) == pytest.approx(per_second, abs=1e-6)


@given(rows)
def test_a_rate_is_never_negative(figures: list[float]) -> None:
    assert aggregated(Aggregate.RATE, figures) >= 0


# percentiles


@pytest.mark.parametrize(("aggregate", "percent"), PERCENTILES.items())
@given(figures=rows)
def test_a_percentile_over_time_is_numpys(
    aggregate: Aggregate, percent: float, figures: list[float]
) -> None:
    expected = round(float(np.percentile(figures, percent)), 3)
    assert aggregated(aggregate, figures) == pytest.approx(expected, abs=0.0011)


@pytest.mark.parametrize(
    ("aggregate", "figures", "value"),
    [
        (Aggregate.P50, [1, 2, 3], 2.0),
        (Aggregate.P50, [1, 2, 3, 4], 2.5),
        (Aggregate.P90, [0, 10], 9.0),
        (Aggregate.P99, [0, 100], 99.0),
        (Aggregate.P95, [7], 7.0),
        (Aggregate.LAST, [1, 2, 0], 0.0),
    ],
)
def test_percentiles_and_the_last_by_hand(
    aggregate: Aggregate, figures: list[float], value: float
) -> None:
    assert aggregated(aggregate, figures) == value


groups = st.lists(
    st.lists(st.tuples(st.floats(0, 100, width=32), st.booleans()), min_size=1, max_size=7),
    min_size=1,
    max_size=6,
)


def laid_out(
    services: Sequence[Sequence[tuple[float, bool]]],
) -> tuple[Doubles, Booleans, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """One slot of the tasks of some services: figures, which are ready, where each begins."""
    figures = [[figure for tasks in services for figure, _ in tasks]]
    ready = [[is_ready for tasks in services for _, is_ready in tasks]]
    starts = np.cumsum([0, *(len(tasks) for tasks in services[:-1])])
    return np.asarray(figures, dtype=np.float64), np.asarray(ready, dtype=bool), starts


@pytest.mark.parametrize(("aggregate", "percent"), PERCENTILES.items())
@given(services=groups)
def test_a_percentile_over_tasks_is_numpys_over_those_that_are_ready(
    aggregate: Aggregate, percent: float, services: list[list[tuple[float, bool]]]
) -> None:
    [values] = over_tasks(aggregate, *laid_out(services))
    for tasks, value in zip(services, values, strict=True):
        ready = [figure for figure, is_ready in tasks if is_ready]
        if ready:
            assert value == pytest.approx(float(np.percentile(ready, percent)))


@pytest.mark.parametrize("aggregate", WITHIN_TIME_ONLY)
def test_what_needs_the_order_of_time_does_not_go_over_tasks(aggregate: Aggregate) -> None:
    with pytest.raises(ValueError, match=f"{aggregate} is over time, not over tasks"):
        over_tasks(aggregate, *laid_out([[(1.0, True)]]))


# what the order of addition leaves


@pytest.mark.parametrize("digits", [1, 6, 9, 12, 15])
def test_figures_of_so_many_digits_are_rounded_to_twelve_significant_ones(digits: int) -> None:
    asked = metric_condition(over_time=Aggregate.SLOPE, comparison=Comparison.ABOVE)
    rising = column([10.0**digits * share for share in (1 / 3, 1 / 2, 2 / 3)])
    [value] = over_time(asked, rising, step_ms=STEP, digits=digits)
    decimals = min(6, 12 - digits)
    assert value == round(10.0**digits * 2, decimals)
    forecast = dataclasses.replace(asked, over_time=Aggregate.FORECAST)
    [value] = over_time(forecast, rising, step_ms=STEP, digits=digits)
    assert value == round(10.0**digits * 2 / 3, min(3, decimals))
