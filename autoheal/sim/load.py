"""Load curves: the CPU that a whole service is asked for, in cores, at a time.

Times are milliseconds since 1970 in the simulated world's clock. Curves are values: pure, frozen
and comparable, never negative at any time, before 1970 included.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from autoheal.errors import UserError
from autoheal.sim.chance import noise, smooth

CORES_MAX = 1_000_000
SECONDS_MAX = 10_000_000_000
POINTS_MAX = 100_000
SHOWN_CHARACTERS_MAX = 40

_HOUR_MS = 3_600_000
_DAY_HOURS = 24
_DAY_MS = _DAY_HOURS * _HOUR_MS
_HEADER = ["seconds", "cores"]
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class Load(Protocol):
    """A curve."""

    def at(self, ms: int) -> float:
        """Cores asked for at `ms`, 0 or more."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    cores: float

    def __post_init__(self) -> None:
        _check_cores(cores=self.cores)

    def at(self, ms: int) -> float:  # noqa: ARG002  # the one curve that does not look at the time
        """`cores`."""
        return self.cores


@dataclass(frozen=True, slots=True)
class Sine:
    """Up and down around `mean` once per period; at `phase_ms` it passes the mean, rising.

    What would be below 0 is 0: an amplitude above the mean leaves the service idle for a while.
    """

    mean: float
    amplitude: float
    period_ms: int
    phase_ms: int = 0

    def __post_init__(self) -> None:
        _check_cores(mean=self.mean, amplitude=self.amplitude)
        _check_at_least(1, period_ms=self.period_ms)

    def at(self, ms: int) -> float:
        """`mean` +- `amplitude`."""
        turns = (ms - self.phase_ms) % self.period_ms / self.period_ms
        # The last digits of a sine differ between machines; a simulated day may not.
        return max(0.0, self.mean + self.amplitude * round(math.sin(math.tau * turns), 12))


@dataclass(frozen=True, slots=True)
class Spike:
    """`base`, once left for `peak`: a straight rise from `start_ms` on, a hold, a straight fall.

    A rise or fall of 0 ms is a step. A peak below the base is a dip.
    """

    base: float
    peak: float
    start_ms: int
    rise_ms: int
    hold_ms: int
    fall_ms: int

    def __post_init__(self) -> None:
        _check_cores(base=self.base, peak=self.peak)
        _check_at_least(0, rise_ms=self.rise_ms, hold_ms=self.hold_ms, fall_ms=self.fall_ms)

    def at(self, ms: int) -> float:
        """`base` before and after, `peak` in the hold."""
        since_ms = ms - self.start_ms
        left_ms = self.rise_ms + self.hold_ms + self.fall_ms - since_ms
        if since_ms < 0 or left_ms <= 0:
            return self.base
        share = 1.0
        if since_ms < self.rise_ms:
            share = since_ms / self.rise_ms
        elif left_ms < self.fall_ms:
            share = left_ms / self.fall_ms
        return _between(self.base, self.peak, share)


@dataclass(frozen=True, slots=True)
class Day:
    """The same day every day, as people keep it: a quiet night, a rise, one peak, a fall.

    `peak_hour` is an hour of the day in UTC, such as 14.5. The rise takes the `rise_hours` before
    it, the fall the `fall_hours` after it; all other hours are `low`. An office is Day(1, 8, 11, 5,
    9), a shop that sells in the evening Day(1, 8, 20, 14, 5).
    """

    low: float
    high: float
    peak_hour: float
    rise_hours: float = 8.0
    fall_hours: float = 9.0

    def __post_init__(self) -> None:
        _check_cores(low=self.low, high=self.high)
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g}: it must not be above high, {self.high:g}")
        if not 0 <= self.peak_hour < _DAY_HOURS:
            raise ValueError(f"peak_hour is {self.peak_hour:g}: it must be from 0 to below 24")
        busy_hours = self.rise_hours + self.fall_hours
        if not (self.rise_hours > 0 and self.fall_hours > 0 and busy_hours <= _DAY_HOURS):
            raise ValueError(
                f"rise_hours is {self.rise_hours:g} and fall_hours {self.fall_hours:g}: both must"
                " be above 0, and together at most 24"
            )

    def at(self, ms: int) -> float:
        """`low` at night, `high` at the peak, smooth between."""
        rise_ms = self.rise_hours * _HOUR_MS
        fall_ms = self.fall_hours * _HOUR_MS
        since_ms = (ms - self.peak_hour * _HOUR_MS + rise_ms) % _DAY_MS
        if since_ms < rise_ms:
            share = since_ms / rise_ms
        else:
            share = max(0.0, 1.0 - (since_ms - rise_ms) / fall_ms)
        return _between(self.low, self.high, smooth(share))


@dataclass(frozen=True, slots=True)
class Trace:
    """Straight lines through `points` of (ms, cores), ms counted from `start_ms` and rising.

    Before the first point and after the last it stays level. With `period_ms` it repeats instead,
    in both directions, with a straight line from the last point to the next first one.
    """

    points: tuple[tuple[int, float], ...]
    period_ms: int | None = None
    start_ms: int = 0

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("points is empty: it must hold at least one")
        for _, cores in self.points:
            _check_cores(cores=cores)
        for (before, _), (after, _) in zip(self.points, self.points[1:], strict=False):
            if after <= before:
                raise ValueError(f"points go from {before} ms to {after} ms: times must rise")
        if self.period_ms is not None:
            length_ms = self.points[-1][0] - self.points[0][0]
            _check_at_least(max(1, length_ms), period_ms=self.period_ms)

    def at(self, ms: int) -> float:
        """On the line between the two points around `ms`."""
        first_ms, first_cores = self.points[0]
        ms -= self.start_ms
        if self.period_ms is not None:
            ms = first_ms + (ms - first_ms) % self.period_ms
        after = bisect_right(self.points, ms, key=itemgetter(0))
        if after == 0:
            return first_cores
        start_ms, start_cores = self.points[after - 1]
        if after < len(self.points):
            end_ms, end_cores = self.points[after]
        elif self.period_ms is not None:
            end_ms, end_cores = first_ms + self.period_ms, first_cores
        else:
            return start_cores
        return _between(start_cores, end_cores, (ms - start_ms) / (end_ms - start_ms))


@dataclass(frozen=True, slots=True)
class Sum:
    """Several loads at once; none is no load."""

    parts: tuple[Load, ...]

    def at(self, ms: int) -> float:
        """All of them together."""
        return math.fsum(part.at(ms) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Noisy:
    """A load that wanders around `load` by up to `share` of it, another way every `period_ms`.

    `seed` and `name` say which noise: loads of the same two wander together.
    """

    load: Load
    seed: int
    name: str
    share: float
    period_ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share:g}: it must be from 0 to 1")
        _check_at_least(1, period_ms=self.period_ms)

    def at(self, ms: int) -> float:
        """`load` x (1 +- `share`)."""
        wander = noise(self.seed, self.name, at_ms=ms, period_ms=self.period_ms)
        return self.load.at(ms) * (1.0 + self.share * wander)


def read_trace(text: str, name: str) -> Trace:
    """The trace in a CSV file with the header `seconds,cores`: one point a line, seconds rising.

    Empty lines are passed over. `name` is the file's, for messages. Raises UserError, one line
    NAME:LINE: what is wrong, for the first mistake.
    """
    lines = text.removeprefix("\ufeff").split("\n")
    if _cells(lines[0]) != _HEADER:
        raise UserError(f"{name}:1: {_shown(lines[0])} is no header (expected seconds,cores)")
    points: list[tuple[int, float]] = []
    for number, line in _filled(lines[1:]):
        try:
            points.append(_next_point(line, points))
        except ValueError as error:
            raise UserError(f"{name}:{number}: {error}") from error
    if not points:
        raise UserError(f"{name}:2: no point follows the header (expected one a line, as 60,1.5)")
    return Trace(tuple(points))


def _filled(lines: list[str]) -> Iterator[tuple[int, str]]:
    """The lines below the header that say something, each with its number in the file."""
    return ((number, line) for number, line in enumerate(lines, start=2) if line.strip())


def _next_point(line: str, points: list[tuple[int, float]]) -> tuple[int, float]:
    """The point in a line. Raises ValueError, also where it cannot follow those before it."""
    cells = _cells(line)
    if len(cells) != len(_HEADER):
        raise ValueError(f"{_shown(line)} is not two numbers (expected seconds,cores as 60,1.5)")
    if len(points) == POINTS_MAX:
        raise ValueError(f"too many points (expected no more than {POINTS_MAX})")
    ms = round(_number("seconds", cells[0], SECONDS_MAX) * 1_000)
    cores = _number("cores", cells[1], CORES_MAX)
    if points and ms <= points[-1][0]:
        raise ValueError(
            f"seconds {_shown(cells[0])} is not after {points[-1][0] / 1_000:.16g} of the line"
            " before (expected rising times, at least 0.001 apart)"
        )
    return ms, cores


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _number(what: str, text: str, most: int) -> float:
    """From 0 to `most`. Raises ValueError."""
    # float() alone would take nan, inf, 1_000 and the digits of other scripts.
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{what} {_shown(text)} is not a number (expected one such as 1.5)")
    value = float(text)
    if not 0 <= value <= most:
        raise ValueError(f"{what} {_shown(text)} is out of range (expected from 0 to {most})")
    return value


def _shown(text: str) -> str:
    """A user's text in a message, in quotes, on one line, printable everywhere."""
    text = text.strip()
    cut = text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."
    return json.dumps(cut)


def _between(start: float, end: float, share: float) -> float:
    """Exactly `start` at share 0, exactly `end` at share 1, never negative where both are not."""
    return start * (1.0 - share) + end * share


def _check_cores(**named: float) -> None:
    for name, value in named.items():
        # Written so that NaN does not pass.
        if not 0 <= value <= CORES_MAX:
            raise ValueError(f"{name} is {value:g}: it must be from 0 to {CORES_MAX} cores")


def _check_at_least(least: int, **named: int) -> None:
    for name, value in named.items():
        if value < least:
            raise ValueError(f"{name} is {value}: it must be at least {least}")
