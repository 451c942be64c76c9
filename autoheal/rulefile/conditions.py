"""The `when` of a rule: a map whose first key is its kind (`_KINDS`), within bounds at will.

`not` leaves no trace: its condition becomes the opposite one while it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    Leaf,
    MetricCondition,
    leaves,
    negated,
)
from autoheal.metrics import EVENT_BY_NAME, EVENTS, METRIC_BY_NAME, REJECTIONS, EventName
from autoheal.rulefile.fields import Fields, Shape, Spot, open_list, open_map
from autoheal.rulefile.mistakes import nearest, one_of, shown
from autoheal.rulefile.tree import Items, Map, Scalar, described

WINDOW_MS_MAX = 24 * 3_600_000
LEVELS_MAX = 5
LEAVES_MAX = 20
EXIT_CODE_MAX = 255

_METRIC = "{metric: cpu_percent, over: 2m, above: 80}"
_EVENT = "{event: oom_killed, over: 10m, at_least: 1}"
_COMPARISONS = tuple(comparison.value for comparison in Comparison)
_OVER_TIME = tuple(aggregate.value for aggregate in Aggregate)
_OVER_TASKS = tuple(name for name in _OVER_TIME if name != Aggregate.SLOPE)
_EXIT_CODES = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
# The nearest known word to `and` is `any`, which would turn the meaning round.
_OTHER_WORDS = {"and": "all", "or": "any"}

UNREAD = EventCondition("", 0, Comparison.ABOVE, 0.0)  # stands in for what could not be read
_ONE_EVENT = {Comparison.ABOVE: 0, Comparison.AT_LEAST: 1}

_METRIC_SHAPE = Shape(
    ("metric", "over", *_COMPARISONS, "over_tasks", "over_time"), ("metric", "over"), _METRIC
)
_EVENT_SHAPE = Shape(
    ("event", "over", *_COMPARISONS, "exit_code", "reason"), ("event", "over"), _EVENT
)
_ALL_SHAPE = Shape(("all",), ("all",), f"{{all: [{_METRIC}, {_EVENT}]}}")
_ANY_SHAPE = Shape(("any",), ("any",), f"{{any: [{_METRIC}, {_EVENT}]}}")
_NOT_SHAPE = Shape(("not",), ("not",), f"{{not: {_EVENT}}}")


def read_condition(spot: Spot | None) -> Condition | None:
    """The condition at this spot; None, and noted, if it cannot be told what it looks at."""
    if spot is None:
        return None
    condition = _condition(spot, level=0)
    found = list(leaves(condition))
    if len(found) > LEAVES_MAX:
        spot.note(f"{len(found)} conditions are too many", f"at most {LEAVES_MAX} in one rule")
    return condition if all(map(_is_read, found)) else None


def _holds_always(leaf: Leaf) -> bool:
    """Whether it asks for many events and is satisfied by none."""
    asks_for_events = isinstance(leaf, EventCondition) and leaf.comparison.wants_high
    return asks_for_events and bool(leaf.comparison.operator(0, leaf.threshold))


def _is_read(leaf: Leaf) -> bool:
    return bool(leaf.metric if isinstance(leaf, MetricCondition) else leaf.event)


def _condition(spot: Spot, level: int) -> Condition:
    """The condition at this spot, which lies within so many others."""
    kind = _kind(spot)
    if kind is None:
        return UNREAD
    if kind in _NESTING and level == LEVELS_MAX:
        spot.note("conditions are nested too deeply", f"at most {LEVELS_MAX} levels")
        return UNREAD
    shape, build = _KINDS[kind]
    fields = open_map(spot, shape)
    return build(fields, level) if fields else UNREAD


def _kind(spot: Spot) -> str | None:
    """The kind of condition that is meant; None, and noted, if that cannot be told."""
    node = spot.node
    if not isinstance(node, Map) or not node.entries:
        if not isinstance(node, Map) or node.complete:
            spot.note(f"{described(node)} is not a condition", f"such as {_METRIC}")
        return None
    keys = [key for key, _ in node.entries]
    for key in keys:
        if key.text in _KINDS:
            if key is not keys[0]:
                spot.at(key).note(f"'{key.text}' is the kind of condition", "write it first")
            return key.text
    return _guessed_kind(spot, keys, complete=node.complete)


def _guessed_kind(spot: Spot, keys: list[Scalar], *, complete: bool) -> str | None:
    first = keys[0].text
    if first in _OTHER_WORDS:
        hint = f"did you mean {_OTHER_WORDS[first]}?"
        spot.at(keys[0]).note(f"unknown condition {first}", hint)
        return None
    # A misspelt kind is read as the one that was meant; it is noted as an unknown key.
    guess = next(filter(None, (nearest(key.text, _KINDS) for key in keys)), None)
    if guess is None and complete:
        spot.at(keys[0]).note(f"unknown condition {shown(first)}", one_of(_KINDS))
    return guess


def _metric(fields: Fields, _: int) -> Condition:
    comparison, threshold = _comparison(fields)
    name = fields.word("metric", "metric", METRIC_BY_NAME)
    if name and METRIC_BY_NAME[name].of_service:
        fields.refuse("over_tasks", f"not for {name}", "it is one figure per service")
    return MetricCondition(
        metric=name or "",
        over_ms=_over(fields),
        comparison=comparison,
        threshold=threshold,
        over_tasks=_aggregate(fields, "over_tasks", _OVER_TASKS),
        over_time=_aggregate(fields, "over_time", _OVER_TIME),
    )


def _event(fields: Fields, _: int) -> Condition:
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


def _all(fields: Fields, level: int) -> Condition:
    return Combined(Combinator.ALL, _members(fields.spot("all"), level))


def _any(fields: Fields, level: int) -> Condition:
    return Combined(Combinator.ANY, _members(fields.spot("any"), level))


def _members(spot: Spot | None, level: int) -> tuple[Condition, ...]:
    """The conditions of a list, one at least."""
    if spot is None:
        return (UNREAD,)
    hint = f"such as [{_METRIC}, {_EVENT}]"
    if isinstance(spot.node, Items) and not spot.node.nodes:
        spot.note("the list of conditions is empty", hint)
    return tuple(_condition(each, level + 1) for each in open_list(spot, hint)) or (UNREAD,)


def _not(fields: Fields, level: int) -> Condition:
    spot = fields.spot("not")
    if spot is None:
        return UNREAD
    condition = negated(_condition(spot, level + 1))
    if not any(map(_holds_always, leaves(condition))):
        return condition
    spot.note("its opposite asks for 0 events or more", "it would always hold; try below: 1")
    return UNREAD


_NESTING = ("all", "any", "not")
_KINDS: dict[str, tuple[Shape, Callable[[Fields, int], Condition]]] = {
    "metric": (_METRIC_SHAPE, _metric),
    "event": (_EVENT_SHAPE, _event),
    "all": (_ALL_SHAPE, _all),
    "any": (_ANY_SHAPE, _any),
    "not": (_NOT_SHAPE, _not),
}


def _over(fields: Fields) -> int:
    return fields.duration("over", least_ms=1, most_ms=WINDOW_MS_MAX)


def _comparison(fields: Fields) -> tuple[Comparison, float]:
    """The comparison and its threshold; `above: 0` stands in for what could not be read."""
    key = fields.exactly_one(_COMPARISONS)
    noted = fields.noted
    threshold = fields.number(key) if key else 0.0
    if key is None or fields.noted > noted:
        return Comparison.ABOVE, 0.0
    return Comparison(key), threshold


def _aggregate(fields: Fields, key: str, choices: tuple[str, ...]) -> Aggregate:
    return Aggregate(fields.word(key, "aggregate", choices) or Aggregate.MEAN)


def _exit_codes(spot: Spot | None) -> tuple[int, int] | None:
    """The first and the last code of a range, or one code twice; None if the key is absent."""
    if spot is None:
        return None
    node = spot.node
    found = _EXIT_CODES.fullmatch(node.text) if isinstance(node, Scalar) else None
    if found is None:
        spot.note(f"{described(node)} is not an exit code", 'such as 137 or "1-125"')
        return None
    low, high = int(found[1]), int(found[2] or found[1])
    if max(low, high) > EXIT_CODE_MAX:
        spot.note(f"{found[0]} is out of range", f"from 0 to {EXIT_CODE_MAX}")
    elif low > high:
        spot.note(f"{found[0]} is an empty range", f'the lower code first: "{high}-{low}"')
    return low, high
