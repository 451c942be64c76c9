"""What outside sources told over the recent past: one figure per slot and source, NaN = missing.

A value holds from its time until the next one, but for `stale_after_ms` at most. That a source
could not be read is remembered and told; it does not end the value before it. A figure counts
something, and is summed up: one below 0 or above FIGURE_MAX is taken as one that could not be read.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from autoheal.core.rule import Source
from autoheal.core.view.task_rows import Doubles
from autoheal.core.view.window import SPARE_SLOTS
from autoheal.model import SourceValue

# Nothing that is counted comes near it, and whatever is made of figures up to it is a number.
FIGURE_MAX = 1e15


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source stands at one instant.

    `value` is the one that holds, None where none does; `age_ms` is that of the last value, None if
    there never was one. `error` is why the source cannot be read, "" while it can, and
    `failing_since_ms` since when.
    """

    value: float | None = None
    age_ms: int | None = None
    error: str = ""
    failing_since_ms: int | None = None


@dataclass(slots=True)
class _Told:
    """What one source told: values by their times, and the failure that its newest entry is."""

    stale_after_ms: int
    times_ms: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    newest_ms: int = -1
    error: str = ""
    failing_since_ms: int | None = None

    def tell(self, value: float, at_ms: int) -> None:
        place = bisect.bisect_right(self.times_ms, at_ms)
        self.times_ms.insert(place, at_ms)
        self.values.insert(place, value)

    def note(self, error: str, at_ms: int) -> None:
        """The source could be read at this time, or, with an error, could not."""
        if at_ms < self.newest_ms:
            return
        self.newest_ms, self.error = at_ms, error
        if not error:
            self.failing_since_ms = None
        elif self.failing_since_ms is None:
            self.failing_since_ms = at_ms

    def state(self, now_ms: int) -> SourceState:
        if not self.times_ms:
            return SourceState(error=self.error, failing_since_ms=self.failing_since_ms)
        age_ms = now_ms - self.times_ms[-1]
        value = self.values[-1] if age_ms <= self.stale_after_ms else None
        return SourceState(value, age_ms, self.error, self.failing_since_ms)

    def forget(self, before_ms: int) -> None:
        """Drop what is older, but the last value: how old it is can still be told."""
        old = min(bisect.bisect_left(self.times_ms, before_ms), len(self.times_ms) - 1)
        if old > 0:
            del self.times_ms[:old], self.values[:old]


def why_unreadable(value: float) -> str:
    """What this is instead of a figure that can be reckoned with, "" if it is one."""
    if not math.isfinite(value):
        return "not a figure"
    if value < 0:
        return "below 0"
    return f"above {FIGURE_MAX:g}" if value > FIGURE_MAX else ""


class SourceWindow:
    """The values that count within the last `longest_ms`, of the named sources."""

    def __init__(self, sources: Iterable[Source], *, step_ms: int, longest_ms: int) -> None:
        self._step_ms = step_ms
        self._kept_ms = longest_ms + SPARE_SLOTS * step_ms
        self._told: dict[str, _Told] = {}
        self._definitions: dict[str, str] = {}
        for each in sources:
            self._told[each.name] = _Told(each.stale_after_ms)
            self._definitions[each.name] = each.definition

    def fold(self, value: SourceValue, at_ms: int) -> None:
        """Take in what one source told, true at `at_ms`; sources without a name here tell nobody.

        Nor does an answer to another question, asked under the same name. Of two values with one
        time the later entry counts.
        """
        told = self._told.get(value.source)
        if told is None or value.definition != self._definitions[value.source]:
            return
        if value.value is None:
            told.note(value.error or "no value", at_ms)
        elif why := why_unreadable(value.value):
            told.note(f"{value.value:g} is {why}", at_ms)
        else:
            told.note("", at_ms)
            told.tell(value.value, at_ms)

    def figures(self, source: str, slots: range) -> Doubles:
        """The value that held at the end of each slot, NaN where none did."""
        told = self._told[source]
        ends_ms = (np.asarray(slots, dtype=np.int64) + 1) * self._step_ms
        times_ms = np.asarray([-1, *told.times_ms], dtype=np.int64)
        values = np.asarray([np.nan, *told.values], dtype=np.float64)
        last = np.searchsorted(times_ms[1:], ends_ms, side="left")
        fresh = ends_ms - times_ms[last] <= told.stale_after_ms
        return np.where(fresh, values[last], np.nan)

    def states(self, now_ms: int) -> Mapping[str, SourceState]:
        """How every source stands at `now_ms`, by name."""
        return {name: self._told[name].state(now_ms) for name in sorted(self._told)}

    def forget(self, now_ms: int) -> None:
        """Drop what no later window reaches back to."""
        for told in self._told.values():
            told.forget(now_ms - self._kept_ms)
