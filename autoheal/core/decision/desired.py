"""How many tasks one target asks for, after Kubernetes' podautoscaler/replica_calculator.go.

The ratio of what is used to what is wanted, over the ready tasks, times these tasks, rounded up.
Where tasks without a sample, or tasks that are not ready, could speak against the direction that
the ratio points in, they are counted so that they do, and the ratio is taken again: without a
sample as 0 where more tasks are asked for, and as the worst that the metric can be where fewer are;
not ready as 0 where more are asked for. What then points nowhere, or the other way, is no change.

In two things this is more careful than HPA. A metric that nothing caps has no worst value, so a
missing sample keeps it from asking for fewer tasks (as it keeps conditions from being TRUE). And a
ratio above 1 never asks for fewer tasks than are wanted now, nor one below 1 for more: tasks that
Swarm has not made yet, or no longer has, are in no sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoheal.actions.track import Target, Track
from autoheal.core.view.fold import Tracked
from autoheal.core.view.readings import is_capped
from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import ActionKind, Service

# Beyond these begins what floating point makes of a ratio: 1.1 x 10 are eleven tasks, not twelve.
DECIMALS = 6
# A figure from elsewhere may be anything; no Swarm has this many tasks.
TASKS_MAX = 1_000_000
NO_CHANGE = 1.0


@dataclass(frozen=True, slots=True)
class Desired:
    """What one target asks for: `tasks` is None if that cannot be told, and `words` say why.

    `figure` is what is compared with the target, None if there is none. `points` is where the known
    tasks point, also where those that are not known keep the count.
    """

    words: str
    figure: float | None = None
    tasks: int | None = None
    points: ActionKind | None = None


@dataclass(frozen=True, slots=True)
class Band:
    """Which ratios are near enough to 1, both ends included: a share less, a share more."""

    down: float
    up: float

    def holds(self, ratio: float) -> bool:
        """Whether this ratio changes nothing."""
        least, most = NO_CHANGE - self.down, NO_CHANGE + self.up
        return round(least, DECIMALS) <= round(ratio, DECIMALS) <= round(most, DECIMALS)


def desired(track: Track, target: Target, tracked: Tracked, service: Service) -> Desired:
    """How many tasks of the service, which wants some now, the target asks for."""
    band = Band(track.down.tolerance, track.up.tolerance)
    current = service.replicas or 0
    if target.metric:
        return _of_metric(target, tracked, current, band, worst(target, service))
    return _of_source(target, tracked, current, band)


def worst(target: Target, service: Service) -> float | None:
    """What a missing sample of the metric is at worst; None where nothing bounds it."""
    metric = METRIC_BY_NAME[target.metric]
    if metric.cap is None or not is_capped(metric, service):
        return None
    return max(metric.cap, target.target)


def _of_metric(
    target: Target, tracked: Tracked, current: int, band: Band, cap: float | None
) -> Desired:
    if not tracked.values:
        return Desired(f"no ready task has a sample of {target.metric}")
    # What is measured above a cap is the noise of measuring.
    values = tracked.values if cap is None else [min(value, cap) for value in tracked.values]
    ready, used = len(values), math.fsum(values)
    figure = used / ready
    ratio = figure / target.target
    if band.holds(ratio):
        return Desired(f"{_times(ratio, ready)} is within tolerance", figure, current)
    unready = tracked.unready if ratio > NO_CHANGE else 0
    if not tracked.missing and not unready:
        return _rounded(figure, ratio, ready, current, _times(ratio, ready))
    words, unknown = _times(ratio, ready), _unknown(tracked.missing, unready)
    if ratio < NO_CHANGE and cap is None:
        return _kept(figure, ratio, current, f"{words}; {unknown} may use any amount")
    filled = 0.0 if ratio > NO_CHANGE or cap is None else cap
    every = ready + tracked.missing + unready
    again = (used + filled * tracked.missing) / every / target.target
    words += f"; with {unknown} as {filled:g}, {_times(again, every)}"
    if band.holds(again) or (again > NO_CHANGE) != (ratio > NO_CHANGE):
        return _kept(figure, ratio, current, words)
    return _rounded(figure, again, every, current, words)


def _of_source(target: Target, tracked: Tracked, current: int, band: Band) -> Desired:
    """Of a whole service's figure the present count counts, as in Nomad's target-value."""
    if tracked.figure is None or not math.isfinite(tracked.figure):
        return Desired(f"the source {target.source} has no value for all of its time")
    figure = tracked.figure / current if target.per_task else tracked.figure
    ratio = figure / target.target
    if band.holds(ratio):
        return Desired(f"{_times(ratio, current)} is within tolerance", figure, current)
    return _rounded(figure, ratio, current, current, _times(ratio, current))


def _rounded(figure: float, ratio: float, tasks: int, current: int, words: str) -> Desired:
    """So many tasks times the ratio, unless that leads against it."""
    count = math.ceil(round(min(max(0.0, ratio * tasks), TASKS_MAX), DECIMALS))
    if (count - current) * (ratio - NO_CHANGE) < 0:
        return _kept(figure, ratio, current, f"{words} -> {count}")
    return Desired(f"{words} -> {count}", figure, count)


def _kept(figure: float, ratio: float, current: int, words: str) -> Desired:
    points = ActionKind.SCALE_UP if ratio > NO_CHANGE else ActionKind.SCALE_DOWN
    return Desired(f"{words}, so {current} stay", figure, current, points)


def _times(ratio: float, tasks: int) -> str:
    return f"{round(ratio, 2):g} x {tasks} {'task' if tasks == 1 else 'tasks'}"


def _unknown(missing: int, unready: int) -> str:
    """How many tasks are left out of the ratio, and why."""
    parts = [f"{missing} without a sample"] if missing else []
    parts += [f"{unready} not ready"] if unready else []
    return " and ".join(parts)
