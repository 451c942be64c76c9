"""Who is told: a person at a terminal, a file, a program."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from autoheal.demo.json_lines import JsonLines
from autoheal.demo.plain import Plain
from autoheal.demo.screen import Screen, Terminal
from autoheal.demo.story import Audience

# Terminals that know no control codes, as rich has it.
_DUMB = ("dumb", "unknown")


@contextmanager
def audience_for(
    out: TextIO, *, as_json: bool, environment: Mapping[str, str]
) -> Iterator[Audience]:
    """The audience behind `out`; however this is left, its terminal is as before.

    `environment` tells of the terminal: TERM, NO_COLOR, COLUMNS, LINES. Of a terminal's stream,
    what its encoding cannot express is written as `?` from here on.
    """
    if as_json:
        yield JsonLines(out)
    elif not out.isatty() or environment.get("TERM", "").lower() in _DUMB:
        yield Plain(out)
    else:
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="replace")
        with Screen(Terminal(out, environment)) as screen:
            yield screen
