"""The tasks of all services at one instant, laid out for the arrays of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from autoheal.core.view.swarm_view import NEVER_MS, Span
from autoheal.core.view.window import Window
from autoheal.model import Service

Doubles = NDArray[np.float64]
Booleans = NDArray[np.bool_]


class TaskRows:
    """One row per task that runs or ran, ordered by service and task id.

    `services` are those that have a row, `positions` where each stands among them; `starts` is the
    first row of each, `owners` the position of each row's service.
    """

    def __init__(
        self,
        window: Window,
        services: Sequence[Service],
        spans: Mapping[str, Span],
        *,
        warm_up_ms: int,
    ) -> None:
        self._window = window
        by_id = {service.id: service for service in services}
        found = sorted(
            ((span.task.service, span.task.id, span) for span in spans.values()
             if span.running_from_ms is not None and span.task.service in by_id),
            key=lambda row: row[:2],
        )  # fmt: skip
        ids = np.asarray([service for service, _, _ in found], dtype=np.str_)
        names, self.starts, self.owners = np.unique(ids, return_index=True, return_inverse=True)
        self._ends = np.append(self.starts[1:], len(found))
        self.services = [by_id[str(name)] for name in names]
        self.positions = {service.id: place for place, service in enumerate(self.services)}
        columns = (window.column(task) for _, task, _ in found)
        self._columns = np.asarray([-1 if c is None else c for c in columns], dtype=np.intp)
        self._ready_ms = np.asarray(
            [(span.running_from_ms or 0) + warm_up_ms for _, _, span in found], dtype=np.int64
        )
        self._ended_ms = np.asarray(
            [NEVER_MS if span.ended_ms is None else span.ended_ms for _, _, span in found],
            dtype=np.int64,
        )

    @property
    def runs(self) -> Booleans:
        """Rows: whether the task has not ended."""
        return np.asarray(self._ended_ms == NEVER_MS)

    def of(self, service: str) -> range:
        """The rows of one service."""
        place = self.positions.get(service)
        if place is None:
            return range(0)
        return range(int(self.starts[place]), int(self._ends[place]))

    def warm(self, now_ms: int) -> Booleans:
        """Rows: whether the task is warmed up at `now_ms`."""
        return np.asarray(self._ready_ms <= now_ms)

    def ready(self, slots: range) -> Booleans:
        """Slots x rows: whether the task was warmed up for the whole slot."""
        step_ms = self._window.step_ms
        begin = np.asarray(slots, dtype=np.int64)[:, None] * step_ms
        return (self._ready_ms <= begin) & (begin + step_ms <= self._ended_ms)

    def samples(self, metric: str, slots: range) -> Doubles:
        """Slots x rows: one metric, NaN where there is no sample."""
        return self._window.read(metric, slots, self._columns).astype(np.float64)
