"""What each metric condition reads for every service at once, with missing data made conservative.

Per slot a condition's metric is one figure per service: aggregated over the ready tasks, ordered by
task id, or of the service as a whole. Then it is aggregated over time. A ready task without a
sample, and a slot without any figure, is filled in with the value least favourable to the
condition: 0 where it asks for a high figure; where it asks for a low one, the cap or the threshold,
whichever is higher. For a slope it is 0 or the cap, whichever of them in that slot leads away from
the condition. To keep that the worst, figures above it are cut to it. Where nothing caps the figure
neither a low condition nor a slope can be filled in: the reading is NO_DATA. So is one with real
figures in less than 80 % of its slots. Results are quantised before they are compared, so that the
order of addition never shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoheal.core.rule import Aggregate, MetricCondition
from autoheal.core.view.ring import COVERAGE, complete_slots
from autoheal.core.view.service_series import ServiceSeries
from autoheal.core.view.task_rows import Booleans, Doubles, TaskRows
from autoheal.metrics import METRIC_BY_NAME, Metric, Unit
from autoheal.model import Service, Verdict

DECIMALS = 3
# A slope is small beside its figures: 1 % in an hour is 0.017 a minute. In bytes it is not, and
# there what is left of the order of addition begins at the fifth decimal.
SLOPE_DECIMALS = 6
SLOPE_DECIMALS_OF_BYTES = 0
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a condition saw of one service; `value` is meaningless where the verdict is NO_DATA."""

    verdict: Verdict
    value: float


@dataclass(frozen=True, slots=True)
class Readings:
    """The same for all services: `values` and `verdicts` in the order of `positions`."""

    positions: Mapping[str, int]
    values: Doubles
    known: Booleans
    true: Booleans

    def of(self, service: str) -> Reading:
        """The reading of one service."""
        position = self.positions.get(service)
        if position is None or not self.known[position]:
            return Reading(Verdict.NO_DATA, 0.0)
        verdict = Verdict.TRUE if self.true[position] else Verdict.FALSE
        return Reading(verdict, float(self.values[position]))


@dataclass(frozen=True, slots=True)
class _Series:
    """A figure per slot and service; whether it is there at all, and with nothing missing."""

    values: Doubles
    is_there: Booleans
    is_whole: Booleans


@dataclass(frozen=True, slots=True)
class _Fill:
    """What stands in for what is missing, per slot.

    `ceilings` is what figures are cut to, `can_fill` whether anything may stand in, per service.
    """

    values: Doubles
    ceilings: Doubles
    can_fill: Booleans


class Frame:
    """All that conditions look at, at one instant."""

    def __init__(self, rows: TaskRows, series: ServiceSeries, *, now_ms: int, step_ms: int) -> None:
        self._rows = rows
        self._series = series
        self._now_ms = now_ms
        self._step_ms = step_ms

    def read(self, condition: MetricCondition) -> Readings:
        """The condition for every service, or, of tasks, for those that run or ran some."""
        metric = METRIC_BY_NAME[condition.metric]
        slots = complete_slots(self._now_ms, condition.over_ms, self._step_ms)
        services = self._series.services if metric.of_service else self._rows.services
        fill = self._fill(metric, condition, services, len(slots))
        if metric.of_service:
            series = self._of_services(condition, slots, fill)
        else:
            series = self._of_tasks(condition, slots, fill)
        known = series.is_there.mean(axis=0) >= COVERAGE
        known &= fill.can_fill | series.is_whole.all(axis=0)
        value = self._over_time(metric, condition.over_time, series.values)
        if condition.over_time is Aggregate.SLOPE and len(slots) == 1:
            known[:] = False
        true = condition.comparison.operator(value, condition.threshold) & known
        owner = self._series if metric.of_service else self._rows
        return Readings(owner.positions, value, known, true)

    def _fill(
        self, metric: Metric, condition: MetricCondition, services: Sequence[Service], slots: int
    ) -> _Fill:
        wants_high, everywhere = condition.comparison.wants_high, np.ones(len(services), dtype=bool)
        if condition.over_time is not Aggregate.SLOPE and wants_high:
            return _Fill(np.zeros((slots, 1)), np.full(len(services), np.inf), everywhere)
        capped = np.asarray([_is_capped(metric, service) for service in services], dtype=bool)
        highest = metric.cap or 0.0
        if condition.over_time is Aggregate.SLOPE:
            against = (_weights(slots) > 0) != wants_high
            values = np.where(against, highest, 0.0)
        else:
            highest = max(highest, condition.threshold)
            values = np.full((slots, 1), highest)
        return _Fill(values, np.where(capped, highest, np.inf), capped)

    def _of_services(self, condition: MetricCondition, slots: range, fill: _Fill) -> _Series:
        wants_high = condition.comparison.wants_high
        values = self._series.of(condition.metric, slots, wants_high=wants_high)
        there = ~np.isnan(values)
        filled = np.where(there, np.minimum(values, fill.ceilings), fill.values)
        return _Series(filled, there, there)

    def _of_tasks(self, condition: MetricCondition, slots: range, fill: _Fill) -> _Series:
        rows = self._rows
        if not rows.services:
            none = np.zeros((len(slots), 0), dtype=bool)
            return _Series(none.astype(np.float64), none, none)
        samples = rows.samples(condition.metric, slots)
        ready, missing = rows.ready(slots), np.isnan(samples)
        filled = np.where(missing, fill.values, samples)
        if np.isfinite(fill.ceilings).any():
            filled = np.minimum(filled, fill.ceilings[rows.owners])
        there = np.logical_or.reduceat(ready & ~missing, rows.starts, axis=1)
        lacking = np.logical_or.reduceat(ready & missing, rows.starts, axis=1)
        per_slot = _over_tasks(condition.over_tasks, filled, ready, rows)
        return _Series(np.where(there, per_slot, fill.values), there, there & ~lacking)

    def _over_time(self, metric: Metric, aggregate: Aggregate, per_slot: Doubles) -> Doubles:
        match aggregate:
            case Aggregate.MEAN:
                return _quantised(per_slot.mean(axis=0), DECIMALS)
            case Aggregate.MAX:
                return _quantised(per_slot.max(axis=0), DECIMALS)
            case Aggregate.MIN:
                return _quantised(per_slot.min(axis=0), DECIMALS)
            case Aggregate.SLOPE:  # pragma: no branch  # mypy knows that there is no other
                slope = _slope(per_slot) * MINUTE_MS / self._step_ms
                is_bytes = metric.unit is Unit.BYTES
                return _quantised(slope, SLOPE_DECIMALS_OF_BYTES if is_bytes else SLOPE_DECIMALS)


def _over_tasks(aggregate: Aggregate, filled: Doubles, ready: Booleans, rows: TaskRows) -> Doubles:
    starts = rows.starts
    # A slot without a ready task is 0 / 0 here, and replaced by the fill afterwards.
    with np.errstate(invalid="ignore", divide="ignore"):
        match aggregate:
            case Aggregate.MEAN:
                total = np.add.reduceat(np.where(ready, filled, 0.0), starts, axis=1)
                return np.asarray(total / np.add.reduceat(ready, starts, axis=1, dtype=float))
            case Aggregate.MAX:
                return np.maximum.reduceat(np.where(ready, filled, -np.inf), starts, axis=1)
            case Aggregate.MIN:
                return np.minimum.reduceat(np.where(ready, filled, np.inf), starts, axis=1)
            case Aggregate.SLOPE:  # pragma: no branch  # mypy knows that there is no other
                raise ValueError("a slope is over time, not over tasks")


def _is_capped(metric: Metric, service: Service) -> bool:
    """A share of a limit cannot pass 100 %; a share of a reservation or of a node can."""
    match metric.basis:
        case "cpu":
            return service.cpu_limit is not None
        case "memory":
            return service.memory_limit is not None
        case _:
            return metric.cap is not None


def _weights(slots: int) -> Doubles:
    """Twice each slot's distance from the middle: whole numbers, so that what is even sums to 0."""
    return np.arange(slots, dtype=np.float64)[:, None] * 2 - (slots - 1)


def _slope(per_slot: Doubles) -> Doubles:
    """The least-squares slope per slot: sum(x y) / sum(x x), x being the distance from the middle.

    Sums of products by rows: their order does not depend on how many services there are.
    """
    slots = len(per_slot)
    total = (_weights(slots) * per_slot).sum(axis=0)
    return np.asarray(6.0 * total / max(1, slots * (slots * slots - 1)))


def _quantised(values: Doubles, decimals: int) -> Doubles:
    """Rounded, and without the sign of a zero."""
    return np.asarray(np.round(values, decimals) + 0.0)
