"""When a rule is in force: what is written, and the hours that it means."""

import itertools
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.core.rule import Period, Schedule
from autoheal.rulefile import parse
from autoheal.rulefile.zones import read_zone, zone_names

TEXT = """
rules:
  - name: a
    schedule: %s
    when: {event: oom_killed, over: 10m, at_least: 1}
    then: {action: escalate}
"""
ALL = (0, 1, 2, 3, 4, 5, 6)
WORK = (0, 1, 2, 3, 4)
DAY = 24 * 60


def schedule(text: str) -> Schedule:
    (rule,) = parse({"x.yaml": (TEXT % text).encode()}).rules
    assert rule.schedule is not None
    return rule.schedule


PERIODS = {
    "{days: mon}": [Period((0,), 0, DAY)],
    "{days: [sun, mon]}": [Period((0, 6), 0, DAY)],
    "{days: mon-fri}": [Period(WORK, 0, DAY)],
    "{days: sat-mon}": [Period((0, 5, 6), 0, DAY)],
    "{days: [mon-wed, fri]}": [Period((0, 1, 2, 4), 0, DAY)],
    '{hours: "08:00-18:00"}': [Period(ALL, 480, 1080)],
    '{hours: "22:00-06:30"}': [Period(ALL, 1320, 390)],
    '{hours: "18:00-24:00"}': [Period(ALL, 1080, DAY)],
    '{hours: "18:00-00:00"}': [Period(ALL, 1080, DAY)],
    '{days: sun, hours: "00:00-00:01"}': [Period((6,), 0, 1)],
    '{days: sun, hours: "23:59-24:00"}': [Period((6,), 1439, DAY)],
    "{within: [{days: sat}, {days: wed}, {days: sat}]}": [
        Period((2,), 0, DAY),
        Period((5,), 0, DAY),
    ],
    '{within: [{days: mon-fri, hours: "08:00-12:00"}]}': [Period(WORK, 480, 720)],
}


@pytest.mark.parametrize(("text", "periods"), PERIODS.items(), ids=PERIODS)
def test_days_and_hours_are_periods_of_a_week(text: str, periods: list[Period]) -> None:
    assert schedule(text) == Schedule(read_zone("UTC"), tuple(periods))


def test_periods_can_be_those_outside_of_which_a_rule_is_in_force() -> None:
    read = schedule("{outside: [{days: sat-sun}], zone: Asia/Tokyo}")
    assert read == Schedule(read_zone("Asia/Tokyo"), (Period((5, 6), 0, DAY),), is_outside=True)


@pytest.mark.parametrize("order", list(itertools.permutations(["mon", "wed", "sat", "tue-fri"])))
def test_the_order_of_periods_makes_no_difference(order: tuple[str, ...]) -> None:
    periods = ", ".join(f"{{days: {days}}}" for days in order)
    days = [period.days for period in schedule(f"{{within: [{periods}]}}").periods]
    assert days == [(0,), (1, 2, 3, 4), (2,), (5,)]


BERLIN = '{days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}'


def holds(text: str, at: str) -> bool:
    """Whether the schedule holds at a time, which is UTC."""
    since = datetime.fromisoformat(at).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return schedule(text).holds(since // timedelta(milliseconds=1))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-07-06 05:59:59.999", False),
        ("2026-07-06 06:00:00", True),
        ("2026-07-06 15:59:59.999", True),
        ("2026-07-06 16:00:00", False),
        ("2026-07-05 08:00:00", False),  # a Sunday
        ("2026-01-05 06:59:59", False),  # in winter it is an hour later by UTC
        ("2026-01-05 07:00:00", True),
        ("2026-01-05 17:00:00", False),
    ],
)
def test_hours_are_those_of_the_zone_in_summer_and_in_winter(at: str, *, expected: bool) -> None:
    assert holds(BERLIN, at) is expected
    assert holds(BERLIN.replace("days: mon-fri, hours", "days: [mon-fri], hours"), at) is expected


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-07-10 21:59:59.999", False),
        ("2026-07-10 22:00:00", True),  # Friday
        ("2026-07-11 05:59:59.999", True),
        ("2026-07-11 06:00:00", False),
        ("2026-07-11 23:00:00", False),  # Saturday's night is not asked for
        ("2026-07-06 01:00:00", False),  # nor is Sunday's
    ],
)
def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(
    at: str, *, expected: bool
) -> None:
    assert holds('{days: mon-fri, hours: "22:00-06:00"}', at) is expected
    outside = '{outside: [{days: mon-fri, hours: "22:00-06:00"}]}'
    assert holds(outside, at) is not expected


@pytest.mark.parametrize(
    "text",
    [
        '{within: [{hours: "00:00-12:00"}, {hours: "12:01-00:00"}]}',
        '{outside: [{days: mon-sat}, {days: sun, hours: "00:00-23:59"}]}',
        '{outside: [{days: tue-sun}, {days: mon, hours: "00:01-24:00"}]}',
        '{within: [{days: sat-thu}, {hours: "20:00-19:59", days: thu}, {hours: "20:00-06:00"}]}',
    ],
)
def test_periods_that_leave_a_minute_of_the_week_are_a_schedule(text: str) -> None:
    assert schedule(text).periods


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"]
ZONES += ["Asia/Kathmandu", "America/Sao_Paulo", "Europe/Dublin", "Antarctica/Troll"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
seconds = st.integers(1_577_836_800, 2_208_988_799)  # from 2020 to 2040


@settings(deadline=None)
@given(st.sampled_from(ZONES), seconds)
def test_a_zones_changes_say_what_the_zone_says(name: str, second: int) -> None:
    at = EPOCH + timedelta(seconds=second)
    local = at.astimezone(zoneinfo.ZoneInfo(name)).replace(tzinfo=UTC)
    assert read_zone(name).local_ms(second * 1000) == (local - EPOCH) // timedelta(milliseconds=1)


@pytest.mark.parametrize("name", ZONES)
def test_a_zone_changes_at_the_second_at_which_its_clocks_do(name: str) -> None:
    zone, whole = read_zone(name), zoneinfo.ZoneInfo(name)
    for changed_ms, offset_ms in zone.changes[1:]:
        before, after = (
            (EPOCH + timedelta(seconds=second)).astimezone(whole).utcoffset()
            for second in (changed_ms // 1000 - 1, changed_ms // 1000)
        )
        assert before != after
        assert after == timedelta(milliseconds=offset_ms)


def test_a_zone_without_changes_has_one_offset() -> None:
    assert read_zone("UTC").changes == ((1_577_836_800_000, 0),)
    assert read_zone("Asia/Kathmandu").changes == ((1_577_836_800_000, 20_700_000),)


def test_summer_time_changes_twice_a_year_for_twenty_years() -> None:
    assert len(read_zone("Europe/Berlin").changes) == 1 + 2 * 20


def test_what_differs_from_machine_to_machine_is_no_zone() -> None:
    assert zone_names().isdisjoint({"localtime", "posixrules", "Factory"})
    assert {"UTC", "Europe/Berlin"} <= zone_names()
