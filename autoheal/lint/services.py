"""Which services, and which hours, two rules have in common."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools

from autoheal.core.rule import DAY_MS, DAYS_IN_WEEK, MINUTE_MS, Match, Rule, Schedule, Zone
from autoheal.lint.globs import intersect

_WILD = frozenset("*?[")
_UTC = Zone("UTC", ((0, 0),))


def may_meet(one: Rule, other: Rule) -> bool:
    """Whether some service may fit both, at some time, with both in one contest.

    A rule on trial never meets one that is not.
    """
    same_lane = one.mode is other.mode
    return same_lane and fit_both(one.match, other.match) and _overlap(one.schedule, other.schedule)


def covers(wide: Rule, narrow: Rule) -> bool:
    """Whether each service that fits `narrow` surely fits `wide`."""
    match = narrow.match
    labels = dict(match.labels)
    return (
        _within(wide.match.service, match.service)
        and (wide.match.stack is None or _within(wide.match.stack, match.stack or "*"))
        and all(name in labels and _within(glob, labels[name]) for name, glob in wide.match.labels)
    )


def _within(wide: str, narrow: str) -> bool:
    """Whether what matches `narrow` matches `wide`; False where that is not plain to see."""
    is_plain = not _WILD & set(narrow)
    return wide in ("*", narrow) or (is_plain and fnmatch.fnmatchcase(narrow, wide))


@functools.cache
def fit_both(one: Match, other: Match) -> bool:
    """Whether some service may fit both."""
    labels = dict(other.labels)
    return (
        intersect(one.service, other.service)
        and intersect(one.stack or "*", other.stack or "*")
        and all(intersect(value, labels.get(name, "*")) for name, value in one.labels)
    )


@functools.cache
def _overlap(one: Schedule | None, other: Schedule | None) -> bool:
    """Whether both can be in force at once; clocks of two zones are taken to be able to."""
    if one is None or other is None or one.zone != other.zone:
        return True
    ours, theirs = (dataclasses.replace(each, zone=_UTC) for each in (one, other))
    # Between the minutes at which a period begins or ends nothing changes.
    periods = (*one.periods, *other.periods)
    minutes = {0, *(minute for each in periods for minute in (each.from_minute, each.to_minute))}
    moments = [
        day * DAY_MS + minute * MINUTE_MS for day in range(DAYS_IN_WEEK) for minute in minutes
    ]
    return any(ours.holds(moment) and theirs.holds(moment) for moment in moments)
