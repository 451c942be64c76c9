"""Incidents: one service's trouble, from the first evidence to the time when nothing is amiss.

Only failures count, not load: a harmful event opens one, a rule that is TRUE and would treat a
failure, and one that tells people of a failure. What a figure from elsewhere means nobody knows
here: telling people of it opens none. Nor do rules on trial. It is over once nothing
has been amiss for the recovery time. What came of it is told apart: remedied by an action of ours,
escalated to people, or cleared by itself.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from operator import attrgetter

from autoheal.core.decision import flights
from autoheal.core.decision.arbiter import lane_of
from autoheal.core.decision.evidence import counted, describe
from autoheal.core.decision.tick import Tick, View, is_ours
from autoheal.core.rule import (
    EventCondition,
    Leaf,
    MetricCondition,
    Rule,
    SourceCondition,
    leaves,
)
from autoheal.core.state import Flight, Lane, ServiceState
from autoheal.core.view.fold import Happening
from autoheal.metrics import EVENT_BY_NAME, EVENTS, METRIC_BY_NAME
from autoheal.model import Deed, Incident, IncidentEnd, Judgement, Outcome, OutcomeKind
from autoheal.records import digest

HARMFUL = tuple(event.name for event in EVENTS if event.harm)
DEEDS_MAX = 20

_ms = attrgetter("ms")


def follow(tick: Tick, view: View) -> None:
    """Open an incident at the first evidence, and note when a rule first fired in it."""
    if is_ours(view.service) or view.service.replicas == 0:
        return
    harm = _harm(tick, view)
    state = tick.services[view.service.id]
    healing = [r for name, r in view.rules.items() if name in state.rules and is_of_failure(r)]
    if harm:
        state = dataclasses.replace(state, harmed_ms=max(h.ms for _, h in harm), calm_ms=None)
        tick.services[view.service.id] = state
    if state.incident is None and harm:
        first = min(harm, key=lambda each: (each[1].ms, each[0]))
        _open(tick, view, first[1].ms, _words(*first))
    elif state.incident is None and healing:
        evidence = describe(healing[0], view.service, state, tick.now)
        words = " and ".join(f"{e.what} is {e.value:g}, {e.bound}" for e in evidence)
        _open(tick, view, min(_since(tick, view, rule) for rule in healing), words)
    firing = [rule for rule in healing if state.rules[rule.name].firing]
    incident = tick.services[view.service.id].incident
    if incident is not None and incident.detected_ms is None and firing:
        changes = {"rule": firing[0].name, "detected_ms": tick.now_ms}
        _change(tick, view.service.id, **changes)


def is_of_failure(rule: Rule) -> bool:
    """Whether the rule answers a failure: by what it does, or by what it looks at."""
    if lane_of(rule) is Lane.TRIAL or not rule.then.heals:
        return False
    return rule.then.leaf is not None or any(map(_is_harm, leaves(rule.when)))


def _is_harm(leaf: Leaf) -> bool:
    match leaf:
        case EventCondition():
            return EVENT_BY_NAME[leaf.event].harm and leaf.comparison.wants_high
        case MetricCondition():
            return METRIC_BY_NAME[leaf.metric].harm and leaf.comparison.wants_high
        case SourceCondition():  # pragma: no branch  # mypy knows that there is no other
            return False


def acted(tick: Tick, service: str, flight: Flight, outcome: Outcome, at_ms: int) -> None:
    """An action of ours in the service's incident has an outcome."""
    incident = tick.services[service].incident
    rule = next((rule for rule in tick.rules.rules if rule.name == flight.rule), None)
    durable = outcome.kind is not OutcomeKind.REFUSED
    if incident is None or rule is None or not rule.then.heals or not durable:
        return
    deed = Deed(flight.decision, flight.action.value, flight.rule, outcome.kind.value, at_ms)
    done = outcome.kind is OutcomeKind.APPLIED
    first_ms = at_ms if incident.acted_ms is None and done else incident.acted_ms
    deeds = (*incident.deeds, deed)[-DEEDS_MAX:]
    _change(tick, service, deeds=deeds, acted_ms=first_ms)


def judged(tick: Tick, service: str, decision: str, judgement: Judgement) -> None:
    """It is known whether an action helped."""
    incident = tick.services[service].incident
    if incident is None:
        return
    deeds = tuple(
        dataclasses.replace(deed, judgement=judgement.value) if deed.decision == decision else deed
        for deed in incident.deeds
    )
    _change(tick, service, deeds=deeds)


def escalated(tick: Tick, service: str) -> None:
    """People are told of the service's failure."""
    incident = tick.services[service].incident
    if incident is not None and incident.escalated_ms is None:
        _change(tick, service, escalated_ms=tick.now_ms)


def close(tick: Tick, view: View) -> None:
    """End the service's incident once nothing has been amiss for long enough."""
    identity = view.service.id
    state = tick.services[identity]
    if state.incident is None:
        return
    if view.service.replicas == 0:
        _end(tick, identity, None)
    elif not _is_calm(state, view):
        tick.services[identity] = dataclasses.replace(state, calm_ms=None)
    elif state.calm_ms is None:
        tick.services[identity] = dataclasses.replace(state, calm_ms=tick.now_ms)
    elif tick.now_ms - state.calm_ms >= tick.limits.recovery_ms and not state.trials:
        _end(tick, identity, state.calm_ms)


def ended(incident: Incident, recovered_ms: int | None) -> Incident:
    """The incident as it ends now; it recovered then, or never."""
    if incident.escalated_ms is not None:
        end = IncidentEnd.ESCALATED
    elif any(deed.outcome == OutcomeKind.APPLIED for deed in incident.deeds):
        end = IncidentEnd.REMEDIED
    else:
        end = IncidentEnd.CLEARED
    return dataclasses.replace(incident, end=end.value, recovered_ms=recovered_ms)


def _harm(tick: Tick, view: View) -> Sequence[tuple[str, Happening]]:
    """Harmful events that are news, and recent: old ones that nothing follows are history."""
    state = tick.services[view.service.id]
    since_ms = max(state.harmed_ms, tick.now_ms - tick.limits.recovery_ms)
    news: list[tuple[str, Happening]] = []
    for kind in HARMFUL:
        found = tick.snapshot.events.get((kind, view.service.id), ())
        news += [(kind, each) for each in found[bisect.bisect_right(found, since_ms, key=_ms) :]]
    return news


def _words(kind: str, happening: Happening) -> str:
    if happening.exit_code is not None:
        return f"{kind}, exit code {happening.exit_code}"
    return f"{kind} ({happening.reason})" if happening.reason else kind


def _since(tick: Tick, view: View, rule: Rule) -> int:
    """When the first evidence that the rule counts was seen."""
    state = tick.services[view.service.id]
    events = counted(rule, view.service, state, tick.now)
    times = [found[0].ms for _, found in events if found]
    return min([state.rules[rule.name].active_ms, *times])


def _open(tick: Tick, view: View, opened_ms: int, evidence: str) -> None:
    service = view.service
    identity = digest(f"{service.id} {opened_ms}".encode())
    tick.record(service.id, Incident(identity, service.id, service.name, evidence, opened_ms))


def _is_calm(state: ServiceState, view: View) -> bool:
    rules = (view.rules.get(name) for name in (*state.rules, *state.escalated))
    ailing = any(rule is not None and is_of_failure(rule) for rule in rules)
    flying = any(True for _ in flights.flights(state))
    return view.is_whole and not (ailing or flying)


def _end(tick: Tick, service: str, recovered_ms: int | None) -> None:
    incident = tick.services[service].incident
    if incident is not None:
        tick.record(service, ended(incident, recovered_ms))
        tick.record(service, None)
        tick.services[service] = dataclasses.replace(tick.services[service], calm_ms=None)


def _change(tick: Tick, service: str, **changes: object) -> None:
    incident = tick.services[service].incident
    if incident is not None:
        tick.record(service, dataclasses.replace(incident, **changes))  # type: ignore[arg-type]  # any field by name
