"""What an action may look at: one service with what the tick knows of its kills and its nodes."""

from __future__ import annotations

from autoheal.actions import Proposal, Subject
from autoheal.core.decision.evidence import OOM_KILLED, counted
from autoheal.core.decision.tick import Tick, View
from autoheal.core.rule import Rule


def subject(tick: Tick, view: View, rule: Rule, tracked: Proposal | None = None) -> Subject:
    """The subject of the rule's action on the service, with what tracking came to."""
    return Subject(
        service=view.service,
        running=len(view.tasks.running),
        minimum=view.terms.minimum,
        maximum=view.terms.maximum,
        killed_limit=_killed_limit(tick, view, rule) if rule.then.rolls else None,
        room=_room(tick, view) if rule.then.rolls else None,
        tracked=tracked,
    )


def _killed_limit(tick: Tick, view: View, rule: Rule) -> int | None:
    """The memory limit in force at the newest kill that the rule counts."""
    state = tick.services[view.service.id]
    limits = [
        happening.memory_limit
        for condition, found in counted(rule, view.service, state, tick.now)
        if condition.event == OOM_KILLED
        for happening in found
    ]
    return limits[-1] if limits else None


def _room(tick: Tick, view: View) -> int | None:
    """How far each task's limit may grow before a node that hosts the service is saturated."""
    rooms = []
    for node, count in sorted(view.tasks.hosts.items()):
        load = tick.snapshot.loads.get(node)
        if load is None or load.memory is None or load.memory_percent is None:
            return None
        left = tick.limits.saturated_percent - load.memory_percent
        rooms.append(max(0, int(load.memory * left / 100)) // max(1, count))
    return min(rooms) if rooms else None
