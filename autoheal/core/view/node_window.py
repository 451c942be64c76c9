"""The load of the nodes themselves over the recent past, and which of them are saturated.

Load only ever argues against acting, so in a node's mean load a slot without a figure counts as
full; with figures in too few slots its load is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autoheal.core.view.ring import COVERAGE, Ring, complete_slots
from autoheal.core.view.window import SPARE_SLOTS
from autoheal.records import SampleBatch

FULL = 100.0
DECIMALS = 3
FIGURES = ("cpu_percent", "memory_percent")


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """A node's mean load over the saturation window, in percent; None is not known.

    `memory` is what its kernel has, in bytes.
    """

    cpu_percent: float | None = None
    memory_percent: float | None = None
    memory: int | None = None


class NodeWindow:
    """The nodes' own figures over the last `longest_ms` and the `mean_ms` before them."""

    def __init__(self, *, step_ms: int, mean_ms: int, longest_ms: int) -> None:
        self._step_ms = step_ms
        self._mean_ms = mean_ms
        slots = -(-longest_ms // step_ms) + -(-mean_ms // step_ms) + SPARE_SLOTS
        self._ring = Ring[str](FIGURES, slots)
        self._memory: dict[str, int] = {}

    def fold(self, batch: SampleBatch, at_ms: int) -> None:
        """Take in what one node told of itself, true at `at_ms`."""
        slot = at_ms // self._step_ms
        if not self._ring.advance(slot):
            return
        columns = np.asarray([self._ring.column_for(batch.node)], dtype=np.intp)
        self._ring.touch(slot, columns)
        for name in FIGURES:
            value = getattr(batch.figures, name)
            if value is not None:
                self._ring.write(name, slot, columns, np.asarray([value], dtype=np.float32))
        if batch.figures.memory is not None:
            self._memory[batch.node] = batch.figures.memory

    def forget(self) -> None:
        """Drop the nodes that told nothing in the whole window."""
        for node in self._ring.forget():
            self._memory.pop(node, None)

    def loads(self, now_ms: int) -> dict[str, NodeLoad]:
        """Each node's mean load at `now_ms`; a node of which nothing is known has none."""
        nodes = sorted(self._ring.keys())
        slots = complete_slots(now_ms, self._mean_ms, self._step_ms)
        cpu, memory = (self._means(name, nodes, slots) for name in FIGURES)
        return {
            node: NodeLoad(cpu[place], memory[place], self._memory.get(node))
            for place, node in enumerate(nodes)
            if cpu[place] is not None or memory[place] is not None
        }

    def saturated(
        self, nodes: Sequence[str], slots: range, percent: int, *, missing: float
    ) -> NDArray[np.bool_]:
        """Slots x nodes: whether the mean of CPU or memory had reached `percent` at its end.

        A slot without a figure counts as `missing` percent.
        """
        length = max(1, -(-self._mean_ms // self._step_ms))
        earlier = range(slots.start - length + 1, slots.stop)
        reached = np.zeros((len(slots), len(nodes)), dtype=bool)
        for name in FIGURES:
            values = self._figures(name, nodes, earlier)
            filled = np.where(np.isnan(values), missing, values)
            means = sliding_window_view(filled, length, axis=0).mean(axis=-1)
            reached |= np.round(means, DECIMALS) >= percent
        return reached

    def _means(self, name: str, nodes: Sequence[str], slots: range) -> list[float | None]:
        values = self._figures(name, nodes, slots)
        missing = np.isnan(values)
        means = np.round(np.where(missing, FULL, values).mean(axis=0), DECIMALS)
        known = (~missing).mean(axis=0) >= COVERAGE
        return [
            float(mean) if is_known else None for mean, is_known in zip(means, known, strict=True)
        ]

    def _figures(self, name: str, nodes: Sequence[str], slots: range) -> NDArray[np.float64]:
        found = (self._ring.column(node) for node in nodes)
        columns = np.asarray([-1 if c is None else c for c in found], dtype=np.intp)
        return self._ring.read(name, slots, columns).astype(np.float64)
