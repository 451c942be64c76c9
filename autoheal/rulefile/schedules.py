"""The `schedule` of a rule: parts of a week in which it is in force, or outside of which."""

from __future__ import annotations

import dataclasses
import re

from autoheal.core.rule import DAY_MS, DAYS_IN_WEEK, MINUTE_MS, Period, Schedule, Zone
from autoheal.rulefile.fields import Fields, Shape, Spot, open_items, open_map
from autoheal.rulefile.mistakes import one_of, quoted, shown, suggestion
from autoheal.rulefile.tree import Items, Kind, Scalar, described
from autoheal.rulefile.zones import UTC_NAME, nearest_zone, read_zone, zone_names

PERIODS_MAX = 20
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
HOURS = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)")

# The nearest day to `weekend` is `wed`.
_DAY_RANGES = {"weekdays": "mon-fri", "weekend": "sat-sun", "weekends": "sat-sun"}
_PERIOD = '{days: mon-fri, hours: "08:00-18:00"}'
LISTS = ("within", "outside")
SCHEDULE_SHAPE = Shape(
    ("days", "hours", *LISTS, "zone"),
    (),
    '{days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}',
)
PERIOD_SHAPE = Shape(("days", "hours"), (), _PERIOD)
_EVERY_DAY = tuple(range(DAYS_IN_WEEK))
_UNREAD = Period(_EVERY_DAY, 0, DAY_MINUTES)  # stands in for what could not be read


def read_schedule(spot: Spot | None) -> Schedule | None:
    """When the rule is in force; None if the key is absent: always."""
    if spot is None:
        return None
    if isinstance(spot.node, Items):
        spot.note("a list is not a schedule", f"several periods are {{within: [{_PERIOD}, ...]}}")
        return None
    noted = len(spot.notes)
    fields = open_map(spot, SCHEDULE_SHAPE)
    if fields is None:
        return None
    key = _key(fields)
    periods = _periods(fields, key)
    schedule = Schedule(_zone(fields.spot("zone")), _ordered(periods), key == "outside")
    if fields.noted == noted and _is_whole_week(periods):
        when = "never" if schedule.is_outside else "always"
        spot.note(f"the rule would {when} be in force", "these periods are the whole week")
    return schedule


def _ordered(periods: set[Period]) -> tuple[Period, ...]:
    return tuple(sorted(periods, key=dataclasses.astuple))


def _key(fields: Fields) -> str | None:
    """`within` or `outside`; None where a single period is written without either."""
    fields.require_one(("days", "hours", *LISTS), "it names no time")
    given = [key for key in LISTS if fields.spot(key) is not None]
    for key in given[:1]:
        for beside in (*PERIOD_SHAPE.keys, *given[1:]):
            fields.refuse(beside, f"not beside {key}", f"write it in a period of {key}")
    return given[0] if given else None


def _periods(fields: Fields, key: str | None) -> set[Period]:
    spot = fields.spot(key) if key else None
    if spot is None:
        return {_period(fields)}
    return {_listed(each) for each in open_items(spot, "periods", _PERIOD, PERIODS_MAX)}


def _listed(spot: Spot) -> Period:
    fields = open_map(spot, PERIOD_SHAPE)
    if fields is None:
        return _UNREAD
    fields.require_one(PERIOD_SHAPE.keys, "it names no time")
    return _period(fields)


def _period(fields: Fields) -> Period:
    from_minute, to_minute = _hours(fields.spot("hours"))
    return Period(_days(fields.spot("days")), from_minute, to_minute)


def _days(spot: Spot | None) -> tuple[int, ...]:
    """The days meant, from Monday on; all of them, if the key is absent."""
    if spot is None:
        return _EVERY_DAY
    if isinstance(spot.node, Scalar):
        return tuple(sorted(_some_days(spot)))
    found: set[int] = set()
    for each in open_items(spot, "days", "sat, sun"):
        some = _some_days(each)
        for day in found.intersection(some):
            each.note(f"{DAYS[day]} is named twice", "remove it")
        found.update(some)
    return tuple(sorted(found))


def _some_days(spot: Spot) -> tuple[int, ...]:
    """The days of one word: a day, or the first and the last of a range."""
    node = spot.node
    if not isinstance(node, Scalar) or node.kind is not Kind.TEXT:
        spot.note(f"{described(node)} is no day", one_of(DAYS))
        return ()
    first, dash, last = node.text.partition("-")
    unknown = [word for word in (first, *([last] if dash else [])) if word not in DAYS]
    for word in unknown[:1]:
        days = _DAY_RANGES.get(word)
        hint = f"write {days}" if days else suggestion(word, DAYS)
        spot.note(f"unknown day {shown(word)}", hint)
    if unknown:
        return ()
    if first == last:
        spot.note(f"{node.text} begins and ends with the same day", f"write {first}")
        return ()
    begin = DAYS.index(first)
    length = (DAYS.index(last or first) - begin) % DAYS_IN_WEEK + 1
    return tuple((begin + day) % DAYS_IN_WEEK for day in range(length))


def _hours(spot: Spot | None) -> tuple[int, int]:
    """The minutes of a day from which and to which; all of it, if the key is absent."""
    if spot is None:
        return 0, DAY_MINUTES
    node = spot.node
    found = HOURS.fullmatch(node.text) if isinstance(node, Scalar) else None
    if found is None:
        words = quoted(node.text) if isinstance(node, Scalar) else described(node)
        spot.note(f"{words} is not a time of day", 'such as "08:00-18:00"')
        return 0, DAY_MINUTES
    first, _, last = found[0].partition("-")
    if first == last:
        spot.note(f"{first} to {last} is no time", "leave hours out for the whole day")
    # Midnight ends a day: that it begins the next one says the same.
    return _minute(first), _minute(last) or DAY_MINUTES


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _zone(spot: Spot | None) -> Zone:
    if spot is None:
        return read_zone(UTC_NAME)
    node = spot.node
    if isinstance(node, Scalar) and node.text in zone_names():
        return read_zone(node.text)
    if isinstance(node, Scalar) and node.kind is Kind.TEXT:
        guess = nearest_zone(node.text)
        hint = f"did you mean {guess}?" if guess else "such as Europe/Berlin"
        spot.note(f"unknown time zone {shown(node.text)}", hint)
    else:
        spot.note(f"{described(node)} is not a time zone", "such as Europe/Berlin")
    return read_zone(UTC_NAME)


def _is_whole_week(periods: set[Period]) -> bool:
    """Whether no time is left: what is left would begin where a period ends."""
    schedule = Schedule(read_zone(UTC_NAME), tuple(periods))
    ends = (day * DAY_MS + period.to_minute * MINUTE_MS for period in periods for day in _EVERY_DAY)
    return all(map(schedule.holds, ends))
