"""For a file or a pipe: every fact a line, in the order they happen, and the closing's tables."""

from __future__ import annotations

from io import StringIO
from typing import TextIO

from rich.console import Console

from autoheal.demo import words
from autoheal.demo.story import Closing, Fact, Glance, Opening
from autoheal.demo.tables import closing_view

# The closing's: what fits into a document.
WIDTH = 100
_WHO_WIDTH = max(map(len, words.SPEAKERS))


class Plain:
    """Writes lines `HH:MM:SS WHO WHAT [| WHY]` without control codes, each flushed.

    What the stream's encoding cannot express is written as `?`. Raises BrokenPipeError once nobody
    reads on.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._total_ms = 0

    def open(self, opening: Opening) -> None:
        """What is about to be seen."""
        self._total_ms = opening.total_ms
        for line in (*words.opening_lines(opening), ""):
            self._write(line)

    def tell(self, fact: Fact) -> None:
        """One line."""
        told = words.tell(fact)
        why = f" | {told.why}" if told.why else ""
        who = told.who.ljust(_WHO_WIDTH)
        self._write(f"{words.clock(told.at_ms)} {who} {told.what}{why}")

    def glance(self, glance: Glance) -> None:
        """Nothing: lines that only tell that time passes would hide the others."""

    def close(self, closing: Closing) -> None:
        """The tables."""
        page = StringIO()
        console = Console(file=page, width=WIDTH, color_system=None, _environ={})
        console.print(closing_view(closing, self._total_ms, WIDTH), highlight=False)
        for line in page.getvalue().splitlines():
            self._write(line.rstrip())

    def _write(self, line: str) -> None:
        encoding = self._out.encoding or "utf-8"
        self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self._out.flush()
