"""What a rule's condition says of one service, with the figures and their words.

Conditions are combined in Kleene's three-valued logic: NO_DATA is 'unknown', and decides nothing
that what is known does not decide without it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from operator import attrgetter

from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    Leaf,
    MetricCondition,
    Rule,
    SourceCondition,
    leaves,
)
from autoheal.core.state import Lane, ServiceState
from autoheal.core.view.aggregates import OF_LINE
from autoheal.core.view.fold import Happening, Snapshot
from autoheal.core.view.readings import Reading
from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import Evidence, Service, Verdict
from autoheal.units import format_duration

OOM_KILLED = "oom_killed"

Now = tuple[int, Snapshot]

_WORDS = {
    Comparison.ABOVE: "above",
    Comparison.BELOW: "below",
    Comparison.AT_LEAST: "at least",
    Comparison.AT_MOST: "at most",
}
_ms = attrgetter("ms")


def evaluate(rule: Rule, service: Service, state: ServiceState, now: Now) -> Reading:
    """The rule's condition for this service, at (now_ms, snapshot).

    The value is that of a condition that stands alone; it means nothing for a combined one.
    """
    return _evaluate(rule.when, rule, service, state, now)


def describe(rule: Rule, service: Service, state: ServiceState, now: Now) -> tuple[Evidence, ...]:
    """The figures that the rule's condition rests on, as people read them, from left to right.

    Of a condition that is TRUE, only those that make it so; else all.
    """
    read = [(leaf, _evaluate(leaf, rule, service, state, now)) for leaf in leaves(rule.when)]
    holds = evaluate(rule, service, state, now).verdict is Verdict.TRUE
    return tuple(
        Evidence(_what(leaf), reading.value, _bound(leaf))
        for leaf, reading in read
        if reading.verdict is Verdict.TRUE or not holds
    )


def denied(rule: Rule, service: Service, state: ServiceState, now: Now) -> tuple[Evidence, ...]:
    """The figures for which the rule's condition does not hold, from left to right."""
    read = [(leaf, _evaluate(leaf, rule, service, state, now)) for leaf in leaves(rule.when)]
    return tuple(
        Evidence(_what(leaf), reading.value, _bound(leaf))
        for leaf, reading in read
        if reading.verdict is Verdict.FALSE
    )


def is_counting(rule: Rule, service: Service, state: ServiceState, now: Now) -> bool:
    """Whether the rule asks for several events and still counts as many as it asks for."""
    return any(
        leaf.comparison.operator(len(found), leaf.threshold)
        for leaf, found in counted(rule, service, state, now)
        if not leaf.comparison.operator(1, leaf.threshold)
    )


def waits_for_a_slope(rule: Rule, state: ServiceState, now_ms: int) -> bool:
    """Whether a line that the rule looks at cannot be told yet, because the service changed."""
    return any(_spans_a_change(leaf, state, now_ms) for leaf in leaves(rule.when))


def counted(
    rule: Rule, service: Service, state: ServiceState, now: Now
) -> tuple[tuple[EventCondition, Sequence[Happening]], ...]:
    """Per event condition of the rule that asks for events, those that it counts, oldest first."""
    return tuple(
        (leaf, _happenings(leaf, rule, service, state, now))
        for leaf in leaves(rule.when)
        if isinstance(leaf, EventCondition) and leaf.comparison.wants_high
    )


def _evaluate(
    condition: Condition, rule: Rule, service: Service, state: ServiceState, now: Now
) -> Reading:
    match condition:
        case MetricCondition() | SourceCondition() if _spans_a_change(condition, state, now[0]):
            return Reading(Verdict.NO_DATA, 0.0)
        case MetricCondition() | SourceCondition():
            return now[1].readings[condition].of(service.id)
        case EventCondition():
            count = len(_happenings(condition, rule, service, state, now))
            holds = condition.comparison.operator(count, condition.threshold)
            return Reading(Verdict.TRUE if holds else Verdict.FALSE, float(count))
        case Combined():  # pragma: no branch  # mypy knows that there is no other
            verdicts = (
                _evaluate(each, rule, service, state, now).verdict for each in condition.conditions
            )
            return Reading(_combined(condition.combinator, verdicts), 0.0)


def _spans_a_change(leaf: Leaf, state: ServiceState, now_ms: int) -> bool:
    """Whether a slope or forecast reaches back past a change of the service: a step is no climb.

    What a source tells of the whole service does not step when its tasks are replaced.
    """
    if isinstance(leaf, EventCondition) or leaf.over_time not in OF_LINE:
        return False
    if isinstance(leaf, SourceCondition) and not leaf.per_task:
        return False
    rolled_ms = state.lane(Lane.RULES).rolled_ms or 0
    changed_ms = max(state.deployed_ms, state.operated_ms or 0, rolled_ms)
    return now_ms - changed_ms < leaf.over_ms


def _combined(combinator: Combinator, verdicts: Iterator[Verdict]) -> Verdict:
    """ALL is FALSE at the first FALSE, ANY is TRUE at the first TRUE; else the unknown shows."""
    decisive = Verdict.FALSE if combinator is Combinator.ALL else Verdict.TRUE
    other = Verdict.TRUE if combinator is Combinator.ALL else Verdict.FALSE
    result = other
    for verdict in verdicts:
        if verdict is decisive:
            return decisive
        if verdict is Verdict.NO_DATA:
            result = Verdict.NO_DATA
    return result


def _happenings(
    condition: EventCondition, rule: Rule, service: Service, state: ServiceState, now: Now
) -> Sequence[Happening]:
    """Those since the rule's own last action on the service had settled, and since its last deploy.

    One OOM must not act twice, and what another version did is no evidence against this one: nor
    what the old tasks do while an action replaces them.
    """
    now_ms, snapshot = now
    found = snapshot.events.get((condition.event, service.id), ())
    if not found:
        return found
    acted_ms = max(state.acted.get(rule.name, ()), default=0)
    settled_ms = state.settled.get(rule.name, 0)
    since_ms = max(now_ms - condition.over_ms, acted_ms, settled_ms, state.deployed_ms)
    first = bisect.bisect_right(found, since_ms, key=_ms)
    last = bisect.bisect_right(found, now_ms, key=_ms)
    recent = found[first:last]
    if condition.exit_codes is None and not condition.reason:
        return recent
    return [each for each in recent if _is_meant(condition, each)]


def _is_meant(condition: EventCondition, happening: Happening) -> bool:
    if condition.exit_codes is not None:
        low, high = condition.exit_codes
        return happening.exit_code is not None and low <= happening.exit_code <= high
    return happening.reason == condition.reason


def _bound(leaf: Leaf) -> str:
    return f"{_WORDS[leaf.comparison]} {leaf.threshold:g}"


def _what(leaf: Leaf) -> str:
    over = format_duration(leaf.over_ms)
    if isinstance(leaf, EventCondition):
        return f"{leaf.event}{_narrowed(leaf)} events in {over}"
    match leaf.over_time:
        case Aggregate.SLOPE:
            figure = f"slope of {_figure(leaf)} per minute"
        case Aggregate.RATE:
            figure = f"rate of {_figure(leaf)} per second"
        case Aggregate.FORECAST:
            figure = f"forecast of {_figure(leaf)} in {format_duration(leaf.ahead_ms)}"
        case _:
            figure = f"{leaf.over_time} {_figure(leaf)}"
    return f"{_across(leaf)}{figure} over {over}"


def _figure(leaf: MetricCondition | SourceCondition) -> str:
    if isinstance(leaf, MetricCondition):
        return leaf.metric
    return f"{leaf.source} per task" if leaf.per_task else leaf.source


def _across(leaf: MetricCondition | SourceCondition) -> str:
    if isinstance(leaf, SourceCondition):
        return ""
    plain = METRIC_BY_NAME[leaf.metric].of_service or leaf.over_tasks == leaf.over_time
    return "" if plain else f"{leaf.over_tasks} over tasks, "


def _narrowed(leaf: EventCondition) -> str:
    if leaf.exit_codes is not None:
        low, high = leaf.exit_codes
        return f" (exit code {low})" if low == high else f" (exit code {low} to {high})"
    return f" ({leaf.reason})" if leaf.reason else ""
