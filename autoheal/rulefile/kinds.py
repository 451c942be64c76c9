"""A map whose first key is its kind, as a condition's `metric` or a source's `redis`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoheal.rulefile.fields import Spot
from autoheal.rulefile.mistakes import nearest, one_of, shown
from autoheal.rulefile.tree import Map, Scalar, described


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds there are of a thing, what it is called, and how one is written.

    `other_words` are words of other languages, whose nearest kind is not the one that is meant.
    """

    noun: str
    words: Sequence[str]
    example: str
    other_words: Mapping[str, str]

    def of(self, spot: Spot) -> str | None:
        """The kind that is meant at this spot; None, and noted, if that cannot be told."""
        node = spot.node
        if not isinstance(node, Map) or not node.entries:
            if not isinstance(node, Map) or node.complete:
                spot.note(f"{described(node)} is not a {self.noun}", f"such as {self.example}")
            return None
        keys = [key for key, _ in node.entries]
        for key in keys:
            if key.text in self.words:
                if key is not keys[0]:
                    what = f"'{key.text}' is the kind of {self.noun}"
                    spot.at(key).note(what, "write it first")
                return key.text
        return self._guess(spot, keys, complete=node.complete)

    def _guess(self, spot: Spot, keys: list[Scalar], *, complete: bool) -> str | None:
        first = keys[0].text
        if first in self.other_words:
            hint = f"did you mean {self.other_words[first]}?"
            spot.at(keys[0]).note(f"unknown {self.noun} {first}", hint)
            return None
        # A misspelt kind is read as the one that was meant; it is noted as an unknown key.
        guess = next(filter(None, (nearest(key.text, self.words) for key in keys)), None)
        if guess is None and complete:
            spot.at(keys[0]).note(f"unknown {self.noun} {shown(first)}", one_of(self.words))
        return guess
