"""decide(rules, state, snapshot, now) -> (state', decisions): pure, and all of the judgement.

A tick reads: notice who changed what; take in what became of earlier decisions; step every rule on
every service; raise and resolve alerts; let the firing rules of a service contend; ask the guards;
send what is left, no more at once than allowed. The process's mode is not known here: a decision
carries `max_mode`, from rule and labels alone.

Order never depends on a set or a hash: services go by id, rules by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from autoheal.actions import Escalate, Plan
from autoheal.actions.escalate import FIRING, QUIET
from autoheal.core import alerts, changes, flights
from autoheal.core.arbiter import Bid, Loss, contend, lane_of, order_of
from autoheal.core.breaker import Breaker
from autoheal.core.evidence import describe, evaluate
from autoheal.core.fold import Snapshot
from autoheal.core.guards import Candidate, Situation, objection
from autoheal.core.limits import Limits
from autoheal.core.readings import Reading
from autoheal.core.rule import Rule, RuleSet
from autoheal.core.state import Alarm, Flight, Lane, RuleState, ServiceState, State
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    ActionKind,
    Decision,
    Evidence,
    Mode,
    Service,
    Verdict,
)
from autoheal.records import identified
from autoheal.units import format_duration


@dataclass(frozen=True, slots=True)
class Held:
    """A rule that wanted to act and did not, and why."""

    service: str
    rule: str
    guard: str
    words: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything one tick says."""

    state: State
    decisions: tuple[Decision, ...]
    held: tuple[Held, ...]


@dataclass(slots=True)
class _Tick:
    """The tick being worked on; it lives no longer than one call of `decide`."""

    rules: RuleSet
    limits: Limits
    snapshot: Snapshot
    now_ms: int
    before: State
    breaker: Breaker
    stacks: dict[str, int] = field(default_factory=dict)
    services: dict[str, ServiceState] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)


def decide(
    rules: RuleSet, limits: Limits, state: State, snapshot: Snapshot, now_ms: int
) -> Verdicts:
    """One tick. Raises ValueError when `now_ms` lies before the state's."""
    if now_ms < state.now_ms:
        raise ValueError(f"time went back from {state.now_ms} to {now_ms}")
    breaker = state.breaker.at(now_ms, limits.breaker_cool_off_ms)
    tick = _Tick(rules, limits, snapshot, now_ms, state, breaker)
    _observe(tick)
    _conclude(tick)
    _resolve_gone(tick)
    candidates = [bid for service in snapshot.services for bid in _serve(tick, service)]
    _send(tick, candidates)
    after = State(
        tick=state.tick + 1,
        now_ms=now_ms,
        epoch=snapshot.epoch,
        rule_set=rules.hash,
        breaker=tick.breaker,
        services=tick.services,
    )
    return Verdicts(after, tuple(tick.decisions), tuple(tick.held))


def may_reach(rule: Rule, service: Service) -> Mode:
    """How far the rule may go on this service; a missing label lowers it, and does no more."""
    if rule.mode is Mode.DRY_RUN:
        return Mode.DRY_RUN
    if rule.then.leaf is None:
        return Mode.LIVE
    allowed = {word.strip() for word in service.labels.get(LABEL_ALLOW, "").split(",")}
    enabled = service.labels.get(LABEL_ENABLE) == "true" and rule.then.kind in allowed
    return Mode.LIVE if enabled else Mode.DRY_RUN


# what happened since the last tick


def _observe(tick: _Tick) -> None:
    """Notice deploys and operators."""
    for service in tick.snapshot.services:
        state = changes.observe(service, tick.before.services.get(service.id))
        tick.services[service.id] = state
        if service.stack is not None:
            newest_ms = max(state.deployed_ms, tick.stacks.get(service.stack, 0))
            tick.stacks[service.stack] = newest_ms


def _conclude(tick: _Tick) -> None:
    """Take in intents and outcomes since the last tick, then let time settle the rest."""
    since_ms, services = tick.before.now_ms, tick.services
    for intent in tick.snapshot.intents:
        known = services.get(intent.record.service)
        if known is not None and since_ms <= intent.ms < tick.now_ms:
            services[intent.record.service] = flights.intended(known, intent.record.decision)
    for outcome in tick.snapshot.outcomes:
        known = services.get(outcome.record.service)
        if known is not None and since_ms <= outcome.ms < tick.now_ms:
            services[outcome.record.service], tick.breaker = flights.concluded(
                known, tick.breaker, outcome.record, outcome.ms, tick.limits
            )
    for seen in tick.snapshot.services:
        running = tick.snapshot.running.get(seen.id, 0)
        services[seen.id] = flights.moved_on(
            services[seen.id], seen, running, tick.now_ms, tick.limits
        )
    probe = tick.breaker.probe
    if probe and all(f.decision != probe for s in services.values() for _, f in flights.flights(s)):
        tick.breaker = tick.breaker.abandoned(probe)


# one service


def _serve(tick: _Tick, service: Service) -> list[Candidate]:
    """Step the service's rules, raise and resolve its alerts; return who may act, one per lane."""
    rules = [rule for rule in tick.rules.rules if rule.match.holds(service.name)]
    state = tick.services[service.id]
    now = (tick.now_ms, tick.snapshot)
    readings = {rule.name: evaluate(rule, service, state, now) for rule in rules}
    after = _step(tick, state, rules, readings)
    if after != state.rules:
        tick.services[service.id] = dataclasses.replace(state, rules=after)
    bids = [
        Bid(rule, readings[rule.name], rule.then.plan(service))
        for rule in rules
        if readings[rule.name].verdict is Verdict.TRUE and after[rule.name].firing
    ]
    _resolve(tick, service, readings)
    _raise(tick, service, [bid for bid in bids if bid.action is ActionKind.ESCALATE])
    return _contend(tick, service, [bid for bid in bids if bid.action is not ActionKind.ESCALATE])


def _step(
    tick: _Tick, state: ServiceState, rules: Iterable[Rule], readings: Mapping[str, Reading]
) -> dict[str, RuleState]:
    """The next states of the rules that are not inactive. A long gap starts them over."""
    gap_ms = tick.now_ms - tick.before.now_ms
    limits = tick.limits
    late = gap_ms > max((limits.missed_ticks + 1) * limits.step_ms, limits.handover_ms)
    after = {}
    for rule in rules:
        known = None if late else state.rules.get(rule.name)
        stepped = alerts.step(known, rule, readings[rule.name].verdict, tick.now_ms)
        if stepped is not None:
            after[rule.name] = stepped
    return after


def _contend(tick: _Tick, service: Service, bids: list[Bid]) -> list[Candidate]:
    """The winner of each lane that no guard objects to."""
    candidates = []
    for lane in Lane:
        mine = [bid for bid in bids if lane_of(bid.rule) is lane]
        alarm = _alarm(tick, service, lane)
        if alarm is not None:
            words = f"{alarm} (escalate) goes first"
            _lose(tick, service, [Loss(bid.rule, "arbitration", words) for bid in mine])
            continue
        winner, losses = contend(mine)
        _lose(tick, service, losses)
        if winner is not None:
            candidates += _guarded(tick, service, winner, lane)
    return candidates


def _alarm(tick: _Tick, service: Service, lane: Lane) -> str | None:
    """The escalation that is firing on the service in this lane, if there is one."""
    firing = tick.services[service.id].escalated
    if not firing:
        return None
    rules = (rule for rule in tick.rules.rules if rule.name in firing and lane_of(rule) is lane)
    return next((rule.name for rule in rules), None)


def _guarded(tick: _Tick, service: Service, bid: Bid, lane: Lane) -> list[Candidate]:
    """The bid as a candidate, or nothing if a guard objects."""
    candidate = Candidate(
        service=service,
        state=tick.services[service.id],
        rule=bid.rule,
        plan=cast("Plan", bid.plan),  # only a bid that can act wins
        lane=lane,
        max_mode=may_reach(bid.rule, service),
        evidence=describe(bid.rule, bid.reading),
    )
    objected = objection(candidate, _situation(tick))
    if objected is None:
        return [candidate]
    _lose(tick, service, [Loss(bid.rule, *objected)])
    return []


def _situation(tick: _Tick) -> Situation:
    return Situation(
        now_ms=tick.now_ms,
        limits=tick.limits,
        inventory_at_ms=tick.snapshot.inventory_at_ms,
        stack_deployed_ms=tick.stacks,
        breaker=tick.breaker,
    )


def _lose(tick: _Tick, service: Service, losses: Iterable[Loss]) -> None:
    """Record why rules did not act; the guard's name also in the state, where `status` shows it."""
    state = tick.services[service.id]
    rules = dict(state.rules)
    for loss in losses:
        tick.held.append(Held(service.id, loss.rule.name, loss.guard, loss.words))
        rules[loss.rule.name] = dataclasses.replace(rules[loss.rule.name], held=loss.guard)
    if rules != state.rules:
        tick.services[service.id] = dataclasses.replace(state, rules=rules)


# escalations


def _raise(tick: _Tick, service: Service, bids: Iterable[Bid]) -> None:
    """Begin the alerts of rules that fire and have none yet."""
    for bid in bids:
        if bid.rule.name in tick.services[service.id].escalated:
            continue
        for candidate in _guarded(tick, service, bid, lane_of(bid.rule)):
            decision = _decision(tick, candidate)
            tick.decisions.append(decision)
            alarm = Alarm(decision.id, decision.severity, decision.max_mode)
            _escalate(tick, service.id, {bid.rule.name: alarm})


def _resolve(tick: _Tick, service: Service, readings: Mapping[str, Reading]) -> None:
    """End the alerts that are over."""
    state = tick.services[service.id]
    if not state.escalated:
        return
    rules = {rule.name: rule for rule in tick.rules.rules if rule.name in readings}
    for name, alarm in sorted(state.escalated.items()):
        over = _over(service, alarm, rules.get(name), readings.get(name))
        if over is not None:
            _end(tick, service.id, name, alarm, *over)


def _over(
    service: Service, alarm: Alarm, rule: Rule | None, reading: Reading | None
) -> tuple[str, Evidence | None] | None:
    """Why an alert is over; None while it goes on. NO_DATA is no recovery."""
    if service.replicas == 0:
        return "the service was switched off", None
    if rule is None or reading is None or not isinstance(rule.then, Escalate):
        return "the rule was removed", None
    if reading.verdict is Verdict.FALSE:
        evidence = describe(rule, reading)
        words = f"{evidence.what} is {evidence.value:g}, no longer {evidence.bound}"
        return words, evidence
    if (rule.then.severity, may_reach(rule, service)) != (alarm.severity, alarm.max_mode):
        return "the rule was changed", None
    return None


def _resolve_gone(tick: _Tick) -> None:
    """End the alerts of services that were removed."""
    for service, state in sorted(tick.before.services.items()):
        if service not in tick.services:
            tick.services[service] = state
            for name, alarm in sorted(state.escalated.items()):
                _end(tick, service, name, alarm, "the service was removed", None)
            del tick.services[service]


def _end(
    tick: _Tick, service: str, name: str, alarm: Alarm, words: str, evidence: Evidence | None
) -> None:
    """Say that the alert of this rule on this service is over, as it was raised."""
    state = tick.services[service]
    rule = next((rule for rule in tick.rules.rules if rule.name == name), None)
    decision = Decision(
        id="",
        action=ActionKind.ESCALATE,
        service=service,
        service_name=state.name,
        start=FIRING,
        target=QUIET,
        version=state.seen.index,
        rule=name,
        rule_hash=rule.hash if rule else "",
        rule_set=tick.rules.hash,
        reason=f"resolved: {words}",
        evidence=() if evidence is None else (evidence,),
        severity=alarm.severity,
        tick=tick.before.tick + 1,
        epoch=tick.snapshot.epoch,
        max_mode=alarm.max_mode,
        decided_at_ms=tick.now_ms,
        expires_at_ms=tick.now_ms + tick.limits.decision_expiry_ms,
    )
    tick.decisions.append(identified(decision))
    _escalate(tick, service, {name: None})


def _escalate(tick: _Tick, service: str, changed: Mapping[str, Alarm | None]) -> None:
    state = tick.services[service]
    merged = {**state.escalated, **changed}
    kept = {name: alarm for name, alarm in merged.items() if alarm is not None}
    tick.services[service] = dataclasses.replace(state, escalated=kept)


# sending


def _send(tick: _Tick, candidates: Iterable[Candidate]) -> None:
    """Decide the candidates in order of rank, no more in flight per mode than allowed."""
    flying = _flying(tick)
    for candidate in sorted(candidates, key=_order):
        if flying[candidate.max_mode] >= tick.limits.actions_at_once:
            words = "another action is not settled"
            _lose(tick, candidate.service, [Loss(candidate.rule, "one-at-a-time", words)])
            continue
        if candidate.max_mode is Mode.LIVE and not tick.breaker.admits:
            words = "the breaker around Docker waits for its probe"
            _lose(tick, candidate.service, [Loss(candidate.rule, "breaker", words)])
            continue
        flying[candidate.max_mode] += 1
        decision = _decision(tick, candidate)
        tick.decisions.append(decision)
        _fly(tick, candidate, decision)


def _flying(tick: _Tick) -> dict[Mode, int]:
    """How many actions are not settled, per mode."""
    flying = dict.fromkeys(Mode, 0)
    for state in tick.services.values():
        for _, flight in flights.flights(state):
            flying[flight.max_mode] += 1
    return flying


def _order(candidate: Candidate) -> tuple[int, int, int, str, str]:
    """Strongest first; among equals whoever has waited longest, so that nobody starves another."""
    lane = candidate.state.lane(candidate.lane)
    last_ms = max(lane.up_ms or 0, lane.down_ms or 0, lane.failed_ms or 0)
    rank, priority, name = order_of(candidate.rule)
    return rank, priority, last_ms, name, candidate.service.id


def _decision(tick: _Tick, candidate: Candidate) -> Decision:
    rule, evidence = candidate.rule, candidate.evidence
    held_for = f" for {format_duration(rule.for_ms)}" if rule.for_ms else ""
    decision = Decision(
        id="",
        action=rule.then.kind,
        service=candidate.service.id,
        service_name=candidate.service.name,
        start=candidate.plan.start,
        target=candidate.plan.target,
        version=candidate.service.index,
        rule=rule.name,
        rule_hash=rule.hash,
        rule_set=tick.rules.hash,
        reason=(
            f"{evidence.what} is {evidence.value:g}, {evidence.bound}{held_for}: "
            f"{candidate.plan.words}"
        ),
        evidence=(evidence,),
        severity=rule.then.severity if isinstance(rule.then, Escalate) else "",
        tick=tick.before.tick + 1,
        epoch=tick.snapshot.epoch,
        max_mode=candidate.max_mode,
        decided_at_ms=tick.now_ms,
        expires_at_ms=tick.now_ms + tick.limits.decision_expiry_ms,
    )
    return identified(decision)


def _fly(tick: _Tick, candidate: Candidate, decision: Decision) -> None:
    """Remember the action until it is settled."""
    if decision.max_mode is Mode.LIVE:
        tick.breaker = tick.breaker.sent(decision.id)
    state = tick.services[decision.service]
    flight = Flight(
        decision=decision.id,
        action=decision.action,
        rule=decision.rule,
        start=decision.start,
        target=decision.target,
        max_mode=decision.max_mode,
        decided_ms=decision.decided_at_ms,
        expires_ms=decision.expires_at_ms,
    )
    lane = dataclasses.replace(state.lane(candidate.lane), flight=flight)
    tick.services[decision.service] = state.with_lane(candidate.lane, lane)
