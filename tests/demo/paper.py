"""What a terminal shows of what was written to it, with all that has scrolled away."""

from __future__ import annotations

import re

CURSOR_HIDDEN = "\x1b[?25l"
CURSOR_SHOWN = "\x1b[?25h"
_TOKEN = re.compile(r"\x1b\[\?25[lh]|\x1b\[(\d*)A|\x1b\[2K|\x1b\[[\d;]*m|\r|\n|[^\x1b\r\n]+")


def seen(written: str) -> list[str]:
    """The lines, without what was erased. Raises ValueError at a control code that is not known."""
    lines, row, column, at = [""], 0, 0, 0
    while at < len(written):
        token = _TOKEN.match(written, at)
        if token is None:
            raise ValueError(f"unknown control code at {written[at : at + 12]!r}")
        at, text = token.end(), token.group()
        if text == "\r":
            column = 0
        elif text == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text == "\x1b[2K":
            lines[row] = ""
        elif text.endswith("A") and text[0] == "\x1b":
            row -= int(token.group(1) or 1)
        elif text[0] != "\x1b":
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines]
