"""The `when` of a rule: a map whose first key is its kind (`_KINDS`), within bounds at will.

`not` leaves no trace: its condition becomes the opposite one while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from autoheal.core.rule import (
    OVER_TASKS,
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    Leaf,
    MetricCondition,
    SourceCondition,
    leaves,
    negated,
)
from autoheal.metrics import EVENT_BY_NAME, EVENTS, METRIC_BY_NAME, REJECTIONS, EventName
from autoheal.rulefile.fields import Fields, Shape, Spot, open_items, open_map
from autoheal.rulefile.kinds import Kinds
from autoheal.rulefile.sources import SourceNames, read_per_task, source_name
from autoheal.rulefile.tree import Scalar, described

WINDOW_MS_MAX = 24 * 3_600_000
LEVELS_MAX = 5
LEAVES_MAX = 20
EXIT_CODE_MAX = 255
AHEAD_MS_MIN = 1_000
AHEAD_MS_MAX = 24 * 3_600_000

_METRIC = "{metric: cpu_percent, over: 2m, above: 80}"
_EVENT = "{event: oom_killed, over: 10m, at_least: 1}"
_SOURCE = "{source: jobs, over: 1m, above: 500}"
COMPARISONS = tuple(comparison.value for comparison in Comparison)
OVER_TIME_WORDS = tuple(aggregate.value for aggregate in Aggregate)
OVER_TASKS_WORDS = tuple(aggregate.value for aggregate in OVER_TASKS)
EXIT_CODES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")

UNREAD = EventCondition("", 0, Comparison.ABOVE, 0.0)  # stands in for what could not be read
_ONE_EVENT = {Comparison.ABOVE: 0, Comparison.AT_LEAST: 1}

METRIC_SHAPE = Shape(
    ("metric", "over", *COMPARISONS, "over_tasks", "over_time", "ahead"),
    ("metric", "over"),
    _METRIC,
)
SOURCE_SHAPE = Shape(
    ("source", "over", *COMPARISONS, "over_time", "ahead", "per"), ("source", "over"), _SOURCE
)
EVENT_SHAPE = Shape(
    ("event", "over", *COMPARISONS, "exit_code", "reason"), ("event", "over"), _EVENT
)
ALL_SHAPE = Shape(("all",), ("all",), f"{{all: [{_METRIC}, {_EVENT}]}}")
ANY_SHAPE = Shape(("any",), ("any",), f"{{any: [{_METRIC}, {_EVENT}]}}")
NOT_SHAPE = Shape(("not",), ("not",), f"{{not: {_EVENT}}}")


@dataclass(frozen=True, slots=True)
class _Within:
    """What a condition stands in: so many others, and a set of files with these sources."""

    level: int
    sources: SourceNames

    @property
    def deeper(self) -> _Within:
        return _Within(self.level + 1, self.sources)


def read_condition(spot: Spot | None, sources: SourceNames) -> Condition | None:
    """The condition at this spot; None, and noted, if it cannot be told what it looks at."""
    if spot is None:
        return None
    condition = _condition(spot, _Within(0, sources))
    found = list(leaves(condition))
    if len(found) > LEAVES_MAX:
        spot.note(f"{len(found)} conditions are too many", f"at most {LEAVES_MAX} in one rule")
    return condition if all(map(_is_read, found)) else None


def _holds_always(leaf: Leaf) -> bool:
    """Whether it asks for many events and is satisfied by none."""
    asks_for_events = isinstance(leaf, EventCondition) and leaf.comparison.wants_high
    return asks_for_events and bool(leaf.comparison.operator(0, leaf.threshold))


def _is_read(leaf: Leaf) -> bool:
    if isinstance(leaf, MetricCondition):
        return bool(leaf.metric)
    return bool(leaf.source if isinstance(leaf, SourceCondition) else leaf.event)


def _condition(spot: Spot, within: _Within) -> Condition:
    """The condition at this spot."""
    kind = _CONDITION.of(spot)
    if kind is None:
        return UNREAD
    if kind in _NESTING and within.level == LEVELS_MAX:
        spot.note("conditions are nested too deeply", f"at most {LEVELS_MAX} levels")
        return UNREAD
    shape, build = KINDS[kind]
    fields = open_map(spot, shape)
    return build(fields, within) if fields else UNREAD


def _metric(fields: Fields, _: _Within) -> Condition:
    comparison, threshold = _comparison(fields)
    name = fields.word("metric", "metric", METRIC_BY_NAME)
    if name and METRIC_BY_NAME[name].of_service:
        fields.refuse("over_tasks", f"not for {name}", "it is one figure per service")
    over_time, ahead_ms = _over_time(fields)
    return MetricCondition(
        metric=name or "",
        over_ms=_over(fields),
        comparison=comparison,
        threshold=threshold,
        over_tasks=Aggregate(
            fields.word("over_tasks", "aggregate", OVER_TASKS_WORDS) or Aggregate.MEAN
        ),
        over_time=over_time,
        ahead_ms=ahead_ms,
    )


def _source(fields: Fields, within: _Within) -> Condition:
    comparison, threshold = _comparison(fields)
    over_time, ahead_ms = _over_time(fields)
    return SourceCondition(
        source=source_name(fields.spot("source"), within.sources),
        over_ms=_over(fields),
        comparison=comparison,
        threshold=threshold,
        over_time=over_time,
        ahead_ms=ahead_ms,
        per_task=read_per_task(fields),
    )


def _event(fields: Fields, _: _Within) -> Condition:
    comparison, threshold = _comparison(fields)
    name = fields.word("event", "event", EVENT_BY_NAME)
    if name:
        _refuse_other_filters(fields, EVENT_BY_NAME[name])
    condition = EventCondition(
        event=name or "",
        over_ms=_over(fields),
        comparison=comparison,
        threshold=threshold,
        exit_codes=_exit_codes(fields.spot("exit_code")),
        reason=fields.word("reason", "reason", REJECTIONS) or "",
    )
    threshold_spot = fields.spot(comparison)
    if threshold_spot is None or not _holds_always(condition):
        return condition
    hint = f"it would always hold; try {comparison}: {_ONE_EVENT[comparison]}"
    threshold_spot.note("0 events satisfy this too", hint)
    return UNREAD


def _refuse_other_filters(fields: Fields, event: EventName) -> None:
    """Note what would narrow another event, but not this one."""
    for key in ("exit_code", "reason"):
        if key != event.filter:
            takers = [each.name for each in EVENTS if each.filter == key]
            fields.refuse(key, f"not for {event.name}", f"only for {', '.join(takers)}")


def _all(fields: Fields, within: _Within) -> Condition:
    return Combined(Combinator.ALL, _members(fields.spot("all"), within))


def _any(fields: Fields, within: _Within) -> Condition:
    return Combined(Combinator.ANY, _members(fields.spot("any"), within))


def _members(spot: Spot | None, within: _Within) -> tuple[Condition, ...]:
    """The conditions of a list, one at least."""
    if spot is None:
        return (UNREAD,)
    each = open_items(spot, "conditions", f"{_METRIC}, {_EVENT}")
    return tuple(_condition(one, within.deeper) for one in each) or (UNREAD,)


def _not(fields: Fields, within: _Within) -> Condition:
    spot = fields.spot("not")
    if spot is None:
        return UNREAD
    condition = negated(_condition(spot, within.deeper))
    if not any(map(_holds_always, leaves(condition))):
        return condition
    spot.note("its opposite asks for 0 events or more", "it would always hold; try below: 1")
    return UNREAD


_NESTING = ("all", "any", "not")
KINDS: dict[str, tuple[Shape, Callable[[Fields, _Within], Condition]]] = {
    "metric": (METRIC_SHAPE, _metric),
    "event": (EVENT_SHAPE, _event),
    "source": (SOURCE_SHAPE, _source),
    "all": (ALL_SHAPE, _all),
    "any": (ANY_SHAPE, _any),
    "not": (NOT_SHAPE, _not),
}
# The nearest known word to `and` is `any`, which would turn the meaning round.
_CONDITION = Kinds("condition", tuple(KINDS), _METRIC, {"and": "all", "or": "any"})


def _over(fields: Fields) -> int:
    return fields.duration("over", least_ms=1, most_ms=WINDOW_MS_MAX)


def _comparison(fields: Fields) -> tuple[Comparison, float]:
    """The comparison and its threshold; `above: 0` stands in for what could not be read."""
    key = fields.exactly_one(COMPARISONS, "there is no comparison")
    noted = fields.noted
    threshold = fields.number(key) if key else 0.0
    if key is None or fields.noted > noted:
        return Comparison.ABOVE, 0.0
    return Comparison(key), threshold


def _over_time(fields: Fields) -> tuple[Aggregate, int]:
    """How the slots become one figure, and how far ahead of now; 0 unless it is a forecast."""
    name = fields.word("over_time", "aggregate", OVER_TIME_WORDS)
    if name == Aggregate.FORECAST:
        fields.require("ahead", "how far ahead, such as ahead: 10m")
    elif name or fields.spot("over_time") is None:
        what = f"not for over_time: {name or Aggregate.MEAN.value}"
        fields.refuse("ahead", what, f"only for over_time: {Aggregate.FORECAST}")
    ahead_ms = fields.duration("ahead", least_ms=AHEAD_MS_MIN, most_ms=AHEAD_MS_MAX)
    return Aggregate(name or Aggregate.MEAN), ahead_ms


def _exit_codes(spot: Spot | None) -> tuple[int, int] | None:
    """The first and the last code of a range, or one code twice; None if the key is absent."""
    if spot is None:
        return None
    node = spot.node
    found = EXIT_CODES.fullmatch(node.text) if isinstance(node, Scalar) else None
    if found is None:
        spot.note(f"{described(node)} is not an exit code", 'such as 137 or "1-125"')
        return None
    low, high = int(found[1]), int(found[2] or found[1])
    if max(low, high) > EXIT_CODE_MAX:
        spot.note(f"{found[0]} is out of range", f"from 0 to {EXIT_CODE_MAX}")
    elif low > high:
        spot.note(f"{found[0]} is an empty range", f'the lower code first: "{high}-{low}"')
    return low, high
