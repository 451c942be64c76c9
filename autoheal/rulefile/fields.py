"""One map of a rule file, read key by key.

Every reader returns a value of the right type. Where it noted a mistake, or where one was noted
before, the value is a stand-in: RuleFileError is raised before anyone looks at it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from autoheal.rulefile.mistakes import Mistake, Notes, nearest, one_of, quoted, shown, suggestion
from autoheal.rulefile.tree import Items, Kind, Map, Node, Refused, Scalar, described
from autoheal.units import format_duration, format_size, parse_duration, parse_size

COUNT_MAX = 10_000  # of tasks
QUANTITY_CHARACTERS_MAX = 32
_WHOLE_CHARACTERS_MAX = 18


@dataclass(frozen=True, slots=True)
class Spot:
    """A node, the way to it (`rules[0].when`), and where to note what is wrong with it."""

    file: str
    path: str
    node: Node
    notes: Notes

    def note(self, what: str, hint: str = "") -> None:
        """A mistake at this node; nothing if the node has been refused already."""
        if isinstance(self.node, Refused):
            return
        prefix = f"{self.path}: " if self.path else ""
        mistake = Mistake(self.file, self.node.line, self.node.column, f"{prefix}{what}", hint)
        self.notes.add(mistake)

    def at(self, node: Node) -> Spot:
        """The same place, pointing at a part of it, such as a key."""
        return Spot(self.file, self.path, node, self.notes)

    def below(self, step: str, node: Node) -> Spot:
        """The spot one step further in."""
        path = f"{self.path}.{step}".removeprefix(".")
        return Spot(self.file, path, node, self.notes)


@dataclass(frozen=True, slots=True)
class Shape:
    """The keys a map may have, those it must have, and the map as people write it."""

    keys: tuple[str, ...]
    required: tuple[str, ...]
    example: str


def open_map(spot: Spot, shape: Shape) -> Fields | None:
    """The map at this spot; None, and noted, if it is none."""
    if isinstance(spot.node, Map):
        return Fields(spot, spot.node, shape)
    spot.note(f"{described(spot.node)} is not a map", f"such as {shape.example}")
    return None


def open_list(spot: Spot, hint: str) -> list[Spot]:
    """The spots of the list at this spot; none, and noted, if it is no list."""
    if not isinstance(spot.node, Items):
        spot.note(f"{described(spot.node)} is not a list", hint)
        return []
    nodes = enumerate(spot.node.nodes)
    return [Spot(spot.file, f"{spot.path}[{number}]", node, spot.notes) for number, node in nodes]


def open_items(spot: Spot, noun: str, example: str, most: int | None = None) -> list[Spot]:
    """The spots of a list that has one item at least, and so many at most."""
    each = open_list(spot, f"such as [{example}]")
    if isinstance(spot.node, Items) and not each:
        spot.note(f"the list of {noun} is empty", f"such as [{example}]")
    if most is not None and len(each) > most:
        spot.note(f"{len(each)} {noun} are too many", f"at most {most}")
    return each


def open_names(
    spot: Spot, noun: str, pattern: re.Pattern[str], hint: str, example: str
) -> dict[str, Spot]:
    """The spots in a map whose keys are names of the writer's own; none, and noted, if it is none.

    A name that is not of the pattern, or stands there twice, is noted and left out.
    """
    if not isinstance(spot.node, Map):
        spot.note(f"{described(spot.node)} is not a map", f"such as {example}")
        return {}
    if not spot.node.entries and spot.node.complete:
        spot.note("the map is empty", f"such as {example}")
    lines: dict[str, int] = {}
    found: dict[str, Spot] = {}
    for key, value in spot.node.entries:
        if key.text in lines:
            spot.at(key).note(f"duplicate key {_key(key.text)}", f"first in line {lines[key.text]}")
        elif not pattern.fullmatch(key.text):
            spot.at(key).note(f"{quoted(key.text)} is not {noun}", hint)
        else:
            found[key.text] = spot.below(key.text, value)
        lines.setdefault(key.text, key.line)
    return found


class Fields:
    """A map whose keys have been checked: unknown, duplicate and missing ones are noted.

    A missing key is not noted where an unknown one nearby was probably meant for it.
    """

    def __init__(self, spot: Spot, node: Map, shape: Shape) -> None:
        self._spot = spot
        self._shape = shape
        self._entries: dict[str, tuple[Scalar, Node]] = {}
        self._excused: set[str] = set() if node.complete else set(shape.keys)
        for key, value in node.entries:
            self._take(key, value)
        for name in shape.required:
            self.require(name)

    def _take(self, key: Scalar, value: Node) -> None:
        name = key.text
        if name in self._entries:
            first = self._entries[name][0].line
            self._spot.at(key).note(f"duplicate key '{name}'", f"first in line {first}")
        elif name in self._shape.keys:
            self._entries[name] = (key, value)
        else:
            hint = suggestion(name, self._shape.keys)
            self._spot.at(key).note(f"unknown key {_key(name)}", hint)
            self._excused.add(nearest(name, self._shape.keys) or "")

    @property
    def noted(self) -> int:
        """How many mistakes have been noted so far, here and elsewhere."""
        return len(self._spot.notes)

    def spot(self, key: str) -> Spot | None:
        """The value under a key; None if the key is absent."""
        if key not in self._entries:
            return None
        return self._spot.below(key, self._entries[key][1])

    def is_excused(self, key: str) -> bool:
        """Whether a key that is not there may have been meant by one that was refused."""
        return key in self._excused

    def require(self, key: str, hint: str = "") -> None:
        """Note that a key is missing, if it is and nothing unknown was probably meant for it."""
        if key not in self._entries and key not in self._excused:
            self._spot.note(f"missing key '{key}'", hint or f"such as {self._shape.example}")

    def require_one(self, keys: Sequence[str], what: str) -> None:
        """Note `what` if none of these keys is there, nor was probably meant."""
        if self._entries.keys().isdisjoint(keys) and self._excused.isdisjoint(keys):
            self._spot.note(what, one_of(keys))

    def refuse(self, key: str, what: str, hint: str) -> None:
        """Note that this key may not stand here, if it does, and read on as if it did not."""
        spot = self.spot(key)
        if spot is not None:
            spot.note(what, hint)
            del self._entries[key]

    def exactly_one(self, keys: Sequence[str], none: str) -> str | None:
        """Which of these keys is there; None, and noted, if it is not exactly one.

        `none` is what is said where there is none at all.
        """
        self.require_one(keys, none)
        present = [key for key in self._entries if key in keys]
        for extra in present[1:]:
            second = self._entries[extra][0]
            what = f"'{extra}' beside '{present[0]}'"
            self._spot.at(second).note(what, f"exactly one of {', '.join(keys)}")
        return present[0] if len(present) == 1 else None

    def duration(self, key: str, *, most_ms: int, least_ms: int = 0) -> int:
        """Milliseconds, 0 if the key is absent."""
        spot = self.spot(key)
        if spot is None:
            return 0
        milliseconds = _duration(spot)
        if milliseconds is None:
            return 0
        if milliseconds < least_ms:
            spot.note(f"{_text(spot.node)} is too short", f"at least {format_duration(least_ms)}")
        if milliseconds > most_ms:
            spot.note(f"{_text(spot.node)} is too long", f"at most {format_duration(most_ms)}")
        return milliseconds

    def size(self, key: str, *, least: float, most: float) -> int:
        """Bytes, 0 if the key is absent."""
        spot = self.spot(key)
        size = None if spot is None else _size(spot)
        if spot is None or size is None:
            return 0
        if not least <= size <= most:
            bounds = f"from {format_size(int(least))} to {format_size(int(most))}"
            spot.note(f"{_text(spot.node)} is out of range", bounds)
        return size

    def number(self, key: str, *, least: float = -math.inf, most: float = math.inf) -> float:
        """A finite number within bounds, 0 if the key is absent."""
        spot = self.spot(key)
        if spot is None:
            return 0.0
        if not isinstance(spot.node, Scalar) or spot.node.kind not in (Kind.WHOLE, Kind.REAL):
            spot.note(f"{described(spot.node)} is not a number", "such as 80")
            return 0.0
        value = float(spot.node.text)
        if not math.isfinite(value):
            spot.note(f"{described(spot.node)} is too large a number")
        elif not least <= value <= most:
            spot.note(f"{described(spot.node)} is out of range", f"from {least:g} to {most:g}")
        return value + 0.0  # -0 and 0 are one number and must have one hash

    def whole(self, key: str, *, least: int, most: int) -> int:
        """A whole number within bounds, 0 if the key is absent."""
        spot = self.spot(key)
        if spot is None:
            return 0
        if not isinstance(spot.node, Scalar) or spot.node.kind is not Kind.WHOLE:
            spot.note(f"{described(spot.node)} is not a whole number", "such as 1")
            return 0
        # Python refuses to read thousands of digits; a few more than any bound has are enough.
        value = int(spot.node.text[:_WHOLE_CHARACTERS_MAX])
        if not least <= value <= most:
            spot.note(f"{described(spot.node)} is out of range", f"from {least} to {most}")
        return value

    def word(self, key: str, noun: str, choices: Iterable[str]) -> str | None:
        """One of the choices; None if the key is absent or the word is none of them."""
        spot = self.spot(key)
        return None if spot is None else word(spot, noun, list(choices))

    def text(self, key: str, noun: str, pattern: re.Pattern[str], hint: str) -> str:
        """A text of this pattern, "" if the key is absent."""
        spot = self.spot(key)
        if spot is None:
            return ""
        if not isinstance(spot.node, Scalar) or spot.node.kind is not Kind.TEXT:
            spot.note(f"{described(spot.node)} is not {noun}", hint)
            return ""
        if not pattern.fullmatch(spot.node.text):
            spot.note(f"{quoted(spot.node.text)} is not {noun}", hint)
            return ""
        return spot.node.text


def word(spot: Spot, noun: str, choices: Sequence[str]) -> str | None:
    """The word at this spot; None, and noted, if it is none of the choices."""
    if not isinstance(spot.node, Scalar) or spot.node.kind is Kind.NOTHING:
        spot.note(f"{described(spot.node)} is no {noun}", one_of(choices))
        return None
    text = spot.node.text
    if text in choices:
        return text
    spot.note(f"unknown {noun} {shown(text)}", suggestion(text, choices))
    return None


def _duration(spot: Spot) -> int | None:
    if not isinstance(spot.node, Scalar) or spot.node.kind is not Kind.TEXT:
        is_whole = isinstance(spot.node, Scalar) and spot.node.kind is Kind.WHOLE
        hint = f"try {_text(spot.node).lstrip('+-')}s" if is_whole else "try 2m"
        spot.note(f"{described(spot.node)} is not a duration", hint)
        return None
    return _quantity(spot, spot.node.text, parse_duration, "is not a duration", "try 2m")


def _size(spot: Spot) -> int | None:
    if not isinstance(spot.node, Scalar) or spot.node.kind is not Kind.TEXT:
        spot.note(f"{described(spot.node)} is not a size", "try 64MiB")
        return None
    return _quantity(spot, spot.node.text, parse_size, "is not a size", "try 64MiB")


def _quantity(
    spot: Spot, text: str, parse: Callable[[str], int], what: str, hint: str
) -> int | None:
    """A number with its unit; None, and noted in the words of the parser, if it is none."""
    if len(text) > QUANTITY_CHARACTERS_MAX or not (text.isascii() and text.isprintable()):
        spot.note(f"{quoted(text)} {what}", hint)
        return None
    try:
        return parse(text)
    except ValueError as error:
        said, _, better = str(error).removesuffix(")").rpartition(" (")
        spot.note(said, better)
        return None


def _text(node: Node) -> str:
    return shown(node.text) if isinstance(node, Scalar) else described(node)


def _key(name: str) -> str:
    """An unknown key in a message."""
    short = shown(name)
    return short if short.startswith('"') else f"'{short}'"
