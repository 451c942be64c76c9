"""Values over time in promtool's notation: `50+10x6 _x2 95x20 stale`.

`a` is one value; `a+bxn` and `a-bxn` are a and n more, each b further; `axn` is a and n more of it;
`_` is a missing value and `_xn` n of them. `stale` ends it: from there on nothing comes at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

VALUES_MAX = 20_000
# Below this every whole number has a float of its own; no figure that is measured is beyond it.
VALUE_MAX = 1e15
EXAMPLE = '"50+10x6 _x2 95x20"'
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_RUN = re.compile(rf"(-?{_NUMBER})(?:([-+])({_NUMBER}))?(?:x([0-9]{{1,6}}))?")
_GAP = re.compile(r"_(?:x([0-9]{1,6}))?")
_STALE = "stale"


class After(Enum):
    """What comes after the last value: nothing, that value for ever, or not even a sample."""

    MISSING = "missing"
    SAME = "same"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Series:
    """One value per step from time 0 on; None is missing."""

    values: tuple[float | None, ...]
    after: After = After.MISSING

    def at(self, step: int) -> float | None:
        """The value at this step; None if it is missing."""
        if step < len(self.values):
            return self.values[step]
        return self.values[-1] if self.after is After.SAME else None

    def is_stale(self, step: int) -> bool:
        """Whether nothing comes any more."""
        return self.after is After.STALE and step >= len(self.values)

    @property
    def steps(self) -> int:
        """How many steps it takes until nothing new comes; 0 for one that never changes."""
        return 0 if self.after is After.SAME else len(self.values)


def constant(value: float) -> Series:
    """The same value at every step. Raises ValueError whose text says what is wrong."""
    return Series((_checked(value, f"{value:g}"),), After.SAME)


def _checked(value: float, word: str) -> float:
    # What is no number is neither above nor below.
    if not -VALUE_MAX <= value <= VALUE_MAX:
        raise ValueError(f"{word[:40]} goes beyond {VALUE_MAX:g}")
    return value


def parse_series(text: str) -> Series:
    """The series that this text writes. Raises ValueError whose text says what is wrong."""
    values: list[float | None] = []
    words = text.split()
    if not words:
        raise ValueError("there is no value")
    for place, word in enumerate(words):
        if word == _STALE:
            if place < len(words) - 1:
                raise ValueError("nothing comes after stale")
            return Series(tuple(values), After.STALE)
        values += _values(word, VALUES_MAX - len(values))
    return Series(tuple(values))


def _values(word: str, room: int) -> list[float | None]:
    gap, run = _GAP.fullmatch(word), _RUN.fullmatch(word)
    if gap is None and run is None:
        raise ValueError(f"{word[:40]} cannot be read")
    count = int(gap[1] or 1) if gap else int(run[4] or 0) + 1 if run else 0
    if count > room:
        raise ValueError(f"more than {VALUES_MAX} values")
    if run is None:
        return [None] * count
    step = float(f"{run[2]}{run[3]}") if run[2] else 0.0
    return [_checked(float(run[1]) + each * step, word) for each in range(count)]
