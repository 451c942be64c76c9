"""Who changed a service: a deploy, an operator, or we ourselves.

A new `content` digest, or the loss of our label (`docker stack deploy` rebuilds the labels), is a
deploy. A change of replicas, ForceUpdate or the memory limit is the operator's unless it carries
the id of a decision of ours and shows the very thing that the decision asked for, and that alone.
"""

from __future__ import annotations

import dataclasses
from enum import Enum

from autoheal.core.state import Flight, Seen, ServiceState
from autoheal.model import LABEL_DECISION, ActionKind, Service


class Change(Enum):
    """What happened to a service between two looks at it."""

    NOTHING = "nothing"
    OURS = "ours"
    OPERATOR = "operator"
    DEPLOY = "deploy"


def observe(service: Service, known: ServiceState | None) -> ServiceState:
    """The service's state after this look. What is seen for the first time counts as deployed."""
    seen = look(service)
    if known is None:
        since_ms = max(service.created_at_ms, service.updated_at_ms)
        return ServiceState(name=service.name, seen=seen, deployed_ms=since_ms)
    if seen == known.seen and service.name == known.name:
        return known
    changed = dataclasses.replace(known, name=service.name, seen=seen)
    match classify(service, known):
        case Change.DEPLOY:
            # Whether an action helped can no longer be told from what somebody else did.
            return dataclasses.replace(changed, deployed_ms=service.updated_at_ms, trials={})
        case Change.OPERATOR:
            return dataclasses.replace(changed, operated_ms=service.updated_at_ms, trials={})
        case Change.OURS | Change.NOTHING:  # pragma: no branch  # mypy knows that there is no other
            return changed


def look(service: Service) -> Seen:
    """What is compared from look to look."""
    return Seen(
        index=service.index,
        content=service.content,
        replicas=service.replicas,
        force_update=service.force_update,
        memory_limit=service.memory_limit,
        decision=service.labels.get(LABEL_DECISION, ""),
    )


def classify(service: Service, known: ServiceState) -> Change:
    """Whose doing the difference is."""
    before, now = known.seen, look(service)
    if now.content != before.content or (before.decision and not now.decision):
        return Change.DEPLOY
    same_levers = _levers(before) == _levers(now)
    if now.decision == before.decision:
        return Change.NOTHING if same_levers else Change.OPERATOR
    flight = _flight_of(known, now.decision)
    if flight is not None:
        asked = {**_levers(before), _LEVERS[flight.action]: flight.target}
        return Change.OURS if _levers(now) == asked else Change.OPERATOR
    last = {lane.last_decision for lane in known.lanes.values()}
    return Change.OURS if now.decision in last and same_levers else Change.OPERATOR


# What each action changes, as a field of Seen.
_LEVERS = {
    ActionKind.SCALE_UP: "replicas",
    ActionKind.SCALE_DOWN: "replicas",
    ActionKind.RAISE_MEMORY: "memory_limit",
    ActionKind.RESTART: "force_update",
}


def _levers(seen: Seen) -> dict[str, int | None]:
    return {name: getattr(seen, name) for name in sorted(set(_LEVERS.values()))}


def _flight_of(known: ServiceState, decision: str) -> Flight | None:
    for lane in known.lanes.values():
        if lane.flight is not None and lane.flight.decision == decision:
            return lane.flight
    return None
