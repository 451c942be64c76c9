"""What becomes of an action after it was decided, until it is settled.

decided -> (intent seen) unconfirmed -> applied -> settled, or refused, not applied, expired. An
action whose intent was seen is held until an outcome tells what became of it; one without an intent
is dead once it expired, because an executor writes no intent after that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from autoheal.actions import ACTIONS
from autoheal.core.breaker import Breaker
from autoheal.core.limits import Limits
from autoheal.core.state import Flight, Lane, LaneState, Phase, ServiceState
from autoheal.core.view.fold import ServiceTasks
from autoheal.model import UPDATE_AT_REST, ActionKind, Mode, Outcome, OutcomeKind, Service

# How many times of a rule's actions on a service are kept: the most that a limit can count.
ACTED_MAX = 100
# Swarm's words for a rollout that it has given up.
STOPPED = frozenset({"paused", "rollback_paused", "rollback_completed"})


def flights(service: ServiceState) -> Iterator[tuple[Lane, Flight]]:
    """The service's actions that are not settled."""
    for lane in Lane:
        flight = service.lane(lane).flight
        if flight is not None:
            yield lane, flight


def intended(service: ServiceState, decision: str) -> ServiceState:
    """An executor has said that it is about to act: from now on only an outcome settles it."""
    for lane, flight in flights(service):
        if flight.decision == decision and flight.phase is Phase.DECIDED:
            unconfirmed = dataclasses.replace(flight, phase=Phase.UNCONFIRMED)
            changed = dataclasses.replace(service.lane(lane), flight=unconfirmed)
            return service.with_lane(lane, changed)
    return service


@dataclass(frozen=True, slots=True)
class Concluded:
    """What one outcome changed; `flight` is the action it told of, None if it was no news."""

    service: ServiceState
    breaker: Breaker
    flight: Flight | None = None


def concluded(
    service: ServiceState, breaker: Breaker, outcome: Outcome, at_ms: int, limits: Limits
) -> Concluded:
    """Take in one outcome. One of a decision that is not in flight tells nothing new."""
    for lane, flight in flights(service):
        # What is applied stays applied: a late word of another executor must not lock the service.
        if flight.decision == outcome.decision and flight.phase is not Phase.APPLIED:
            state = _after(service, lane, flight, outcome, at_ms)
            if flight.max_mode is Mode.LIVE:
                breaker = _judged(breaker, outcome, at_ms, limits)
            return Concluded(state, breaker, flight)
    return Concluded(service, breaker)


def _after(
    service: ServiceState, lane: Lane, flight: Flight, outcome: Outcome, at_ms: int
) -> ServiceState:
    before = service.lane(lane)
    match outcome.kind:
        case OutcomeKind.UNCONFIRMED:
            unconfirmed = dataclasses.replace(flight, phase=Phase.UNCONFIRMED)
            return service.with_lane(lane, dataclasses.replace(before, flight=unconfirmed))
        case OutcomeKind.REFUSED | OutcomeKind.NOT_APPLIED:
            failed = service.with_lane(lane, _failed(before, at_ms))
            return failed if outcome.stale else _burdened(failed, flight.rule)
        case OutcomeKind.WOULD_APPLY:
            return _acted(service, lane, dataclasses.replace(before, flight=None), flight, at_ms)
        case OutcomeKind.APPLIED:  # pragma: no branch  # mypy knows that there is no other
            applied = dataclasses.replace(
                flight, phase=Phase.APPLIED, applied_ms=at_ms, version=outcome.index
            )
            after = dataclasses.replace(before, flight=applied, last_decision=flight.decision)
            return _acted(service, lane, after, flight, at_ms)


def unburdened(service: ServiceState, rules: Iterable[str]) -> ServiceState:
    """The service with no failed attempt of these rules held against it."""
    kept = {name: count for name, count in service.failures.items() if name not in set(rules)}
    return service if kept == service.failures else dataclasses.replace(service, failures=kept)


def _burdened(service: ServiceState, rule: str) -> ServiceState:
    """The service after one more attempt of the rule came to nothing."""
    failures = {**service.failures, rule: service.failures.get(rule, 0) + 1}
    return dataclasses.replace(service, failures=failures)


def _failed(lane: LaneState, at_ms: int) -> LaneState:
    return dataclasses.replace(lane, flight=None, failed_ms=at_ms)


def _acted(
    service: ServiceState, lane: Lane, after: LaneState, flight: Flight, at_ms: int
) -> ServiceState:
    match flight.action:
        case ActionKind.SCALE_UP:
            after = dataclasses.replace(after, up_ms=at_ms)
        case ActionKind.SCALE_DOWN:
            after = dataclasses.replace(after, down_ms=at_ms)
        case ActionKind.RAISE_MEMORY | ActionKind.RESTART:
            after = dataclasses.replace(after, rolled_ms=at_ms)
        case ActionKind.ESCALATE:  # pragma: no cover  # touches no service: it never flies
            pass
    service = _scaled(unburdened(service, [flight.rule]), flight, at_ms)
    times = (*service.acted.get(flight.rule, ()), at_ms)
    acted = {**service.acted, flight.rule: times[-ACTED_MAX:]}
    return dataclasses.replace(service.with_lane(lane, after), acted=acted)


def _scaled(service: ServiceState, flight: Flight, at_ms: int) -> ServiceState:
    """The service with one more step of a tracking rule, which its policies count."""
    known = service.tracks.get(flight.rule)
    if known is None:
        return service
    scaled = (*known.scaled, (at_ms, flight.target - flight.start))
    tracks = {**service.tracks, flight.rule: dataclasses.replace(known, scaled=scaled)}
    return dataclasses.replace(service, tracks=tracks)


def _judged(breaker: Breaker, outcome: Outcome, at_ms: int, limits: Limits) -> Breaker:
    match outcome.kind:
        case OutcomeKind.APPLIED:
            return breaker.succeeded()
        case OutcomeKind.UNCONFIRMED:
            return breaker.failed(outcome.decision, at_ms, limits.breaker_failures)
        case OutcomeKind.NOT_APPLIED if not outcome.stale:
            return breaker.failed(outcome.decision, at_ms, limits.breaker_failures)
        case _:
            return breaker


@dataclass(frozen=True, slots=True)
class Settled:
    """An applied action that has ended, or that took too long."""

    flight: Flight
    in_time: bool


def moved_on(
    service: ServiceState, seen: Service, tasks: ServiceTasks, now_ms: int, limits: Limits
) -> tuple[ServiceState, tuple[Settled, ...]]:
    """Let time pass: settle what has ended, and drop what expired without an intent."""
    settled: list[Settled] = []
    for lane, flight in flights(service):
        before = service.lane(lane)
        if flight.phase is Phase.APPLIED:
            moved = _progressed(flight, tasks, now_ms)
            in_time = _has_ended(moved, seen, tasks)
            over = in_time or _has_failed(moved, seen, now_ms, limits)
            left = None if over else moved
            service = service.with_lane(lane, dataclasses.replace(before, flight=left))
            settled += [Settled(flight, in_time)] if over else []
        elif flight.phase is Phase.DECIDED and now_ms >= flight.expires_ms + limits.step_ms:
            service = service.with_lane(lane, _failed(before, now_ms))
    return service, tuple(settled)


def _progressed(flight: Flight, tasks: ServiceTasks, now_ms: int) -> Flight:
    """A rollout of many tasks may take long; it takes too long when nothing moves any more."""
    there = tasks.current if ACTIONS[flight.action].rolls else len(tasks.running)
    remaining = abs(tasks.wanted - there)
    if flight.remaining is None:
        return dataclasses.replace(flight, remaining=remaining)
    # What comes and goes again is no progress.
    if remaining >= flight.remaining:
        return flight
    return dataclasses.replace(flight, remaining=remaining, progressed_ms=now_ms)


def _has_failed(flight: Flight, seen: Service, now_ms: int, limits: Limits) -> bool:
    """It stands still for too long, or Swarm has stopped the rollout that it asked for."""
    since_ms = max(flight.applied_ms, flight.progressed_ms)
    stopped = seen.index > flight.version and seen.update_state in STOPPED
    rolls = ACTIONS[flight.action].rolls
    return (rolls and stopped) or now_ms - since_ms >= limits.settle_timeout_ms


def _has_ended(flight: Flight, seen: Service, tasks: ServiceTasks) -> bool:
    """The rollout is over and the tasks are there.

    Swarm begins a rollout a moment after it took the update. Until then it looks as if all were
    done, but for the running tasks: they are still of the spec before.
    """
    rolls = ACTIONS[flight.action].rolls
    rest = UPDATE_AT_REST - STOPPED if rolls else UPDATE_AT_REST
    caught_up = seen.index >= flight.version and seen.update_state in rest
    there = tasks.current if rolls else len(tasks.running)
    return caught_up and len(tasks.running) == there == seen.replicas
