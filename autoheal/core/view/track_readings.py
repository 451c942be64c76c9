"""What target tracking reads of each service at one instant, as Kubernetes' HPA looks at pods.

Tasks that have ended, or are to stop, are passed over. One that does not run yet, or has not warmed
up, is not ready. Of the ready ones the mean of what was measured in warm slots counts, for what a
task burns to start is no load; one with such samples in less than 80 % of the slots is missing.
Nothing is filled in here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from autoheal.actions.track import Target
from autoheal.core.view.aggregates import DECIMALS
from autoheal.core.view.ring import COVERAGE, complete_slots
from autoheal.core.view.source_window import SourceWindow
from autoheal.core.view.swarm_view import Span
from autoheal.core.view.task_rows import Booleans, Doubles, TaskRows

# The id of a service, and what is tracked of it.
TrackedTarget = tuple[str, Target]


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one target reads of one service.

    Of its `total` tasks, `unready` do not run yet or have not warmed up. Of a metric, `values` are
    the means of the ready tasks, by task id, but for the `missing` ones with too few samples.
    Of a source, `figure` is that of the whole service also where the target is per task, None while
    any slot of it is missing.
    """

    values: tuple[float, ...] = ()
    missing: int = 0
    unready: int = 0
    total: int = 0
    figure: float | None = None


class TrackFrame:
    """All that these targets look at, at one instant; `spans` are what `rows` were made of."""

    def __init__(
        self,
        targets: Iterable[Target],
        rows: TaskRows,
        spans: Mapping[str, Span],
        sources: SourceWindow,
        *,
        now_ms: int,
        step_ms: int,
    ) -> None:
        self._rows = rows
        self._alive: list[bool] = rows.runs.tolist()
        self._warm: list[bool] = rows.warm(now_ms).tolist()
        self._waiting = Counter(
            span.task.service
            for span in spans.values()
            if span.running_from_ms is None and span.ended_ms is None
        )
        self._means: dict[Target, list[float]] = {}
        self._figures: dict[Target, float | None] = {}
        for target in targets:
            slots = complete_slots(now_ms, target.over_ms, step_ms)
            if target.metric:
                samples = rows.samples(target.metric, slots)
                self._means[target] = _means(samples, rows.ready(slots))
            else:
                self._figures[target] = _figure(sources.figures(target.source, slots))

    def read(self, target: Target, service: str) -> Tracked:
        """One target of one service, by its id."""
        alive = [row for row in self._rows.of(service) if self._alive[row]]
        ready = [row for row in alive if self._warm[row]]
        total = len(alive) + self._waiting[service]
        unready = total - len(ready)
        if target in self._figures:
            return Tracked(unready=unready, total=total, figure=self._figures[target])
        means = (self._means[target][row] for row in ready)
        known = tuple(mean for mean in means if not math.isnan(mean))
        return Tracked(known, len(ready) - len(known), unready, total)


def _means(samples: Doubles, warm: Booleans) -> list[float]:
    """What each row's samples were on average while it was warm; NaN where they are too few."""
    there = warm & ~np.isnan(samples)
    counts = there.sum(axis=0)
    are_enough = there.mean(axis=0) >= COVERAGE
    means = np.where(there, samples, 0.0).sum(axis=0) / np.where(are_enough, counts, np.nan)
    return list(np.round(means, DECIMALS).tolist())


def _figure(figures: Doubles) -> float | None:
    mean = float(np.round(figures.mean(), DECIMALS))
    return mean if math.isfinite(mean) else None
