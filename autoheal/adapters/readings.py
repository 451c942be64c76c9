"""From counters to figures: two readings of one container give its rates in between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autoheal.metrics import MEASURED
from autoheal.records import Samples, container_key

NAN = math.nan


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters and gauges of one container at `at` (monotonic seconds); NaN is missing.

    `cpu_seconds`, `periods` and `throttled` only ever rise while the container lives.
    """

    at: float
    cpu_seconds: float = NAN
    periods: float = NAN
    throttled: float = NAN
    memory_bytes: float = NAN
    pids: float = NAN

    @property
    def empty(self) -> bool:
        """Whether nothing at all could be read."""
        figures = (self.cpu_seconds, self.periods, self.memory_bytes, self.pids)
        return all(math.isnan(figure) for figure in figures)


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds a container back: CPU in cores, memory in bytes; None is no limit."""

    cpu: float | None
    memory: int | None


class Rates:
    """Remembers the last reading of each container, and nothing of those that are gone."""

    def __init__(self) -> None:
        self._last: dict[str, Reading] = {}

    def samples(self, readings: Mapping[str, Reading]) -> Samples:
        """One column per reading, by container id; rates of a first reading are NaN."""
        columns = [
            _column(self._last.get(container), reading) for container, reading in readings.items()
        ]
        self._last = dict(readings)
        matrix = np.array(columns, dtype=np.float32).reshape(len(columns), len(MEASURED)).T
        return Samples(MEASURED, tuple(container_key(c) for c in readings), matrix)


def working_set(usage: float, inactive_file: float) -> float:
    """Memory that cannot simply be dropped: usage less inactive file cache; NaN if either is."""
    return NAN if math.isnan(usage + inactive_file) else max(0.0, usage - inactive_file)


def _column(before: Reading | None, now: Reading) -> list[float]:
    figures = {
        "cpu_cores": _cpu_cores(before, now),
        "memory_bytes": now.memory_bytes,
        "throttled_percent": _throttled_percent(before, now),
        "pids": now.pids,
    }
    return [figures[name] for name in MEASURED]


def _cpu_cores(before: Reading | None, now: Reading) -> float:
    if before is None or now.at <= before.at:
        return NAN
    return _rise(before.cpu_seconds, now.cpu_seconds) / (now.at - before.at)


def _throttled_percent(before: Reading | None, now: Reading) -> float:
    """No period has passed where there is no limit, or nothing ran: then nothing was throttled."""
    if before is None:
        return NAN
    periods = _rise(before.periods, now.periods)
    throttled = _rise(before.throttled, now.throttled)
    if periods == 0:
        return 0.0
    return min(100.0, 100.0 * throttled / periods) if throttled >= 0 else NAN


def _rise(before: float, now: float) -> float:
    """How far a counter came; NaN for one that went back or is missing."""
    return now - before if now >= before else NAN
