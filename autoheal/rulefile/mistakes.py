"""What is wrong in a rule file, said so that its writer finds it and mends it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from autoheal.errors import UserError

SHOWN_CHARACTERS_MAX = 40
LINES_MAX = 1_000
BEGINNING_MIN = 3
_WORD = re.compile(r"[A-Za-z0-9_.*-]+")


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing to mend. Lines and columns count from 1; mistakes sort by where they are."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        """One line, as compilers write it: an editor can jump to it."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {self.what}{hint}"


class RuleFileError(UserError):
    """The rule files cannot be used; `mistakes` holds all that is wrong with them, in order.

    In words, one line for each of the first thousand.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        lines = [str(mistake) for mistake in self.mistakes[:LINES_MAX]]
        if len(self.mistakes) > LINES_MAX:
            lines.append(f"and {len(self.mistakes) - LINES_MAX} more mistakes")
        super().__init__("\n".join(lines))


class Notes:
    """The mistakes found so far."""

    def __init__(self) -> None:
        self._mistakes: list[Mistake] = []

    def __len__(self) -> int:
        return len(self._mistakes)

    def add(self, mistake: Mistake) -> None:
        """One more."""
        self._mistakes.append(mistake)

    def raise_if_any(self) -> None:
        """RuleFileError, unless there is nothing to mend."""
        if self._mistakes:
            raise RuleFileError(self._mistakes)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, such as oom_killed by oom; None if none is near."""
    # The comparison is quadratic in the word's length, and no long word is a slip of a short one.
    if len(word) > SHOWN_CHARACTERS_MAX:
        return None
    known = list(known)
    longer = [name for name in known if name.startswith(word)] if len(word) >= BEGINNING_MIN else []
    if len(longer) == 1:
        return longer[0]
    return next(iter(difflib.get_close_matches(word, known, n=1)), None)


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint for an unknown word: the nearest known one, else all of them."""
    known = list(known)
    guess = nearest(word, known)
    return f"did you mean {guess}?" if guess else one_of(known)


def one_of(known: Iterable[str]) -> str:
    """A hint: all that could stand here."""
    known = list(known)
    return f"one of {', '.join(known)}" if len(known) > 1 else f"only {known[0]}"


def shown(text: str) -> str:
    """A user's word in a message: bare if it is one plain word, else quoted, on one line."""
    return shortened(text) if _WORD.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """A user's text in a message, in quotes, on one line, printable everywhere."""
    text = shortened(text)
    return f'"{text}"' if text.isprintable() else json.dumps(text)


def shortened(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    if len(text) <= SHOWN_CHARACTERS_MAX:
        return text
    return text[:SHOWN_CHARACTERS_MAX] + "..."
