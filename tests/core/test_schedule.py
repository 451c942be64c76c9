"""In which hours a rule is in force, whose clock counts, and what becomes of it outside of them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Restart
from autoheal.core.rule import DAY_MS, MINUTE_MS, Limit, Period, Rule, Schedule, Zone
from autoheal.model import ActionKind, OutcomeKind
from builders import (
    HOUR,
    MINUTE,
    NOW,
    STEP,
    Scene,
    escalate,
    event_condition,
    metric_condition,
    rule,
    scale_down,
    scale_up,
    scene,
)

UTC = Zone("UTC", ((0, 0),))
EVERY_DAY = tuple(range(7))
MON, TUE, FRI, SAT, SUN = 0, 1, 4, 5, 6
# 5 January 1970 was a Monday.
MONDAY_MS = 4 * DAY_MS


def at(day: int, hour: int, minute: int = 0) -> int:
    """A time of that week, in UTC."""
    return MONDAY_MS + day * DAY_MS + (hour * 60 + minute) * MINUTE_MS


def hours(begin: int, end: int, *days: int) -> Period:
    return Period(days or EVERY_DAY, begin * 60, end * 60)


# which times are meant


@pytest.mark.parametrize(
    ("period", "now_ms", "holds"),
    [
        (hours(8, 18), at(MON, 8) - 1, False),
        (hours(8, 18), at(MON, 8), True),
        (hours(8, 18), at(MON, 8) + 1, True),
        (hours(8, 18), at(MON, 18) - 1, True),
        (hours(8, 18), at(MON, 18), False),
        (hours(8, 18), at(MON, 18) + 1, False),
        (hours(8, 18, MON), at(TUE, 9), False),
        (hours(0, 24, TUE), at(TUE, 0) - 1, False),
        (hours(0, 24, TUE), at(TUE, 0), True),
        (hours(0, 24, TUE), at(TUE, 24) - 1, True),
        (hours(0, 24, TUE), at(TUE, 24), False),
        (hours(22, 6, FRI), at(FRI, 22) - 1, False),
        (hours(22, 6, FRI), at(FRI, 22), True),
        (hours(22, 6, FRI), at(SAT, 6) - 1, True),
        (hours(22, 6, FRI), at(SAT, 6), False),
        (hours(22, 6, FRI), at(FRI, 5), False),
        (hours(22, 6, SUN), at(MON, 5), True),
        (hours(22, 6, SUN), at(MON, 6), False),
        (hours(9, 9, MON), at(MON, 9) - 1, False),
        (hours(9, 9, MON), at(MON, 9), True),
        (hours(9, 9, MON), at(TUE, 9) - 1, True),
        (hours(9, 9, MON), at(TUE, 9), False),
    ],
)
def test_a_period_has_its_begin_and_not_its_end(
    period: Period, now_ms: int, *, holds: bool
) -> None:
    assert Schedule(UTC, (period,)).holds(now_ms) is holds
    assert Schedule(UTC, (period,), is_outside=True).holds(now_ms) is not holds


def test_any_of_several_periods_is_enough() -> None:
    twice = Schedule(UTC, (hours(8, 10), hours(9, 12), hours(0, 24, SUN)))
    held = [hour for hour in range(24) if twice.holds(at(MON, hour))]
    assert held == [8, 9, 10, 11]
    assert twice.holds(at(SUN, 23))


# Two hours ahead of UTC until a Sunday at 01:00 UTC, then one hour, as in Berlin in autumn.
BACK = Zone("autumn", ((0, 2 * HOUR), (at(SUN, 1), HOUR)))
# And the other way round, in spring.
FORTH = Zone("spring", ((0, HOUR), (at(SUN, 1), 2 * HOUR)))
AHEAD = Zone("ahead", ((0, 14 * HOUR),))
BEHIND = Zone("behind", ((0, -11 * HOUR),))


@pytest.mark.parametrize(
    ("zone", "now_ms", "holds"),
    [
        (AHEAD, at(SUN, 18) - 1, False),
        (AHEAD, at(SUN, 18), True),
        (AHEAD, at(MON, 4) - 1, True),
        (AHEAD, at(MON, 4), False),
        (AHEAD, at(SUN, 18) - 7 * DAY_MS, True),
        (BEHIND, at(MON, 19) - 1, False),
        (BEHIND, at(MON, 19), True),
        (BEHIND, at(TUE, 5), False),
    ],
)
def test_the_day_and_the_hour_are_those_of_the_zone(
    zone: Zone, now_ms: int, *, holds: bool
) -> None:
    assert Schedule(zone, (hours(8, 18, MON),)).holds(now_ms) is holds


@pytest.mark.parametrize(
    ("zone", "minutes"),
    [(UTC, 60), (BACK, 120), (FORTH, 0)],
)
def test_an_hour_that_comes_twice_counts_twice_and_one_that_is_left_out_does_not(
    zone: Zone, minutes: int
) -> None:
    night = Schedule(zone, (hours(2, 3, SUN),))
    held = [minute for minute in range(48 * 60) if night.holds(at(SAT, 0, minute))]
    assert len(held) == minutes


@pytest.mark.parametrize(
    ("now_ms", "local_ms"),
    [
        (-1, 2 * HOUR - 1),
        (at(SUN, 1) - 1, at(SUN, 3) - 1),
        (at(SUN, 1), at(SUN, 2)),
        (at(SUN, 1) + 1, at(SUN, 2) + 1),
    ],
)
def test_a_clock_changes_at_its_moment_and_before_the_first_is_as_after_it(
    now_ms: int, local_ms: int
) -> None:
    assert BACK.local_ms(now_ms) == local_ms


minutes_of_day = st.integers(0, 24 * 60 - 1)


@given(
    begin=minutes_of_day,
    end=st.integers(1, 24 * 60),
    day=st.integers(0, 6),
    offset=st.integers(-12 * 60, 14 * 60),
)
def test_a_period_of_one_day_lasts_as_long_as_it_says(
    begin: int, end: int, day: int, offset: int
) -> None:
    zone = Zone("somewhere", ((0, offset * MINUTE_MS),))
    once = Schedule(zone, (Period((day,), begin, end),))
    week = [once.holds(MONDAY_MS + minute * MINUTE_MS) for minute in range(7 * 24 * 60)]
    assert sum(week) == ((end - begin) % (24 * 60) or 24 * 60)
    turns = sum(now is not then for now, then in zip(week, week[1:] + week[:1], strict=True))
    assert turns == 2, "it is one piece"


# what becomes of a rule


def in_the_first_hour(made: Rule) -> Rule:
    """The rule, in force in the first hour from NOW on, every day."""
    begin = NOW % DAY_MS // MINUTE_MS
    schedule = Schedule(UTC, (Period(EVERY_DAY, begin, begin + 60),))
    return dataclasses.replace(made, schedule=schedule, hash=made.hash + " at times")


def world_of(*rules: Rule, at_ms: int = NOW) -> Scene:
    world = scene(*rules)
    world.now_ms = at_ms
    return world


def test_outside_its_hours_a_rule_does_nothing_and_is_not_even_pending() -> None:
    world = world_of(in_the_first_hour(scale_up()), at_ms=NOW + HOUR - STEP)
    assert world.wait(HOUR) == ()
    assert world.state.services["web"].rules == {}
    assert world.held() == {}


def test_when_its_hours_begin_it_begins_anew() -> None:
    world = world_of(in_the_first_hour(scale_up(for_ms=MINUTE)), at_ms=NOW - HOUR)
    assert world.wait(HOUR - STEP) == ()
    assert world.wait(MINUTE) == ()
    (made,) = world.tick()
    assert made.decided_at_ms == NOW + MINUTE


def test_when_its_hours_end_what_was_pending_ends() -> None:
    world = world_of(in_the_first_hour(scale_up(for_ms=2 * HOUR)), at_ms=NOW + HOUR - 3 * STEP)
    world.tick()
    assert "cpu-high" in world.state.services["web"].rules
    world.wait(2 * STEP)
    assert world.now_ms == NOW + HOUR
    assert world.state.services["web"].rules == {}


def test_outside_its_hours_it_blocks_nobody() -> None:
    cold = metric_condition(threshold=50.0)
    full = in_the_first_hour(scale_up(maximum=2))
    world = world_of(full, scale_down(when=cold), at_ms=NOW + HOUR - 2 * STEP)
    assert world.tick() == ()
    assert world.held() == {"cpu-high": "bound", "cpu-low": "arbitration"}
    (made,) = world.tick()
    assert (made.rule, made.decided_at_ms) == ("cpu-low", NOW + HOUR)


def test_what_it_holds_against_a_service_from_failed_attempts_is_forgotten() -> None:
    world = world_of(in_the_first_hour(scale_up()), at_ms=NOW + HOUR - 2 * STEP)
    (made,) = world.tick()
    world.report(made, OutcomeKind.NOT_APPLIED)
    world.now_ms += 1
    world.tick(STEP - 2)
    assert world.state.services["web"].failures == {"cpu-high": 1}
    world.tick()
    assert world.state.services["web"].failures == {}


# its alarms


@pytest.mark.parametrize("figure", [90.0, None, 10.0])
def test_its_alarm_ends_with_its_hours(figure: float | None) -> None:
    kept = dataclasses.replace(in_the_first_hour(escalate()), keep_firing_ms=HOUR)
    world = world_of(kept, at_ms=NOW + HOUR - 3 * STEP)
    assert [d.target for d in world.tick()] == [1]
    world.figures["web"] = figure
    assert world.tick() == ()
    (ended,) = world.tick()
    assert (ended.target, ended.decided_at_ms) == (0, NOW + HOUR)
    assert ended.reason == "resolved: the rule is outside its hours"
    assert world.state.services["web"].escalated == {}
    assert world.wait(HOUR) == ()


def test_a_page_stands_while_another_rule_rings_by_it() -> None:
    world = world_of(in_the_first_hour(escalate("a")), escalate("b"), at_ms=NOW + HOUR - 2 * STEP)
    assert [d.rule for d in world.tick()] == ["a"]
    assert world.wait(MINUTE) == ()
    assert set(world.state.services["web"].escalated) == {"b"}


def test_an_alarm_that_a_bound_was_reached_ends_with_its_hours_too() -> None:
    spent = rule(
        "restart",
        Restart(),
        event_condition(over_ms=HOUR),
        limit=Limit(1, 24 * HOUR),
    )
    world = world_of(in_the_first_hour(spent), at_ms=NOW + HOUR - 4 * STEP)
    world.running["web"] = 1
    world.tick()
    state = world.state.services["web"]
    acted = dataclasses.replace(state, acted={"restart": (world.now_ms - 2 * HOUR,)})
    world.state = dataclasses.replace(world.state, services={"web": acted})
    world.happen("oom_killed")
    assert [d.action for d in world.tick()] == [ActionKind.ESCALATE]
    assert world.tick() == ()
    (ended,) = world.tick()
    assert ended.reason == "resolved: the rule is outside its hours"


def test_whether_its_last_action_helped_is_judged_and_told_at_any_hour() -> None:
    hung = rule("hung", Restart(), metric_condition(), clears_within_ms=10 * MINUTE)
    world = world_of(in_the_first_hour(hung), at_ms=NOW + HOUR - 5 * MINUTE)
    world.running["web"] = 1
    (made,) = world.tick()
    world.apply(made, running=2)
    world.running["web"] = 2
    decided = world.wait(20 * MINUTE)
    (told,) = decided
    assert "restart did not help" in told.reason
    assert told.decided_at_ms > NOW + HOUR
    assert world.wait(HOUR) == (), "that it did not help stays true"
    world.figures["web"] = 10.0
    assert [d.target for d in world.tick()] == [0]


def test_outside_its_hours_a_rule_opens_no_incident() -> None:
    hung = in_the_first_hour(rule("hung", Restart(), metric_condition()))
    world = world_of(hung, at_ms=NOW + HOUR)
    world.tick()
    assert world.state.services["web"].incident is None
    world.now_ms = NOW + 24 * HOUR
    world.tick()
    assert world.state.services["web"].incident is not None
