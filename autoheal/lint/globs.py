"""Whether two shell patterns, as fnmatch reads them, match some text in common: exactly."""

from __future__ import annotations

import fnmatch
import functools
import re

# A star, a set in brackets (what is not closed is no set), or one character, `?` among them.
_TOKEN = re.compile(r"\*+|\[!?+\]?+[^\]]*+\]|.", re.DOTALL)
_CODE_POINT_MAX = 0x10FFFF


@functools.cache
def intersect(one: str, other: str) -> bool:
    """Whether some text matches both patterns."""
    across = _TOKEN.findall(other)
    # The places in `other` that can be reached by a text which some beginning of `one` matches.
    reached = _past_stars({0}, across)
    for token in _TOKEN.findall(one):
        reached = _step(token, reached, across)
    return len(across) in reached


def _is_star(token: str) -> bool:
    return token.startswith("*")


def _step(token: str, reached: set[int], across: list[str]) -> set[int]:
    """Where one more token of a pattern leads."""
    if _is_star(token):
        return _past_any(reached, across)
    ahead: set[int] = set()
    for place in reached:
        if place == len(across):
            continue
        if _is_star(across[place]):
            ahead |= {place} if _share(token, "?") else set()
        elif _share(token, across[place]):
            ahead.add(place + 1)
    return _past_stars(ahead, across)


def _past_stars(reached: set[int], across: list[str]) -> set[int]:
    """A star may stand for nothing."""
    found = set(reached)
    for place, token in enumerate(across):
        if place in found and _is_star(token):
            found.add(place + 1)
    return found


def _past_any(reached: set[int], across: list[str]) -> set[int]:
    """A star on this side passes over whatever can be matched at all."""
    found = set(reached)
    for place, token in enumerate(across):
        if place in found and (_is_star(token) or _share(token, "?")):
            found.add(place + 1)
    return found


@functools.cache
def _share(one: str, other: str) -> bool:
    """Whether a character matches both tokens.

    A set is made of runs of characters. Each run of what two have in common begins where one of
    theirs does: at a character that is written in one, or next to one, or at the first of all.
    """
    beginnings = {0, *(ord(each) + more for each in one + other for more in (0, 1))}
    return any(
        fnmatch.fnmatchcase(chr(code), one) and fnmatch.fnmatchcase(chr(code), other)
        for code in beginnings
        if code <= _CODE_POINT_MAX
    )
