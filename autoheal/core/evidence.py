"""What a rule's condition says of one service, with the figure and its words."""

from __future__ import annotations

import bisect

from autoheal.core.fold import Snapshot
from autoheal.core.readings import Reading
from autoheal.core.rule import Comparison, EventCondition, MetricCondition, Rule
from autoheal.core.state import ServiceState
from autoheal.model import Evidence, Service, Verdict
from autoheal.units import format_duration

_WORDS = {
    Comparison.ABOVE: "above",
    Comparison.BELOW: "below",
    Comparison.AT_LEAST: "at least",
    Comparison.AT_MOST: "at most",
}


def evaluate(
    rule: Rule, service: Service, state: ServiceState, now: tuple[int, Snapshot]
) -> Reading:
    """The rule's condition for this service, at (now_ms, snapshot)."""
    now_ms, snapshot = now
    match rule.when:
        case MetricCondition() as condition:
            return snapshot.readings[condition].of(service.id)
        case (
            EventCondition() as condition
        ):  # pragma: no branch  # mypy knows that there is no other
            count = _count(condition, rule, state, service.id, now_ms, snapshot)
            holds = condition.comparison.operator(count, condition.threshold)
            return Reading(Verdict.TRUE if holds else Verdict.FALSE, float(count))


def _count(
    condition: EventCondition,
    rule: Rule,
    state: ServiceState,
    service: str,
    now_ms: int,
    snapshot: Snapshot,
) -> int:
    """Events after the rule's own last action on the service: one OOM must not act twice."""
    times = snapshot.events.get((condition.event, service), ())
    since_ms = max(now_ms - condition.over_ms, state.acted_ms.get(rule.name, 0))
    return bisect.bisect_right(times, now_ms) - bisect.bisect_right(times, since_ms)


def describe(rule: Rule, reading: Reading) -> Evidence:
    """The figure as people read it."""
    condition = rule.when
    over = format_duration(condition.over_ms)
    bound = f"{_WORDS[condition.comparison]} {condition.threshold:g}"
    if isinstance(condition, EventCondition):
        return Evidence(f"{condition.event} events in {over}", reading.value, bound)
    across = f"{condition.over_tasks} over tasks, "
    tasks = "" if condition.over_tasks == condition.over_time else across
    what = f"{tasks}{condition.over_time} {condition.metric} over {over}"
    return Evidence(what, reading.value, bound)
