"""Sending: the candidates that no guard objects to, no more at once or in an hour than allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from autoheal.core.decision import flights
from autoheal.core.decision.arbiter import Loss, order_of
from autoheal.core.decision.guards import Candidate
from autoheal.core.decision.pages import joined
from autoheal.core.decision.tick import Tick
from autoheal.core.state import Flight, Phase
from autoheal.model import Decision, Mode
from autoheal.records import identified
from autoheal.units import format_duration


def send(tick: Tick, candidates: Iterable[Candidate]) -> None:
    """Decide the candidates in order of rank, no more in flight per mode than allowed."""
    flying = _flying(tick)
    for candidate in sorted(candidates, key=_order):
        loss = _too_many(tick, candidate, flying[candidate.max_mode])
        if loss is not None:
            tick.lose(candidate.service.id, [loss])
            continue
        decision = _decision(tick, candidate)
        tick.decisions.append(decision)
        flying[candidate.max_mode].append(_fly(tick, candidate, decision))


def _too_many(tick: Tick, candidate: Candidate, flying: Sequence[Flight]) -> Loss | None:
    """Why one more action is too many now."""
    mode, limits = candidate.max_mode, tick.limits
    if len(flying) >= limits.actions_at_once:
        return Loss(candidate.rule, "one-at-a-time", "another action is not settled")
    unspent = sum(flight.phase is not Phase.APPLIED for flight in flying)
    if len(tick.spent.get(mode, ())) + unspent >= limits.actions_per_hour:
        return Loss(candidate.rule, "budget", "the last action of this hour is being spent")
    if mode is Mode.LIVE and not tick.breaker.admits:
        words = "the breaker around Docker waits for its probe"
        return Loss(candidate.rule, "breaker", words)
    return None


def _flying(tick: Tick) -> dict[Mode, list[Flight]]:
    """The actions that are not settled, per mode."""
    flying: dict[Mode, list[Flight]] = {mode: [] for mode in Mode}
    for state in tick.services.values():
        for _, flight in flights.flights(state):
            flying[flight.max_mode].append(flight)
    return flying


def _order(candidate: Candidate) -> tuple[int, int, int, str, str]:
    """Strongest first; among equals whoever has waited longest, so that nobody starves another."""
    lane = candidate.state.lane(candidate.lane)
    times = (lane.up_ms, lane.down_ms, lane.rolled_ms, lane.failed_ms)
    last_ms = max(each or 0 for each in times)
    rank, priority, name = order_of(candidate.rule, candidate.action)
    return rank, priority, last_ms, name, candidate.service.id


def _decision(tick: Tick, candidate: Candidate) -> Decision:
    rule, evidence = candidate.rule, candidate.evidence
    held_for = f" for {format_duration(rule.for_ms)}" if rule.for_ms else ""
    decision = Decision(
        id="",
        action=candidate.action,
        service=candidate.service.id,
        service_name=candidate.service.name,
        start=candidate.plan.start,
        target=candidate.plan.target,
        version=candidate.service.index,
        rule=rule.name,
        rule_hash=rule.hash,
        rule_set=tick.rules.hash,
        reason=f"{joined(evidence)}{held_for}: {candidate.plan.words}",
        evidence=evidence,
        severity="",
        tick=tick.before.tick + 1,
        epoch=tick.snapshot.epoch,
        max_mode=candidate.max_mode,
        decided_at_ms=tick.now_ms,
        expires_at_ms=tick.now_ms + tick.limits.decision_expiry_ms,
    )
    return identified(decision)


def _fly(tick: Tick, candidate: Candidate, decision: Decision) -> Flight:
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
    return flight
