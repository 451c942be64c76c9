"""Which services and hours two rules have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import builders
from autoheal.actions import ScaleUp
from autoheal.core.rule import MINUTE_MS, Match, Period, Rule, Schedule, Zone
from autoheal.lint.services import covers, may_meet
from autoheal.model import Mode

UTC = Zone("UTC", ((0, 0),))
BERLIN = Zone("Europe/Berlin", ((0, 3_600_000),))
WEEKDAYS, WEEKEND = (0, 1, 2, 3, 4), (5, 6)


ALL = Match()


def rule(match: Match = ALL, schedule: Schedule | None = None, mode: Mode = Mode.LIVE) -> Rule:
    return Rule("any", "", builders.CPU_HIGH, ScaleUp(3), match, schedule=schedule, mode=mode)


def hours(days: tuple[int, ...], start: int, end: int, zone: Zone = UTC) -> Schedule:
    return Schedule(zone, (Period(days, start, end),))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Match(), Match(), True),
        (Match("web-*"), Match("*-api"), True),
        (Match("web-*"), Match("api-*"), False),
        (Match("web", stack="shop"), Match("web"), True),
        (Match("web", stack="shop"), Match("web", stack="blog"), False),
        (Match(labels=(("tier", "web*"),)), Match(), True),
        (Match(labels=(("tier", "web*"),)), Match(labels=(("team", "a"),)), True),
        (Match(labels=(("tier", "web*"),)), Match(labels=(("tier", "*b"),)), True),
        (Match(labels=(("tier", "web"),)), Match(labels=(("tier", "db"),)), False),
        (Match(labels=(("a", "1"), ("b", "1"))), Match(labels=(("a", "1"), ("b", "2"))), False),
    ],
)
def test_rules_may_meet_where_all_that_their_matches_name_fits_one_service(
    one: Match, other: Match, expected: bool
) -> None:
    assert may_meet(rule(one), rule(other)) is expected
    assert may_meet(rule(other), rule(one)) is expected


def test_a_rule_on_trial_meets_none_that_is_not() -> None:
    live, trial = rule(), rule(mode=Mode.DRY_RUN)
    assert not may_meet(live, trial)
    assert may_meet(trial, trial)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (hours(WEEKDAYS, 480, 1080), None, True),
        (hours(WEEKDAYS, 480, 1080), hours(WEEKDAYS, 1080, 1200), False),
        (hours(WEEKDAYS, 480, 1081), hours(WEEKDAYS, 1080, 1200), True),
        (hours(WEEKDAYS, 0, 1440), hours(WEEKEND, 0, 1440), False),
        # Friday's night ends on Saturday.
        (hours((4,), 1320, 360), hours((5,), 359, 400), True),
        (hours((4,), 1320, 360), hours((5,), 360, 400), False),
        (hours(WEEKDAYS, 480, 1080), hours(WEEKDAYS, 1080, 1200, BERLIN), True),
    ],
)
def test_rules_meet_only_in_hours_that_both_have(
    one: Schedule, other: Schedule | None, expected: bool
) -> None:
    assert may_meet(rule(schedule=one), rule(schedule=other)) is expected
    assert may_meet(rule(schedule=other), rule(schedule=one)) is expected


def test_a_schedule_never_meets_its_outside() -> None:
    inside = hours(WEEKDAYS, 480, 1080)
    outside = Schedule(UTC, inside.periods, is_outside=True)
    assert not may_meet(rule(schedule=inside), rule(schedule=outside))


MINUTES = st.integers(0, 47).map(lambda half_hour: half_hour * 30)
DAYS = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))
PERIODS = st.lists(st.builds(Period, DAYS, MINUTES, MINUTES), min_size=1, max_size=3).map(tuple)
SCHEDULES = st.builds(Schedule, st.just(UTC), PERIODS, st.booleans())


@given(SCHEDULES, SCHEDULES)
def test_schedules_meet_exactly_where_a_half_hour_of_the_week_is_in_both(
    one: Schedule, other: Schedule
) -> None:
    week = [half_hour * 30 * MINUTE_MS for half_hour in range(7 * 48)]
    shared = any(one.holds(moment) and other.holds(moment) for moment in week)
    assert may_meet(rule(schedule=one), rule(schedule=other)) is shared


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        (Match(), Match("web-*", stack="shop", labels=(("a", "1"),)), True),
        (Match("web-*"), Match("web-*"), True),
        (Match("web-*"), Match("web-api"), True),
        (Match("web-*"), Match("api"), False),
        (Match("web-*"), Match("web-a*"), False),
        (Match("web-*"), Match(), False),
        (Match(stack="*"), Match(), True),
        (Match(stack="shop"), Match(), False),
        (Match(stack="s*"), Match(stack="shop"), True),
        (Match(labels=(("a", "*"),)), Match(), False),
        (Match(labels=(("a", "*"),)), Match(labels=(("a", "1"), ("b", "2"))), True),
        (Match(labels=(("a", "2"),)), Match(labels=(("a", "1"),)), False),
    ],
)
def test_one_match_covers_another_where_that_is_plain(
    wide: Match, narrow: Match, expected: bool
) -> None:
    assert covers(rule(wide), rule(narrow)) is expected
