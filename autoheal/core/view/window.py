"""The recent past in one array per metric: slots of one step x containers, float32, NaN = missing.

A sample falls into slot floor(time / step); the last one in a slot wins and a late one fills its
past slot. The ring keeps as many slots as the longest window of any rule. Writing a batch costs one
indexed assignment per metric, whatever the number of containers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoheal.core.view.ring import Columns, Floats, Ring
from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import RosterRow, Service
from autoheal.records import SampleBatch

# Late samples and the slot still being filled need room beside the longest window.
SPARE_SLOTS = 4


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns of one node's batches go, for one roster and one set of services."""

    keys: tuple[bytes, ...]
    revision: int
    taken: Columns
    columns: Columns
    cpu_basis: Floats
    memory_basis: Floats


class Window:
    """Samples of all tasks over the last `longest_ms`, for the named metrics."""

    def __init__(self, metrics: Sequence[str], *, step_ms: int, longest_ms: int) -> None:
        self.step_ms = step_ms
        self.slots = -(-longest_ms // step_ms) + SPARE_SLOTS
        self._ring = Ring[bytes](metrics, self.slots)
        self._rosters: dict[str, dict[bytes, RosterRow]] = {}
        self._column_of_task: dict[str, int] = {}
        self._owner: dict[int, RosterRow] = {}
        self._layouts: dict[str, _Layout] = {}

    def fold(
        self, batch: SampleBatch, at_ms: int, services: Mapping[str, Service], revision: int
    ) -> None:
        """Take in one batch, true at `at_ms`; `revision` changes whenever `services` does."""
        if batch.roster is not None:
            self._rosters[batch.node] = {row.key: row for row in batch.roster}
            self._layouts.pop(batch.node, None)
        slot = at_ms // self.step_ms
        if not self._ring.advance(slot) or not batch.samples.keys:
            return
        layout = self._layout(batch, services, revision)
        self._ring.touch(slot, layout.columns)
        rows = dict(zip(batch.samples.metrics, batch.samples.matrix, strict=True))
        for name in self._ring.names:
            values = _reading(name, rows, layout)
            if values is not None:
                self._ring.write(name, slot, layout.columns, values)

    def column(self, task: str) -> int | None:
        """Where a task's samples are; None if it never had any."""
        return self._column_of_task.get(task)

    def read(self, metric: str, slots: Sequence[int], columns: Columns) -> Floats:
        """Slots x columns; a negative column, or a slot outside the ring, reads as missing."""
        return self._ring.read(metric, slots, columns)

    @property
    def containers(self) -> int:
        """How many containers have samples in the ring."""
        return len(self._ring)

    def forget(self) -> None:
        """Free the columns of containers without a sample in the whole ring: they are all NaN."""
        silent = self._ring.forget()
        for column in silent.values():
            row = self._owner.pop(column)
            if self._column_of_task.get(row.task) == column:
                del self._column_of_task[row.task]
        if silent:
            self._layouts.clear()

    def _layout(
        self, batch: SampleBatch, services: Mapping[str, Service], revision: int
    ) -> _Layout:
        layout = self._layouts.get(batch.node)
        keys = batch.samples.keys
        if layout is None or layout.keys != keys or layout.revision != revision:
            layout = self._new_layout(batch, services, revision)
            self._layouts[batch.node] = layout
        return layout

    def _new_layout(
        self, batch: SampleBatch, services: Mapping[str, Service], revision: int
    ) -> _Layout:
        # A container that no roster has named yet belongs to nobody: its samples are passed over.
        roster = self._rosters.get(batch.node, {})
        known = [
            (position, roster[key])
            for position, key in enumerate(batch.samples.keys)
            if key in roster
        ]
        rows = [row for _, row in known]
        columns = [self._column_for(row) for row in rows]
        cores = batch.figures.cores
        return _Layout(
            keys=batch.samples.keys,
            revision=revision,
            taken=np.asarray([position for position, _ in known], dtype=np.intp),
            columns=np.asarray(columns, dtype=np.intp),
            cpu_basis=_floats([_cpu_basis(row, services, cores) for row in rows]),
            memory_basis=_floats([row.memory_limit for row in rows]),
        )

    def _column_for(self, row: RosterRow) -> int:
        column = self._ring.column_for(row.key)
        self._owner[column] = row
        self._column_of_task[row.task] = column
        return column


def _floats(values: Sequence[float | None]) -> Floats:
    return np.asarray([np.nan if v is None else v for v in values], dtype=np.float32)


def _cpu_basis(
    row: RosterRow, services: Mapping[str, Service], node_cores: float | None
) -> float | None:
    if row.cpu_limit is not None:
        return row.cpu_limit
    service = services.get(row.service)
    if service is not None and service.cpu_reservation is not None:
        return service.cpu_reservation
    return node_cores


def _reading(name: str, rows: Mapping[str, Floats], layout: _Layout) -> Floats | None:
    """One metric of a batch, derived if it is a derived one; None if the batch lacks it."""
    metric = METRIC_BY_NAME[name]
    values = rows.get(metric.numerator or metric.name)
    if values is None:
        return None
    values = values[layout.taken]
    if metric.basis is not None:
        basis = layout.cpu_basis if metric.basis == "cpu" else layout.memory_basis
        with np.errstate(all="ignore"):
            values = (100.0 * values / basis).astype(np.float32)
    # Every metric counts something: what is below 0, or without end, was not measured.
    return np.where(np.isfinite(values) & (values >= 0), values, np.float32(np.nan))
