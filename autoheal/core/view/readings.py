"""What conditions on figures read for every service at once, with missing data made conservative.

Per slot a condition's metric is one figure per service: aggregated over the ready tasks, ordered by
task id, or of the service as a whole. Then it is aggregated over time. A ready task without a
sample, and a slot without any figure, is filled in with the value least favourable to the
condition: 0 where it asks for a high figure; where it asks for a low one, the cap or the threshold,
whichever is higher. For a slope or a forecast it is 0 or the cap, whichever of them in that slot
leads away from the condition. To keep that the worst, figures above it are cut to it. Where nothing
caps the figure neither a low condition nor a line can be filled in: the reading is NO_DATA. Nor can
a rate, for a figure that began anew in a gap looks like one that went on, nor the newest slot where
that one alone counts. So is a reading with real figures in less than 80 % of its slots. Results are
quantised before they are compared, so that the order of addition never shows.

A source is read in the same way; nothing caps it. Per task it is divided, slot by slot, by the
tasks that ran: where none did, or that is not known, there is no figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoheal.core.rule import Aggregate, MetricCondition, SourceCondition
from autoheal.core.view.aggregates import OF_CHANGES, OF_LINE, line_weights, over_tasks, over_time
from autoheal.core.view.ring import COVERAGE, complete_slots
from autoheal.core.view.service_series import ServiceSeries
from autoheal.core.view.source_window import SourceWindow
from autoheal.core.view.task_rows import Booleans, Doubles, TaskRows
from autoheal.metrics import METRIC_BY_NAME, Metric, Unit
from autoheal.model import Service, Verdict

# How many digits a figure has before the point at most: no node has a terabyte of memory.
DIGITS_OF_BYTES = 12
DIGITS = 6

FigureCondition = MetricCondition | SourceCondition


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

    def __init__(
        self,
        rows: TaskRows,
        series: ServiceSeries,
        sources: SourceWindow,
        *,
        now_ms: int,
        step_ms: int,
    ) -> None:
        self._rows = rows
        self._series = series
        self._sources = sources
        self._now_ms = now_ms
        self._step_ms = step_ms

    def read(self, condition: FigureCondition) -> Readings:
        """The condition for every service, or, of tasks, for those that run or ran some."""
        slots = complete_slots(self._now_ms, condition.over_ms, self._step_ms)
        if isinstance(condition, SourceCondition):
            return self._of_source(condition, slots)
        metric = METRIC_BY_NAME[condition.metric]
        owner = self._series if metric.of_service else self._rows
        capped = np.asarray([is_capped(metric, each) for each in owner.services], dtype=bool)
        fill = self._fill(condition, capped, metric.cap or 0.0, len(slots))
        if metric.of_service:
            wants_high = condition.comparison.wants_high
            series = _filled(self._series.of(metric.name, slots, wants_high=wants_high), fill)
        else:
            series = self._of_tasks(condition, slots, fill)
        digits = DIGITS_OF_BYTES if metric.unit is Unit.BYTES else DIGITS
        return self._judged(condition, series, fill, digits, owner.positions)

    def _of_source(self, condition: SourceCondition, slots: range) -> Readings:
        figures = self._sources.figures(condition.source, slots)
        # The same figures, whoever asks, have the same digits.
        digits = len(str(int(np.nan_to_num(figures).max())))
        values = figures[:, None]
        if condition.per_task:
            running = self._series.running(slots)
            values = values / np.where(running > 0, running, np.nan)
        fill = self._fill(condition, np.zeros(values.shape[1], dtype=bool), 0.0, len(slots))
        series, positions = _filled(values, fill), self._series.positions
        return self._judged(condition, series, fill, digits, positions)

    def _judged(
        self,
        condition: FigureCondition,
        series: _Series,
        fill: _Fill,
        digits: int,
        positions: Mapping[str, int],
    ) -> Readings:
        """The readings from figures per slot; a lone column is that of every service."""
        known = series.is_there.mean(axis=0) >= COVERAGE
        known &= fill.can_fill | series.is_whole.all(axis=0)
        if condition.over_time in OF_CHANGES and len(series.values) == 1:
            known[:] = False
        if condition.over_time is Aggregate.LAST:
            # What stands in for a gap would be all there is: it would end an alarm.
            known &= series.is_there[-1]
        # What is filled in may be as large as a threshold: sums of that may have no end.
        with np.errstate(over="ignore", invalid="ignore"):
            value = over_time(condition, series.values, step_ms=self._step_ms, digits=digits)
        known &= np.isfinite(value)
        true = condition.comparison.operator(value, condition.threshold) & known
        every = len(positions)
        return Readings(
            positions,
            np.broadcast_to(value, every),
            np.broadcast_to(known, every),
            np.broadcast_to(true, every),
        )

    def _fill(self, condition: FigureCondition, capped: Booleans, cap: float, slots: int) -> _Fill:
        """`cap` bounds the figures of the services that are `capped`."""
        wants_high, aggregate = condition.comparison.wants_high, condition.over_time
        nothing, endless = np.zeros((slots, 1)), np.full(len(capped), np.inf)
        if aggregate is Aggregate.RATE:
            return _Fill(nothing, endless, np.zeros(len(capped), dtype=bool))
        if aggregate in OF_LINE:
            against = (line_weights(condition, slots, self._step_ms) > 0) != wants_high
            return _Fill(np.where(against, cap, 0.0), np.where(capped, cap, np.inf), capped)
        if wants_high:
            return _Fill(nothing, endless, np.ones(len(capped), dtype=bool))
        highest = max(cap, condition.threshold)
        return _Fill(nothing + highest, np.where(capped, highest, np.inf), capped)

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
        per_slot = over_tasks(condition.over_tasks, filled, ready, rows.starts)
        return _Series(np.where(there, per_slot, fill.values), there, there & ~lacking)


def _filled(values: Doubles, fill: _Fill) -> _Series:
    there = ~np.isnan(values)
    filled = np.where(there, np.minimum(values, fill.ceilings), fill.values)
    return _Series(filled, there, there)


def is_capped(metric: Metric, service: Service) -> bool:
    """A share of a limit cannot pass 100 %; a share of a reservation or of a node can."""
    match metric.basis:
        case "cpu":
            return service.cpu_limit is not None
        case "memory":
            return service.memory_limit is not None
        case _:
            return metric.cap is not None
