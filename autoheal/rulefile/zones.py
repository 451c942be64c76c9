"""Time zones by the name that people know, with the changes of their clocks laid out."""

from __future__ import annotations

import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from autoheal.core.rule import Zone
from autoheal.rulefile.mistakes import nearest

UTC_NAME = "UTC"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
_LAST = datetime(2040, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
# What they mean differs from machine to machine, or is nothing.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})


@functools.cache
def zone_names() -> frozenset[str]:
    """Every zone there is."""
    return frozenset(zoneinfo.available_timezones() - _NO_ZONES)


def nearest_zone(name: str) -> str | None:
    """The zone that was probably meant, also by its city alone; None if none is near."""
    names = sorted(zone_names())
    cities = {each.rpartition("/")[2].casefold(): each for each in reversed(names)}
    return cities.get(name.casefold().replace(" ", "_")) or nearest(name, names)


@functools.cache
def read_zone(name: str) -> Zone:
    """A zone there is, with its changes from 2020 to 2040; later its last one goes on."""
    return Zone(name, tuple(_changes(zoneinfo.ZoneInfo(name))))


def _changes(zone: zoneinfo.ZoneInfo) -> Iterator[tuple[int, int]]:
    day, offset = _FIRST, _offset(zone, _FIRST)
    yield _ms(day - _EPOCH), _ms(offset)
    while day < _LAST:
        following = day + _DAY
        if _offset(zone, following) != offset:
            change = _change(zone, day, following)
            offset = _offset(zone, following)
            yield _ms(change - _EPOCH), _ms(offset)
        day = following


def _change(zone: zoneinfo.ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second after a change that happened between these times."""
    old = _offset(zone, before)
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        before, after = (before, middle) if _offset(zone, middle) != old else (middle, after)
    return after


def _offset(zone: zoneinfo.ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta(0)


def _ms(length: timedelta) -> int:
    return length // timedelta(milliseconds=1)
