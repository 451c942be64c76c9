"""The chart of one service: its CPU as blocks, its replicas as a line, over simulated time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoheal.demo.story import Glance
from autoheal.demo.words import clock

# The whole demonstration fits into so many columns; a narrower chart shows the last part of it.
COLUMNS_MAX = 120
LABEL_WIDTH = 9
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ASCII_EIGHTHS = "  ...:::#"


@dataclass(slots=True)
class _Column:
    """What was seen in one slot of time."""

    replicas: int
    figures: list[float] = field(default_factory=list)

    def note(self, glance: Glance) -> None:
        self.replicas = glance.replicas
        if glance.cpu_percent is not None:
            self.figures.append(glance.cpu_percent)

    @property
    def mean(self) -> float | None:
        return sum(self.figures) / len(self.figures) if self.figures else None


class Chart:
    """Gathers glances, and draws them in as much room as there is."""

    def __init__(self, total_ms: int) -> None:
        self._column_ms = max(1, math.ceil(total_ms / COLUMNS_MAX))
        self._columns: list[_Column] = []

    def add(self, glance: Glance) -> None:
        """A glance holds for its slot, and for those before it in which nobody looked."""
        last = glance.at_ms // self._column_ms
        first = min(len(self._columns), last)
        while len(self._columns) <= last:
            self._columns.append(_Column(glance.replicas))
        for column in self._columns[first:]:
            column.note(glance)

    def draw(self, width: int, height: int, *, plain_ascii: bool) -> Sequence[str]:
        """`height` rows of CPU, one of replicas, one of time; none is wider than `width`."""
        room = max(1, width - LABEL_WIDTH)
        shown = self._columns[-room:]
        glyphs = _ASCII_EIGHTHS if plain_ascii else _EIGHTHS
        rows = [
            _label(level, height) + "".join(_cell(each, level, height, glyphs) for each in shown)
            for level in reversed(range(height))
        ]
        line = "-" if plain_ascii else "─"
        rows.append("replicas ".ljust(LABEL_WIDTH) + _steps(shown, room, line))
        rows.append("time ".ljust(LABEL_WIDTH) + self._axis(len(shown), room, line))
        return [row[:width].rstrip() for row in rows]

    def _axis(self, shown: int, room: int, line: str) -> str:
        """When the first column shown began, and when the last one."""
        first, last = len(self._columns) - shown, max(0, len(self._columns) - 1)
        start, end = (clock(each * self._column_ms)[:-3] for each in (first, last))
        if min(shown, room) < len(start) + len(end) + 2:
            return start
        return f"{start} {line * (shown - len(start) - len(end) - 2)} {end}"


def _label(level: int, height: int) -> str:
    """The scale: what the top and the bottom stand for."""
    if level == height - 1:
        return "cpu 100% "
    return ("0% " if level == 0 else "").rjust(LABEL_WIDTH)


def _cell(column: _Column, level: int, height: int, glyphs: str) -> str:
    """How far the column's mean fills this level; any use at all shows."""
    if column.mean is None:
        return " "
    top = len(glyphs) - 1
    filled = math.ceil(min(column.mean, 100.0) / 100 * height * top) - level * top
    return glyphs[max(0, min(filled, top))]


def _steps(columns: Sequence[_Column], room: int, line: str) -> str:
    """A line with the count where it begins and wherever it changes."""
    row = [line] * len(columns)
    before: int | None = None
    for at, column in enumerate(columns):
        if column.replicas != before:
            text = str(column.replicas)
            begin = max(0, min(at, room - len(text)))
            row[begin : begin + len(text)] = text
        before = column.replicas
    return "".join(row)
