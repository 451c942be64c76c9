"""Durations and sizes as people write them: `90s`, `2m`, `1h30m`, `250ms`; `64MiB`, `1.5GB`."""

from __future__ import annotations

import math
import re
from typing import NewType

Size = NewType("Size", int)
"""Bytes: a parameter of this type is read from a rule file as a size, not as a count."""

MIB = 2**20

_DURATION_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_SIZE = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s?([KMGT]i?B|B)")


def parse_duration(text: str) -> int:
    """Milliseconds. Raises ValueError whose text completes 'X is not ...'."""
    if not _DURATION.fullmatch(text):
        hint = _duration_hint(text)
        raise ValueError(f'"{text}" is not a duration (try {hint})')
    return sum(int(n) * _DURATION_MS[unit] for n, unit in _DURATION_PART.findall(text))


def _duration_hint(text: str) -> str:
    """The nearest thing we could have read: '2 minutes' -> 2m, '30' -> 30s."""
    found = re.match(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)", text)
    if not found:
        return "2m"
    number, word = float(found.group(1)), found.group(2).lower()
    unit = word[0] if word and word[0] in "smhd" else "s"
    if word.startswith(("ms", "mil")):
        unit = "ms"
    return format_duration(round(number * _DURATION_MS[unit]))


def format_duration(ms: int) -> str:
    """The shortest exact form: 90000 -> 1m30s."""
    if ms == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _DURATION_MS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError whose text completes 'X is not ...'."""
    found = _SIZE_TEXT.fullmatch(text)
    if not found:
        raise ValueError(f'"{text}" is not a size (try 64MiB)')
    return int(float(found.group(1)) * _SIZE[found.group(2)])


def format_size(size: int) -> str:
    """The largest binary unit that is not below 1, one decimal where it is not whole."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _SIZE[unit]:
            value = size / _SIZE[unit]
            return f"{value:.0f}{unit}" if value == int(value) else f"{value:.1f}{unit}"
    return f"{size}B"


def format_compose_size(size: int) -> str:
    """As compose files write it, up to the next MiB: 192M; 2G where it is whole."""
    mebibytes = math.ceil(size / MIB)
    gibibytes, rest = divmod(mebibytes, 1024)
    return f"{mebibytes}M" if rest else f"{gibibytes}G"
