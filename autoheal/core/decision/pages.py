"""Who is told of what: alarms of rules on services, gathered into as few pages as say it all.

An alarm is one rule's reason to tell people of one service. A page is what they get: one for an
outage of the Swarm, else one for a node that is down, else one for a stack of which several
services are in trouble, else one for the incident of a service. A page begins with its first alarm
and ends with its last; a more severe alarm makes a new page of the old one.

An alarm ends once its condition has been FALSE without a break for as long as its rule says: TRUE
breaks it, and so does NO_DATA, or else lost samples could hide that the condition was TRUE for a
while. It ends with the hours of its rule too, unless it tells that an action did not help.

Pages of rules that may not act, and of rules on trial, are kept apart by their mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoheal.actions import Escalate
from autoheal.actions.escalate import FIRING, QUIET, SEVERITIES
from autoheal.core.decision import incidents, sources
from autoheal.core.decision.evidence import counted, denied, describe, is_counting
from autoheal.core.decision.reach import may_reach
from autoheal.core.decision.tick import Tick, View
from autoheal.core.rule import MetricCondition, Rule, leaves
from autoheal.core.state import Alarm, Page
from autoheal.model import Evidence, Mode, Verdict

OUTAGE = "outage"
BUDGET = "budget"
SWARM = "swarm"
THE_SWARM = "the swarm"
STACK_MIN = 2
NAMES_MAX = 5
NODE_PREFIX = "node:"
NODES_DOWN = "nodes_down"
TASKS_BLIND = "tasks_blind"
OTHERWISE = Escalate()


@dataclass(frozen=True, slots=True)
class Cause:
    """A rule's reason to tell people of a service; `because` as in Alarm, `fix` for good."""

    view: View
    rule: Rule
    because: str = ""
    fix: str = ""

    @property
    def severity(self) -> str:
        """How bad it is, by the rule's own word."""
        return severity_of(self.rule)

    @property
    def max_mode(self) -> Mode:
        """How far the rule may go on the service."""
        return may_reach(self.rule, self.view.terms)


def severity_of(rule: Rule) -> str:
    """The severity of the rule's escalation: its action's, or its `otherwise`'s."""
    then = rule.then if isinstance(rule.then, Escalate) else rule.otherwise or OTHERWISE
    return then.severity


def joined(evidence: Iterable[Evidence]) -> str:
    """Figures in a reason."""
    return " and ".join(f"{e.what} is {e.value:g}, {e.bound}" for e in evidence)


# the end of alarms


def resolve(tick: Tick) -> None:
    """Drop the alarms that are over, and end the pages that have none left."""
    ends: dict[str, tuple[str, tuple[Evidence, ...]]] = {}
    for identity in sorted(tick.before.services.keys() - tick.services.keys()):
        for alarm in tick.before.services[identity].escalated.values():
            ends[alarm.page] = ("the service was removed", ())
    for view in tick.views.values():
        for name, known in sorted(tick.services[view.service.id].escalated.items()):
            alarm = _heard(tick, view, name, known)
            over = _over(tick, view, name, alarm)
            if over is not None:
                ends[alarm.page] = over
                _silence(tick, view.service.id, name)
    ringing = {a.page for state in tick.services.values() for a in state.escalated.values()}
    for key in sorted(tick.pages.keys() - ringing):
        # Pages of the whole Swarm end by themselves, whoever rings by them.
        if tick.pages[key].subject != SWARM:
            _end(tick, key, *ends.get(key, ("a person reset the rule", ())))


def _heard(tick: Tick, view: View, name: str, alarm: Alarm) -> Alarm:
    """The alarm, with since when nothing has been amiss; so it is remembered."""
    rule = view.rules.get(name)
    is_false = rule is not None and view.verdicts[name] is Verdict.FALSE
    quiet_ms = None
    if rule is not None and is_false and _has_passed(tick, view, rule, alarm):
        unbroken = alarm.quiet_ms is not None and not tick.is_late
        quiet_ms = alarm.quiet_ms if unbroken else tick.now_ms
    if quiet_ms == alarm.quiet_ms:
        return alarm
    alarm = dataclasses.replace(alarm, quiet_ms=quiet_ms)
    state = tick.services[view.service.id]
    escalated = {**state.escalated, name: alarm}
    tick.services[view.service.id] = dataclasses.replace(state, escalated=escalated)
    return alarm


def _over(
    tick: Tick, view: View, name: str, alarm: Alarm
) -> tuple[str, tuple[Evidence, ...]] | None:
    """Why an alarm is over; None while it goes on. NO_DATA is no recovery."""
    rule = view.rules.get(name)
    if rule is None or (not alarm.because and not isinstance(rule.then, Escalate)):
        return "the rule was removed", ()
    ended = _ended(tick, view, rule)
    if ended:
        return ended, ()
    if alarm.quiet_ms is not None and tick.now_ms - alarm.quiet_ms >= rule.keep_firing_ms:
        evidence = denied(rule, view.service, tick.services[view.service.id], tick.now)
        words = " and ".join(f"{e.what} is {e.value:g}, no longer {e.bound}" for e in evidence[:1])
        return words or "its targets ask for nothing more", evidence
    if view.verdicts[name] is Verdict.NO_DATA and _was_changed(tick, view, rule, alarm.since_ms):
        return "the service was changed, and its figures are no longer there", ()
    if (severity_of(rule), may_reach(rule, view.terms)) != (alarm.severity, alarm.max_mode):
        return "the rule was changed", ()
    return None


def _ended(tick: Tick, view: View, rule: Rule) -> str:
    """Why the rule has nothing more to tell, whatever its condition says; "" while it has.

    That an action did not help is true at any hour.
    """
    if view.service.replicas == 0:
        return "the service was switched off"
    quarantined = tick.services[view.service.id].quarantined
    if rule.name in tick.outside_hours and rule.name not in quarantined:
        return "the rule is outside its hours"
    return ""


def _has_passed(tick: Tick, view: View, rule: Rule, alarm: Alarm) -> bool:
    """Whether what was wrong is right again, and not only out of sight.

    Events pass with time, though nothing may have been mended; and while they still come as often
    as the rule asks for, a moment of calm between them is no end.
    """
    service, state = view.service, tick.services[view.service.id]
    if not alarm.because and not counted(rule, service, state, tick.now):
        return True
    return view.is_whole and not is_counting(rule, service, state, tick.now)


def _was_changed(tick: Tick, view: View, rule: Rule, since_ms: int) -> bool:
    """Whether somebody changed the service since, and nothing else hides its figures."""
    if sources.is_silent(rule, view.service, tick.snapshot):
        return False
    state = tick.services[view.service.id]
    age_ms = tick.now_ms - tick.snapshot.inventory_at_ms
    fresh = view.is_whole and age_ms < tick.limits.inventory_stale_ms
    return fresh and max(state.deployed_ms, state.operated_ms or 0) > since_ms


def _silence(tick: Tick, service: str, name: str) -> None:
    state = tick.services[service]
    kept = {rule: alarm for rule, alarm in state.escalated.items() if rule != name}
    tick.services[service] = dataclasses.replace(state, escalated=kept)


def _end(tick: Tick, key: str, words: str, evidence: tuple[Evidence, ...] = ()) -> None:
    page = tick.pages.pop(key)
    reason = f"resolved: {words}"
    tick.escalation(page, start=FIRING, target=QUIET, reason=reason, evidence=evidence)


# the beginning of alarms


def raise_alarms(tick: Tick, causes: Sequence[Cause]) -> None:
    """Let new causes ring, each by the page that says most."""
    new = [
        cause
        for cause in causes
        if cause.rule.name not in tick.services[cause.view.service.id].escalated
    ]
    troubled = _troubled(tick, new)
    groups: dict[str, list[Cause]] = {}
    for cause in new:
        groups.setdefault(_key(tick, cause, troubled), []).append(cause)
    for key, group in sorted(groups.items()):
        _ring(tick, key, group)


def _troubled(tick: Tick, new: Sequence[Cause]) -> Mapping[str, int]:
    """How many services of each stack people are told of, or are about to be."""
    found = {cause.view.service.id for cause in new}
    for view in tick.views.values():
        state = tick.services[view.service.id]
        pending = (view.rules.get(name) for name in state.rules)
        about = any(rule and isinstance(rule.then, Escalate) for rule in pending)
        if state.escalated or about:
            found.add(view.service.id)
    counts: dict[str, int] = {}
    for identity in found:
        stack = tick.views[identity].service.stack
        if stack is not None:
            counts[stack] = counts.get(stack, 0) + 1
    return counts


def _key(tick: Tick, cause: Cause, troubled: Mapping[str, int]) -> str:
    """The page for the cause: the one that covers most. `|` is in no id and no name of Docker's."""
    if tick.outage_ms is not None:
        return OUTAGE
    service, mode = cause.view.service, cause.max_mode
    lost_on = cause.view.tasks.lost_on if blames_node(cause.rule) else tick.lost_on(cause.view)
    if lost_on:
        return f"{NODE_PREFIX}{lost_on[0]}|{mode}"
    silent = _silent_nodes(tick, cause)
    if silent:
        return f"{NODE_PREFIX}{silent[0]}|{mode}"
    for alarm in tick.services[service.id].escalated.values():
        if alarm.max_mode is mode and not alarm.page.startswith((OUTAGE, NODE_PREFIX)):
            return alarm.page
    if service.stack is not None and troubled.get(service.stack, 0) >= STACK_MIN:
        return f"stack:{service.stack}|{mode}"
    return f"{service.id}|{mode}"


def blames_node(rule: Rule) -> bool:
    """Whether the rule tells of a node rather than of a service."""
    return _looks_at(rule, NODES_DOWN)


def _silent_nodes(tick: Tick, cause: Cause) -> Sequence[str]:
    """For a rule that misses samples: the nodes of the service from which none come at all."""
    if not _looks_at(cause.rule, TASKS_BLIND):
        return ()
    loads = tick.snapshot.loads
    return sorted(
        node
        for node in cause.view.tasks.hosts
        if node not in loads or loads[node].memory_percent is None
    )


def _looks_at(rule: Rule, metric: str) -> bool:
    found = (leaf for leaf in leaves(rule.when) if isinstance(leaf, MetricCondition))
    return any(leaf.metric == metric for leaf in found)


def _ring(tick: Tick, key: str, group: Sequence[Cause]) -> None:
    worst = min(group, key=lambda cause: _rank(cause.severity))
    page = tick.pages.get(key)
    if page is not None and key != OUTAGE and _rank(worst.severity) < _rank(page.severity):
        _end(tick, key, f"it has become {worst.severity}")
        page = None
    if page is None:
        _begin(tick, key, worst, group)
    for cause in group:
        _attach(tick, key, cause)


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)


def _begin(tick: Tick, key: str, worst: Cause, group: Sequence[Cause]) -> None:
    subject = key.partition("|")[0]
    state = tick.services[worst.view.service.id]
    evidence = describe(worst.rule, worst.view.service, state, tick.now)
    page = Page(
        decision="",
        rule=worst.rule.name,
        severity=worst.severity,
        max_mode=worst.max_mode,
        subject=subject,
        name=_name(tick, subject, worst),
    )
    reason = _reason(tick, page, worst, group, evidence)
    begun = tick.escalation(page, start=QUIET, target=FIRING, reason=reason, evidence=evidence)
    tick.pages[key] = dataclasses.replace(page, decision=begun.id)


def _name(tick: Tick, subject: str, cause: Cause) -> str:
    kind, _, name = subject.partition(":")
    match kind:
        case "node":
            hostnames = {node.id: node.hostname for node in tick.snapshot.nodes}
            return f"node {hostnames.get(name, name)}"
        case "stack":
            return f"stack {name}"
        case _:
            return cause.view.service.name


def _reason(
    tick: Tick, page: Page, worst: Cause, group: Sequence[Cause], evidence: tuple[Evidence, ...]
) -> str:
    if page.subject.startswith(NODE_PREFIX):
        return _node_reason(tick, page, worst)
    words = worst.because or f"escalate ({worst.severity})"
    reason = f"{joined(evidence)}: {words}" if evidence else words
    if worst.view.tasks.complaint and not worst.view.is_whole:
        reason += f'; Swarm says: "{worst.view.tasks.complaint}"'
    if worst.fix:
        reason += f"; {worst.fix}"
    if page.subject.startswith("stack:"):
        names = sorted({cause.view.service.name for cause in group})
        reason = f"{listed(names)} of {page.name}: {worst.view.service.name}: {reason}"
    return reason


def _node_reason(tick: Tick, page: Page, worst: Cause) -> str:
    node = page.subject.removeprefix(NODE_PREFIX)
    down = [view.service.name for view in tick.views.values() if node in view.tasks.lost_on]
    if down and not _looks_at(worst.rule, TASKS_BLIND):
        return f"{page.name} is down; it had tasks of {listed(down)}"
    blind = [view.service.name for view in tick.views.values() if node in view.tasks.hosts]
    return f"no samples come from {page.name}; it has tasks of {listed(blind)}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first few of them."""
    shown = ", ".join(sorted(names)[:NAMES_MAX])
    more = len(names) - NAMES_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _attach(tick: Tick, key: str, cause: Cause) -> None:
    identity = cause.view.service.id
    state = tick.services[identity]
    alarm = Alarm(key, cause.severity, cause.max_mode, cause.because, tick.now_ms)
    escalated = {**state.escalated, cause.rule.name: alarm}
    tick.services[identity] = dataclasses.replace(state, escalated=escalated)
    if incidents.is_of_failure(cause.rule):
        incidents.escalated(tick, identity)


# pages of the whole Swarm


def begin_outage(tick: Tick, sick: Sequence[str], threshold: float) -> None:
    """So many services fell sick together that nothing is done: one page."""
    evidence = Evidence("services that fell sick", len(sick), f"above {threshold:g}")
    reason = (
        f"an outage: {len(sick)} services fell sick together ({listed(sick)});"
        " autoheal does nothing until fewer are"
    )
    _begin_for_swarm(tick, OUTAGE, ("critical", Mode.LIVE), reason, (evidence,))


def end_outage(tick: Tick) -> None:
    """It is over: whoever is still in trouble gets a page of their own."""
    for view in tick.views.values():
        for name, alarm in sorted(tick.services[view.service.id].escalated.items()):
            if alarm.page == OUTAGE:
                _silence(tick, view.service.id, name)
    if OUTAGE in tick.pages:
        _end(tick, OUTAGE, "few enough services are sick")


def budget_spent(tick: Tick, mode: Mode, waiting: Sequence[str]) -> None:
    """Rules want to act on these services and the hour's actions are spent: one page."""
    key = f"{BUDGET}|{mode}"
    if key in tick.pages:
        return
    limit = tick.limits.actions_per_hour
    evidence = Evidence("actions in 1h", len(tick.spent.get(mode, ())), f"at least {limit}")
    reason = f"{limit} actions in an hour are spent; {listed(waiting)} must wait, or be seen to"
    _begin_for_swarm(tick, key, ("warning", mode), reason, (evidence,))


def budget_is_back(tick: Tick) -> None:
    """End the page once an action may be spent again."""
    for mode in Mode:
        left = len(tick.spent.get(mode, ())) < tick.limits.actions_per_hour
        if left and f"{BUDGET}|{mode}" in tick.pages:
            _end(tick, f"{BUDGET}|{mode}", "an action may be spent again")


def _begin_for_swarm(
    tick: Tick,
    key: str,
    how: tuple[str, Mode],
    reason: str,
    evidence: tuple[Evidence, ...],
) -> None:
    severity, mode = how
    page = Page("", key.partition("|")[0], severity, mode, SWARM, THE_SWARM)
    begun = tick.escalation(page, start=QUIET, target=FIRING, reason=reason, evidence=evidence)
    tick.pages[key] = dataclasses.replace(page, decision=begun.id)
