"""How many figures become one: over the tasks of each service, and over the slots of a window.

Percentiles interpolate linearly between the closest ranks, as Prometheus' `quantile` does. A slope
and a forecast belong to the straight line with the least squares, a figure standing at the end of
its slot: both are sums of the figures, each with a weight of its own.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoheal.core.rule import Aggregate
from autoheal.core.view.task_rows import Booleans, Doubles

DECIMALS = 3
# A slope is small beside its figures: 1 % in an hour is 0.017 a minute.
DECIMALS_OF_CHANGES = 6
# Beyond these digits of a figure begins, in the sums of a line, what the order of addition leaves.
SIGNIFICANT_DIGITS = 12
SECOND_MS = 1_000
MINUTE_MS = 60_000
# A line, and a rise, need two slots.
OF_LINE = frozenset({Aggregate.SLOPE, Aggregate.FORECAST})
OF_CHANGES = OF_LINE | {Aggregate.RATE}

Positions = NDArray[np.intp]


class OverTime(Protocol):
    """How a condition aggregates over time."""

    @property
    def over_time(self) -> Aggregate:
        """The aggregate."""

    @property
    def ahead_ms(self) -> int:
        """How far ahead FORECAST looks."""


def line_weights(asked: OverTime, slots: int, step_ms: int) -> Doubles:
    """What each slot weighs in a SLOPE or a FORECAST, as a column of whole numbers.

    Whole, so that what is even adds up exactly. Twice the distance from the middle, for a slope.
    """
    distances = np.arange(slots, dtype=np.float64)[:, None] * 2 - (slots - 1)
    if asked.over_time is Aggregate.SLOPE:
        return distances
    looked_at_ms = (slots - 1) * step_ms + 2 * asked.ahead_ms
    return np.asarray((slots * slots - 1) * step_ms + 3 * looked_at_ms * distances)


def over_time(asked: OverTime, per_slot: Doubles, *, step_ms: int, digits: int) -> Doubles:
    """Slots x services to one figure per service, quantised.

    `digits` is how many the figures have before the point at most.
    """
    aggregate = asked.over_time
    decimals = DECIMALS
    if aggregate in OF_CHANGES:
        most = DECIMALS if aggregate is Aggregate.FORECAST else DECIMALS_OF_CHANGES
        decimals = min(most, SIGNIFICANT_DIGITS - digits)
    # Rounded, and without the sign of a zero.
    return np.asarray(np.round(_over_time(asked, per_slot, step_ms), decimals) + 0.0)


def _over_time(asked: OverTime, per_slot: Doubles, step_ms: int) -> Doubles:
    match asked.over_time:
        case Aggregate.MEAN:
            value = per_slot.mean(axis=0)
        case Aggregate.MAX:
            value = per_slot.max(axis=0)
        case Aggregate.MIN:
            value = per_slot.min(axis=0)
        case Aggregate.LAST:
            value = per_slot[-1]
        case Aggregate.RATE:
            value = _rate(per_slot, step_ms)
        case Aggregate.SLOPE | Aggregate.FORECAST:
            value = _on_line(asked, per_slot, step_ms)
        case _:
            value = np.quantile(per_slot, _quantile(asked.over_time), axis=0)
    return np.asarray(value)


def _on_line(asked: OverTime, per_slot: Doubles, step_ms: int) -> Doubles:
    """The slope per minute, or the value ahead.

    Sums of products by rows: their order does not depend on how many services there are.
    """
    slots = len(per_slot)
    total = (line_weights(asked, slots, step_ms) * per_slot).sum(axis=0)
    unit = 6.0 * MINUTE_MS if asked.over_time is Aggregate.SLOPE else 1.0
    return np.asarray(unit * total / (max(1, slots * (slots * slots - 1)) * step_ms))


def _rate(per_slot: Doubles, step_ms: int) -> Doubles:
    """The rise per second from the first slot to the last; after a fall it began at 0."""
    rises = np.diff(per_slot, axis=0)
    total = np.where(rises < 0, per_slot[1:], rises).sum(axis=0)
    return np.asarray(total * SECOND_MS / (max(1, len(rises)) * step_ms))


def over_tasks(
    aggregate: Aggregate, filled: Doubles, ready: Booleans, starts: Positions
) -> Doubles:
    """Slots x tasks to slots x services, whose tasks begin at `starts`.

    Without a ready task in a slot the figure means nothing. Raises ValueError for an aggregate that
    goes over time only.
    """
    # A slot without a ready task is 0 / 0 here, or infinite.
    with np.errstate(invalid="ignore", divide="ignore"):
        match aggregate:
            case Aggregate.MEAN:
                total = np.add.reduceat(np.where(ready, filled, 0.0), starts, axis=1)
                return np.asarray(total / np.add.reduceat(ready, starts, axis=1, dtype=float))
            case Aggregate.MAX:
                return np.maximum.reduceat(np.where(ready, filled, -np.inf), starts, axis=1)
            case Aggregate.MIN:
                return np.minimum.reduceat(np.where(ready, filled, np.inf), starts, axis=1)
            case _:
                return _percentiles(_quantile(aggregate), filled, ready, starts)


def _quantile(aggregate: Aggregate) -> float:
    quantile = aggregate.quantile
    if quantile is None:
        raise ValueError(f"{aggregate} is over time, not over tasks")
    return quantile


def _percentiles(quantile: float, filled: Doubles, ready: Booleans, starts: Positions) -> Doubles:
    """The percentile of each service's ready tasks, for all services with as many rows at once."""
    result = np.empty((len(filled), len(starts)))
    lengths = np.diff(starts, append=filled.shape[1])
    figures = np.where(ready, filled, np.inf)
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        rows = starts[places][:, None] + np.arange(length)
        ordered = np.sort(figures[:, rows], axis=2)
        result[:, places] = _ranked(quantile, ordered, ready[:, rows].sum(axis=2))
    return result


def _ranked(quantile: float, ordered: Doubles, counts: Positions) -> Doubles:
    """The figure at a share of the first `counts` figures along the last axis, which ascend."""
    last = np.maximum(counts - 1, 0)
    rank = quantile * last
    below = np.floor(rank).astype(np.intp)
    above = np.minimum(below + 1, last)
    lower, upper = (np.take_along_axis(ordered, at[..., None], 2)[..., 0] for at in (below, above))
    return np.asarray(lower + (upper - lower) * (rank - below))
