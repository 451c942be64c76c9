"""decide(rules, limits, state, snapshot, now) -> (state', decisions): pure, all of the judgement.

A tick reads: notice who changed what; take in what became of earlier decisions; step every rule
that is in force on every service; follow incidents; tell people of an outage; judge what was done;
let the firing rules of a service contend; ask the guards; tell people; send what is left, no more
at once than allowed; name the rules that a source leaves in the dark.
The process's mode is not known here: a decision carries `max_mode`, from rule and labels alone.

Order never depends on a set or a hash: services go by id, rules by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from autoheal.core.decision import (
    aftermath,
    alerts,
    changes,
    contest,
    flights,
    incidents,
    outage,
    pages,
    sources,
    tracking,
)
from autoheal.core.decision.evidence import evaluate
from autoheal.core.decision.guards import Candidate
from autoheal.core.decision.sending import send
from autoheal.core.decision.tick import Held, Tick, View
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import Rule, RuleSet
from autoheal.core.state import RuleState, ServiceState, State
from autoheal.core.view.fold import Snapshot
from autoheal.labels import read_terms
from autoheal.model import COMMAND_RESET, Decision, Incident, Node, Service, Verdict


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything one tick says. `incidents` are those that changed, in order of change."""

    state: State
    decisions: tuple[Decision, ...]
    held: tuple[Held, ...]
    incidents: tuple[Incident, ...]


def decide(
    rules: RuleSet, limits: Limits, state: State, snapshot: Snapshot, now_ms: int
) -> Verdicts:
    """One tick. Raises ValueError when `now_ms` lies before the state's."""
    if now_ms < state.now_ms:
        raise ValueError(f"time went back from {state.now_ms} to {now_ms}")
    tick = _begin(rules, limits, state, snapshot, now_ms)
    _observe(tick)
    _obey(tick)
    aftermath.conclude(tick)
    for service in snapshot.services:
        tick.views[service.id] = _look(tick, service)
    for view in tick.views.values():
        incidents.follow(tick, view)
    _bury(tick)
    outage.watch(tick)
    pages.resolve(tick)
    causes = [cause for view in tick.views.values() for cause in aftermath.judge(tick, view)]
    candidates: list[Candidate] = []
    for view in tick.views.values():
        chosen, reasons = contest.serve(tick, view)
        candidates += chosen
        causes += reasons
    pages.raise_alarms(tick, causes)
    pages.budget_is_back(tick)
    send(tick, candidates)
    sources.hold(tick)
    for view in tick.views.values():
        incidents.close(tick, view)
    return _verdicts(tick)


def _begin(rules: RuleSet, limits: Limits, state: State, snapshot: Snapshot, now_ms: int) -> Tick:
    hour_ago_ms = now_ms - HOUR_MS
    return Tick(
        rules,
        limits,
        snapshot,
        now_ms,
        before=state,
        breaker=state.breaker.at(now_ms, limits.breaker_cool_off_ms),
        nodes_changed_ms=state.nodes_changed_ms,
        spent={
            mode: tuple(ms for ms in times if ms > hour_ago_ms)
            for mode, times in state.spent.items()
        },
        pages=dict(state.pages),
        outage_ms=state.outage_ms,
        began_ms=state.began_ms or now_ms,
        outside_hours=alerts.outside_hours(rules, now_ms),
    )


def _verdicts(tick: Tick) -> Verdicts:
    state = State(
        tick=tick.before.tick + 1,
        now_ms=tick.now_ms,
        began_ms=tick.began_ms,
        epoch=tick.snapshot.epoch,
        rule_set=tick.rules.hash,
        breaker=tick.breaker,
        nodes=tick.nodes,
        nodes_changed_ms=tick.nodes_changed_ms,
        spent=tick.spent,
        pages=tick.pages,
        outage_ms=tick.outage_ms,
        services=tick.services,
    )
    return Verdicts(state, tuple(tick.decisions), tuple(tick.held), tuple(tick.incidents))


# what happened since the last tick


def _observe(tick: Tick) -> None:
    """Notice deploys and operators, and nodes that came or went."""
    for service in tick.snapshot.services:
        state = changes.observe(service, tick.before.services.get(service.id))
        tick.services[service.id] = state
        if service.stack is not None:
            newest_ms = max(state.deployed_ms, tick.stacks.get(service.stack, 0))
            tick.stacks[service.stack] = newest_ms
    tick.nodes = {node.id: _condition(node) for node in tick.snapshot.nodes}
    if tick.before.nodes and tick.before.nodes != tick.nodes:
        tick.nodes_changed_ms = tick.now_ms


def _condition(node: Node) -> str:
    """Whether the node takes part: `in` or `out`. What else changes on it is of no consequence."""
    return "in" if (node.state, node.availability) == ("ready", "active") else "out"


def _obey(tick: Tick) -> None:
    """What people commanded since the last tick."""
    for command in tick.snapshot.commands:
        known = tick.services.get(command.record.service)
        new = tick.before.now_ms <= command.ms < tick.now_ms
        if known is not None and new and command.record.kind == COMMAND_RESET:
            tick.services[command.record.service] = _reset(known, command.record.rule, tick.now_ms)


def _reset(state: ServiceState, name: str, now_ms: int) -> ServiceState:
    """The rule, or all of them, may act again, and its limit counts from nothing.

    That its action could not be, or did not help, holds no longer.
    """
    meant = [rule for rule in state.acted if name in ("", rule)]
    escalated = {
        rule: alarm
        for rule, alarm in state.escalated.items()
        if not alarm.because or name not in ("", rule)
    }
    return dataclasses.replace(
        flights.unburdened(state, [rule for rule in state.failures if name in ("", rule)]),
        escalated=escalated,
        quarantined={k: v for k, v in state.quarantined.items() if name not in ("", k)},
        forgiven={**state.forgiven, **dict.fromkeys(meant, now_ms)},
    )


def _bury(tick: Tick) -> None:
    """End the incidents of services that were removed."""
    for service, state in sorted(tick.before.services.items()):
        if service not in tick.services and state.incident is not None:
            tick.incidents.append(incidents.ended(state.incident, None))


# one service


def _look(tick: Tick, service: Service) -> View:
    """What the service's rules say now; the states of those in force are stepped."""
    rules = {rule.name: rule for rule in tick.rules.rules if rule.match.holds(service)}
    state = tick.services[service.id]
    verdicts = {
        name: evaluate(rule, service, state, tick.now).verdict for name, rule in rules.items()
    }
    after = _step(tick, state, rules, verdicts)
    if after != state.rules:
        state = dataclasses.replace(state, rules=after)
    # A rule that wants nothing any more begins anew.
    idle = state.failures.keys() - after.keys()
    tick.services[service.id] = flights.unburdened(state, idle)
    view = View(service, read_terms(service.labels), tick.tasks(service.id), rules, verdicts)
    tracked = tracking.verdicts(tick, view)
    return dataclasses.replace(view, verdicts={**verdicts, **tracked}) if tracked else view


def _step(
    tick: Tick,
    state: ServiceState,
    rules: Mapping[str, Rule],
    verdicts: Mapping[str, Verdict],
) -> dict[str, RuleState]:
    """The next states of the rules in force that are not inactive. A long gap starts them over."""
    before = {} if tick.is_late else state.rules
    after = {}
    for name, rule in rules.items():
        if name in tick.outside_hours:
            continue
        stepped = alerts.step(before.get(name), rule, verdicts[name], tick.now_ms)
        if stepped is not None:
            after[name] = stepped
    return after
