"""Chance without a generator: every number is a pure function of a seed and of what it is for.

Nothing is drawn in turn, so one service more changes no other's numbers, and the order of asking
never matters. Only hashing and exactly rounded arithmetic are used: the numbers are the same on
every machine and Python.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

# Two values each for some thousand noises at work at once.
CACHED_VALUES_MAX = 8_192
_CHANCE_BITS = 53  # a float's precision: any more could be rounded up to 1


def chance(seed: int, *name: str | int) -> float:
    """From 0, included, to 1, excluded; evenly spread, and unrelated for any two names."""
    digest = hashlib.blake2b(b"".join(map(_encoded, (seed, *name))), digest_size=8).digest()
    return math.ldexp(int.from_bytes(digest, "big") >> 64 - _CHANCE_BITS, -_CHANCE_BITS)


def noise(seed: int, *name: str | int, at_ms: int, period_ms: int) -> float:
    """From -1 to 1: wanders from one value to the next, which is another every `period_ms`.

    Smooth: between two times d ms apart it changes by no more than 3 x d / period. Raises
    ValueError for a period below 1 ms.
    """
    if period_ms < 1:
        raise ValueError(f"period_ms is {period_ms}: it must be at least 1")
    slot, since_ms = divmod(at_ms, period_ms)
    start = _lattice(seed, name, period_ms, slot)
    end = _lattice(seed, name, period_ms, slot + 1)
    return start + (end - start) * smooth(since_ms / period_ms)


def smooth(share: float) -> float:
    """From 0 to 1 as `share` goes from 0 to 1, level at both ends (the smoothstep polynomial)."""
    return share * share * (3.0 - 2.0 * share)


@lru_cache(CACHED_VALUES_MAX)
def _lattice(seed: int, name: tuple[str | int, ...], period_ms: int, slot: int) -> float:
    """From -1, included, to 1, excluded: the noise at the beginning of a slot."""
    return 2.0 * chance(seed, *name, "noise", period_ms, slot) - 1.0


def _encoded(part: str | int) -> bytes:
    """Bytes such that no two lists of parts run together into the same ones."""
    if isinstance(part, str):
        # A lone surrogate can stand in a file's name, and a name must not fail.
        data = part.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    return b"i%d:" % part
