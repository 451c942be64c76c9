"""Small values that only test files have: offsets of time, ticks, series, maps by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from autoheal.rulefile.fields import Fields, Spot
from autoheal.rulefile.mistakes import quoted, shown, suggestion
from autoheal.rulefile.tree import Kind, Map, Node, Scalar, described
from autoheal.ruletest.series import EXAMPLE, Series, constant, parse_series
from autoheal.units import format_duration, parse_duration

Read = TypeVar("Read")

OFFSET_MS_MAX = 30 * 24 * 3_600_000
_CHARACTERS_MAX = 32
_WHOLE = re.compile(r"-?[0-9]{1,9}")
ZERO = constant(0.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a test begins, on the simulated clock, and how far apart its ticks are."""

    zero_ms: int
    step_ms: int


def each_by_name(spot: Spot | None, example: str) -> Iterator[tuple[str, Spot, Spot]]:
    """The names in a map, each once, with the spots of the name and of its value."""
    if spot is None:
        return
    if not isinstance(spot.node, Map):
        spot.note(f"{described(spot.node)} is not a map", f"such as {example}")
        return
    lines: dict[str, int] = {}
    for key, value in spot.node.entries:
        if key.text in lines:
            spot.at(key).note(f"duplicate key '{key.text}'", f"first in line {lines[key.text]}")
        else:
            lines[key.text] = key.line
            yield key.text, spot.at(key), spot.below(key.text, value)


def by_name(spot: Spot | None, example: str, read: Callable[[Spot], Read]) -> dict[str, Read]:
    """What the values of a map are read as, by name."""
    return {name: read(value) for name, _, value in each_by_name(spot, example)}


def known_name(spot: Spot, name: str, noun: str, known: Sequence[str]) -> bool:
    """Whether this name is known; noted if it is not."""
    if name in known:
        return True
    hint = suggestion(name, known) if known else ""
    spot.note(f"there is no {noun} {shown(name)}", hint)
    return False


def plain_text(spot: Spot | None) -> str:
    """Any single value as it was written, "" if there is none."""
    if spot is None:
        return ""
    if not isinstance(spot.node, Scalar) or spot.node.kind is Kind.NOTHING:
        spot.note(f"{described(spot.node)} is not a text", "quote it")
        return ""
    return spot.node.text


def truth(fields: Fields, key: str, *, default: bool) -> bool:
    """Whether true stands under a key."""
    spot = fields.spot(key)
    if spot is None:
        return default
    if not isinstance(spot.node, Scalar) or spot.node.kind is not Kind.TRUTH:
        spot.note(f"{described(spot.node)} is neither true nor false", "such as true")
        return default
    return spot.node.text.lower() == "true"


def whole(spot: Spot, *, least: int, most: int) -> int:
    """A whole number within bounds, 0 and noted if there is none."""
    text = spot.node.text if isinstance(spot.node, Scalar) else ""
    if not _WHOLE.fullmatch(text):
        spot.note(f"{described(spot.node)} is not a whole number", "such as 1")
        return 0
    if not least <= int(text) <= most:
        spot.note(f"{shown(text)} is out of range", f"from {least} to {most}")
    return int(text)


def is_none(spot: Spot | None) -> bool:
    """Whether the word none stands there."""
    return spot is not None and isinstance(spot.node, Scalar) and spot.node.text == "none"


def offset(spot: Spot | None, example: str) -> int | None:
    """A time from the begin of the test, in ms; before it with a minus; None if there is none."""
    if spot is None:
        return None
    text = _written(spot.node)
    if text is None:
        spot.note(f"{described(spot.node)} is not a time", f"try {example}")
        return None
    try:
        milliseconds = parse_duration(text.removeprefix("-"))
    except ValueError as error:
        said, _, better = str(error).removesuffix(")").rpartition(" (")
        sign = "-" if text.startswith("-") else ""
        spot.note(said.replace('"', f'"{sign}', 1), better.replace("try ", f"try {sign}"))
        return None
    if milliseconds > OFFSET_MS_MAX:
        spot.note(f"{shown(text)} is too far off", f"at most {format_duration(OFFSET_MS_MAX)}")
        return None
    return -milliseconds if text.startswith("-") else milliseconds


def _written(node: Node) -> str | None:
    """The text of a time; None if it is none. A bare 0 needs a unit too."""
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        return None
    return node.text if len(node.text) <= _CHARACTERS_MAX and node.text.isprintable() else None


def time_before(spot: Spot | None, timing: Timing, example: str = "-10m") -> int | None:
    """A time before the test begins, or the very begin; None if there is none."""
    found = offset(spot, example)
    if found is not None and spot is not None and found > 0:
        spot.note(f"{_text(spot)} is after the test begins", f"try {example}")
    return None if found is None else timing.zero_ms + min(0, found)


def time_within(spot: Spot | None, timing: Timing) -> int:
    """A time from the begin of the test on."""
    found = offset(spot, "3m") or 0
    if found < 0 and spot is not None:
        spot.note(f"{_text(spot)} is before the test begins", "0s is when it does")
    return timing.zero_ms + max(0, found)


def tick_time(spot: Spot | None, timing: Timing) -> int:
    """The time of a tick: a multiple of the step, and not 0."""
    found = offset(spot, "3m")
    if spot is None or found is None:
        return timing.zero_ms
    if found <= 0 or found % timing.step_ms:
        better = format_duration((max(0, found) // timing.step_ms + 1) * timing.step_ms)
        hint = f"the step is {format_duration(timing.step_ms)}; try {better}"
        spot.note(f"there is no tick at {_text(spot)}", hint)
    return timing.zero_ms + max(0, found)


def _text(spot: Spot) -> str:
    return shown(spot.node.text) if isinstance(spot.node, Scalar) else described(spot.node)


def series(spot: Spot, *, least: float | None = None) -> Series:
    """A series; a bare number is that value at every step."""
    found = _series(spot)
    lowest = min((value for value in found.values if value is not None), default=0.0)
    if least is not None and lowest < least:
        spot.note(f"{lowest:g} is below {least:g}", "no such figure is")
    return found


def _series(spot: Spot) -> Series:
    node = spot.node
    if not isinstance(node, Scalar) or node.kind in (Kind.TRUTH, Kind.NOTHING):
        spot.note(f"{described(node)} is not a series", f"such as {EXAMPLE}")
        return ZERO
    try:
        if node.kind in (Kind.WHOLE, Kind.REAL):
            return constant(float(node.text[:_CHARACTERS_MAX]))
        return parse_series(node.text)
    except ValueError as error:
        spot.note(f"{quoted(node.text)} is not a series: {error}", f"such as {EXAMPLE}")
        return ZERO


def merged(base: Map, over: Map, deep: Sequence[str]) -> Map:
    """The entries of both maps; under a key of both, those of `over`, or, if `deep`, of both."""
    below = {key.text: value for key, value in base.entries}
    entries = [
        (key, _joined(below.get(key.text), value) if key.text in deep else value)
        for key, value in over.entries
    ]
    own = {key.text for key, _ in over.entries}
    inherited = tuple(entry for entry in base.entries if entry[0].text not in own)
    return Map(over.line, over.column, (*entries, *inherited), base.complete and over.complete)


def _joined(base: Node | None, over: Node) -> Node:
    if isinstance(base, Map) and isinstance(over, Map):
        return merged(base, over, ())
    return over
