"""What each metric condition reads for every service at once, with missing data made conservative.

Per slot a condition's metric is aggregated over the ready tasks, ordered by task id; then over
time. A ready task without a sample, and a slot without any, is filled in with the value least
favourable to the condition: 0 where it asks for a high figure; where it asks for a low one, the cap
or the threshold, whichever is higher. To keep that the worst, figures above it are cut to it. A
metric that nothing caps cannot be filled in for a low condition: the reading is NO_DATA. So is
one with real samples in less than 80 % of its slots. Results are quantised before they are
compared, so that the order of addition never shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoheal.core.rule import Aggregate, MetricCondition
from autoheal.core.swarm_view import Span
from autoheal.core.window import Window
from autoheal.metrics import METRIC_BY_NAME, Metric
from autoheal.model import Service, Verdict

COVERAGE = 0.8
DECIMALS = 3

Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]
NEVER_MS = 1 << 62


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


class Frame:
    """The tasks of all services at one instant, laid out for the arrays of a window."""

    def __init__(
        self,
        window: Window,
        services: Sequence[Service],
        spans: Mapping[str, Span],
        *,
        now_ms: int,
        warm_up_ms: int,
    ) -> None:
        self._window = window
        self._now_slot = now_ms // window.step_ms
        present = {service.id for service in services}
        rows = sorted(
            (span.task.service, span.task.id, span)
            for span in spans.values()
            if span.running_from_ms is not None and span.task.service in present
        )
        with_tasks = sorted({service for service, _, _ in rows})
        self.positions = {service: position for position, service in enumerate(with_tasks)}
        ids = [service for service, _, _ in rows]
        self._starts = np.asarray(
            [i for i, service in enumerate(ids) if i == 0 or ids[i - 1] != service], dtype=np.intp
        )
        self._row_service = np.asarray([self.positions[service] for service in ids], dtype=np.intp)
        columns = (window.column(task) for _, task, _ in rows)
        self._columns = np.asarray([-1 if c is None else c for c in columns], dtype=np.intp)
        self._ready_ms = np.asarray(
            [(span.running_from_ms or 0) + warm_up_ms for _, _, span in rows], dtype=np.int64
        )
        self._ended_ms = np.asarray(
            [NEVER_MS if s.ended_ms is None else s.ended_ms for _, _, s in rows], dtype=np.int64
        )
        by_id = {service.id: service for service in services}
        self._services = [by_id[service] for service in with_tasks]

    def read(self, condition: MetricCondition) -> Readings:
        """The condition for every service that has, or had, a running task."""
        count = len(self.positions)
        if count == 0:
            return Readings({}, np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
        metric = METRIC_BY_NAME[condition.metric]
        slots = self._slots(condition.over_ms)
        samples = self._window.read(condition.metric, slots, self._columns).astype(np.float64)
        ready = self._ready(slots)
        sampled = ready & ~np.isnan(samples)
        fill, fillable = self._fill(metric, condition)
        filled = np.where(np.isnan(samples), fill, samples)
        if not condition.comparison.wants_high:
            filled = np.minimum(filled, fill)
        per_slot = self._over_tasks(condition.over_tasks, filled, ready)
        has_data = np.logical_or.reduceat(sampled, self._starts, axis=1)
        per_slot = np.where(has_data, per_slot, fill)
        value = np.round(_over_time(condition.over_time, per_slot), DECIMALS)
        gaps = np.logical_or.reduceat(ready & ~sampled, self._starts, axis=1) | ~has_data
        known = has_data.mean(axis=0) >= COVERAGE
        known &= fillable | ~gaps.any(axis=0)
        true = condition.comparison.operator(value, condition.threshold) & known
        return Readings(self.positions, value, known, true)

    def _slots(self, over_ms: int) -> range:
        """The complete slots of the last `over_ms`: the one now being filled does not count."""
        return range(self._now_slot - max(1, -(-over_ms // self._window.step_ms)), self._now_slot)

    def _ready(self, slots: range) -> Booleans:
        step_ms = self._window.step_ms
        begin = np.asarray(slots, dtype=np.int64)[:, None] * step_ms
        return (self._ready_ms <= begin) & (begin + step_ms <= self._ended_ms)

    def _fill(self, metric: Metric, condition: MetricCondition) -> tuple[float, Booleans]:
        """The least favourable value, and for which services it can stand in."""
        everywhere = np.ones(len(self._services), dtype=bool)
        if condition.comparison.wants_high:
            return 0.0, everywhere
        if metric.cap is None:
            return np.inf, ~everywhere
        capped = np.asarray([_is_capped(metric, service) for service in self._services])
        return max(metric.cap, condition.threshold), capped

    def _over_tasks(self, aggregate: Aggregate, filled: Doubles, ready: Booleans) -> Doubles:
        starts = self._starts
        # A slot without a ready task is 0 / 0 here, and replaced by the fill afterwards.
        with np.errstate(invalid="ignore", divide="ignore"):
            match aggregate:
                case Aggregate.MEAN:
                    total = np.add.reduceat(np.where(ready, filled, 0.0), starts, axis=1)
                    return np.asarray(total / np.add.reduceat(ready, starts, axis=1, dtype=float))
                case Aggregate.MAX:
                    return np.maximum.reduceat(np.where(ready, filled, -np.inf), starts, axis=1)
                case Aggregate.MIN:  # pragma: no branch  # mypy knows that there is no other
                    return np.minimum.reduceat(np.where(ready, filled, np.inf), starts, axis=1)


def _is_capped(metric: Metric, service: Service) -> bool:
    """A share of a limit cannot pass 100 %; a share of a reservation or of a node can."""
    match metric.basis:
        case "cpu":
            return service.cpu_limit is not None
        case "memory":
            return service.memory_limit is not None
        case _:
            return True


def _over_time(aggregate: Aggregate, per_slot: Doubles) -> Doubles:
    match aggregate:
        case Aggregate.MEAN:
            return np.asarray(per_slot.mean(axis=0))
        case Aggregate.MAX:
            return np.asarray(per_slot.max(axis=0))
        case Aggregate.MIN:  # pragma: no branch  # mypy knows that there is no other
            return np.asarray(per_slot.min(axis=0))
