"""The memory under every window: slots of one step x columns, float32, NaN = missing.

Each column belongs to a key, from its first value until the whole ring has moved past its last.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Columns = NDArray[np.intp]
Key = TypeVar("Key", bound=Hashable)

# With figures in a smaller share of the slots nothing is known.
COVERAGE = 0.8
INITIAL_COLUMNS = 64
NEVER = -1


def complete_slots(now_ms: int, over_ms: int, step_ms: int) -> range:
    """The complete slots of the last `over_ms`: the one now being filled does not count."""
    now_slot = now_ms // step_ms
    return range(now_slot - max(1, -(-over_ms // step_ms)), now_slot)


class Ring(Generic[Key]):
    """The last `slots` slots of the named figures."""

    def __init__(self, names: Iterable[str], slots: int) -> None:
        self.slots = slots
        self.head: int | None = None
        self._data: dict[str, Floats] = {name: self._empty(INITIAL_COLUMNS) for name in names}
        self._column: dict[Key, int] = {}
        self._last_slot = np.full(INITIAL_COLUMNS, NEVER, dtype=np.int64)
        self._free = list(range(INITIAL_COLUMNS - 1, -1, -1))

    def __len__(self) -> int:
        """How many keys have a column."""
        return len(self._column)

    def keys(self) -> Iterable[Key]:
        """Those that have a column."""
        return self._column.keys()

    @property
    def names(self) -> Iterable[str]:
        """The figures that are kept."""
        return self._data.keys()

    @property
    def width(self) -> int:
        """How many columns there is room for."""
        return len(self._last_slot)

    def column(self, key: Key) -> int | None:
        """The column of a key; None if it has none."""
        return self._column.get(key)

    def column_for(self, key: Key) -> int:
        """The column of a key; a free one if it had none."""
        column = self._column.get(key)
        if column is None:
            if not self._free:
                self._grow()
            column = self._column[key] = self._free.pop()
            self._last_slot[column] = NEVER
        return column

    def advance(self, slot: int) -> bool:
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

    def touch(self, slot: int, columns: Columns) -> None:
        """Note that these columns were written to in a slot that `advance` made room for."""
        self._last_slot[columns] = np.maximum(self._last_slot[columns], slot)

    def write(self, name: str, slot: int, columns: Columns, values: Floats) -> None:
        """Put one figure of these columns into a slot that `advance` made room for."""
        self._data[name][slot % self.slots, columns] = values

    def read(self, name: str, slots: Sequence[int], columns: Columns) -> Floats:
        """Slots x columns; a negative column, or a slot outside the ring, reads as missing."""
        head = -1 if self.head is None else self.head
        rows = np.asarray(slots, dtype=np.intp)
        values = self._data[name][rows % self.slots][:, np.maximum(columns, 0)]
        values[(rows > head) | (rows <= head - self.slots), :] = np.nan
        values[:, columns < 0] = np.nan
        return values

    def forget(self) -> dict[Key, int]:
        """Free the columns that were not written to in the whole ring; whose they were."""
        if self.head is None:
            return {}
        oldest = self.head - self.slots
        silent = {key: c for key, c in self._column.items() if self._last_slot[c] <= oldest}
        for key, column in silent.items():
            del self._column[key]
            self._free.append(column)
        return silent

    def _empty(self, columns: int) -> Floats:
        return np.full((self.slots, columns), np.nan, dtype=np.float32)

    def _grow(self) -> None:
        old = self.width
        self._last_slot = np.concatenate([self._last_slot, np.full(old, NEVER, dtype=np.int64)])
        for name, data in self._data.items():
            self._data[name] = np.concatenate([data, self._empty(old)], axis=1)
        self._free.extend(range(2 * old - 1, old - 1, -1))
