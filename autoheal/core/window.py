"""The recent past in one array per metric: slots of one step x containers, float32, NaN = missing.

A sample falls into slot floor(time / step); the last one in a slot wins and a late one fills its
past slot. The ring keeps as many slots as the longest window of any rule. Writing a batch costs one
indexed assignment per metric, whatever the number of containers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import RosterRow, Service
from autoheal.records import SampleBatch

Floats = NDArray[np.float32]
Columns = NDArray[np.intp]

INITIAL_COLUMNS = 64
# Late samples and the slot still being filled need room beside the longest window.
SPARE_SLOTS = 4
NEVER = -1


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
        self.head: int | None = None
        self._metrics = tuple(metrics)
        self._data: dict[str, Floats] = {m: self._empty(INITIAL_COLUMNS) for m in metrics}
        self._rosters: dict[str, dict[bytes, RosterRow]] = {}
        self._column: dict[bytes, int] = {}
        self._column_of_task: dict[str, int] = {}
        self._owner: dict[int, RosterRow] = {}
        self._last_slot = np.full(INITIAL_COLUMNS, NEVER, dtype=np.int64)
        self._free = list(range(INITIAL_COLUMNS - 1, -1, -1))
        self._layouts: dict[str, _Layout] = {}

    def fold(
        self, batch: SampleBatch, at_ms: int, services: Mapping[str, Service], revision: int
    ) -> None:
        """Take in one batch, true at `at_ms`; `revision` changes whenever `services` does."""
        if batch.roster is not None:
            self._rosters[batch.node] = {row.key: row for row in batch.roster}
            self._layouts.pop(batch.node, None)
        slot = at_ms // self.step_ms
        if not self._advance(slot) or not batch.samples.keys:
            return
        layout = self._layout(batch, services, revision)
        self._last_slot[layout.columns] = np.maximum(self._last_slot[layout.columns], slot)
        rows = dict(zip(batch.samples.metrics, batch.samples.matrix, strict=True))
        for name, data in self._data.items():
            values = _reading(name, rows, layout)
            if values is not None:
                data[slot % self.slots, layout.columns] = values

    def column(self, task: str) -> int | None:
        """Where a task's samples are; None if it never had any."""
        return self._column_of_task.get(task)

    def read(self, metric: str, slots: Sequence[int], columns: Columns) -> Floats:
        """Slots x columns; a negative column, or a slot outside the ring, reads as missing."""
        data = self._data[metric]
        head = -1 if self.head is None else self.head
        values = data[np.asarray(slots, dtype=np.intp) % self.slots][:, np.maximum(columns, 0)]
        outside = [slot > head or slot <= head - self.slots for slot in slots]
        values[np.asarray(outside, dtype=bool), :] = np.nan
        values[:, columns < 0] = np.nan
        return values

    @property
    def containers(self) -> int:
        """How many containers have samples in the ring."""
        return len(self._column)

    def forget(self) -> None:
        """Free the columns of containers without a sample in the whole ring: they are all NaN."""
        if self.head is None:
            return
        oldest = self.head - self.slots
        silent = [column for column in self._owner if self._last_slot[column] <= oldest]
        for column in silent:
            row = self._owner.pop(column)
            del self._column[row.key]
            if self._column_of_task.get(row.task) == column:
                del self._column_of_task[row.task]
            self._free.append(column)
        if silent:
            self._layouts.clear()

    def _empty(self, columns: int) -> Floats:
        return np.full((self.slots, columns), np.nan, dtype=np.float32)

    def _advance(self, slot: int) -> bool:
        """Make room for `slot`; False when it is older than the ring."""
        if self.head is None:
            self.head = slot
        if slot <= self.head - self.slots:
            return False
        if slot > self.head:
            fresh = range(max(self.head + 1, slot - self.slots + 1), slot + 1)
            rows = np.asarray([each % self.slots for each in fresh], dtype=np.intp)
            for data in self._data.values():
                data[rows] = np.nan
            self.head = slot
        return True

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
        column = self._column.get(row.key)
        if column is None:
            if not self._free:
                self._grow()
            column = self._free.pop()
            self._column[row.key] = column
            self._last_slot[column] = NEVER
        self._owner[column] = row
        self._column_of_task[row.task] = column
        return column

    def _grow(self) -> None:
        old = len(self._last_slot)
        size = 2 * old
        self._last_slot = np.concatenate([self._last_slot, np.full(old, NEVER, dtype=np.int64)])
        for name, data in self._data.items():
            wider = self._empty(size)
            wider[:, :old] = data
            self._data[name] = wider
        self._free.extend(range(size - 1, old - 1, -1))


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
