"""What holds an action back: a list, read top-down; the first that objects is the reason.

Each guard looks at one candidate in its situation and answers with words, or None. Escalations
touch no service; only the guards that say so look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoheal.actions import Plan
from autoheal.core.breaker import Breaker
from autoheal.core.limits import Limits
from autoheal.core.rule import Rule
from autoheal.core.state import Lane, ServiceState
from autoheal.model import (
    LABEL_ROLE,
    UPDATE_AT_REST,
    ActionKind,
    Evidence,
    Mode,
    Service,
    ServiceMode,
)
from autoheal.units import format_duration


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rule that wants to act on one service, and the figure that it rests on."""

    service: Service
    state: ServiceState
    rule: Rule
    plan: Plan
    lane: Lane
    max_mode: Mode
    evidence: Evidence

    @property
    def action(self) -> ActionKind:
        """What it wants done."""
        return self.rule.then.kind


@dataclass(frozen=True, slots=True)
class Situation:
    """What guards know beside the candidate. `stack_deployed_ms` is the newest deploy per stack."""

    now_ms: int
    limits: Limits
    inventory_at_ms: int
    stack_deployed_ms: Mapping[str, int]
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class Guard:
    """A name for metrics and state, and the question."""

    name: str
    objects: Callable[[Candidate, Situation], str | None]
    escalations_too: bool = False


def _ago(now_ms: int, then_ms: int) -> str:
    return f"{format_duration(max(0, now_ms - then_ms) // 1000 * 1000)} ago"


def _own(candidate: Candidate, _: Situation) -> str | None:
    if LABEL_ROLE in candidate.service.labels:
        return "it is a part of autoheal itself"
    return None


def _mode(candidate: Candidate, _: Situation) -> str | None:
    mode = candidate.service.mode
    return None if mode is ServiceMode.REPLICATED else f"a {mode} service is never scaled"


def _off(candidate: Candidate, _: Situation) -> str | None:
    return "0 replicas means switched off" if candidate.service.replicas == 0 else None


def _rollout(candidate: Candidate, _: Situation) -> str | None:
    state = candidate.service.update_state
    return None if state in UPDATE_AT_REST else f"its update is {state}"


def _deploy(candidate: Candidate, situation: Situation) -> str | None:
    then_ms = candidate.state.deployed_ms
    if situation.now_ms - then_ms < situation.limits.deploy_hold_ms:
        return f"deployed {_ago(situation.now_ms, then_ms)}"
    return None


def _stack(candidate: Candidate, situation: Situation) -> str | None:
    stack = candidate.service.stack
    then_ms = None if stack is None else situation.stack_deployed_ms.get(stack)
    if then_ms is not None and situation.now_ms - then_ms < situation.limits.deploy_hold_ms:
        return f"its stack {stack} was deployed {_ago(situation.now_ms, then_ms)}"
    return None


def _operator(candidate: Candidate, situation: Situation) -> str | None:
    then_ms = candidate.state.operated_ms
    if then_ms is not None and situation.now_ms - then_ms < situation.limits.operator_hold_ms:
        return f"an operator changed it {_ago(situation.now_ms, then_ms)}"
    return None


def _inventory(_: Candidate, situation: Situation) -> str | None:
    if situation.now_ms - situation.inventory_at_ms >= situation.limits.inventory_stale_ms:
        return f"the last inventory came {_ago(situation.now_ms, situation.inventory_at_ms)}"
    return None


def _flight(candidate: Candidate, _: Situation) -> str | None:
    for lane in _lanes(candidate):
        flight = candidate.state.lane(lane).flight
        if flight is not None:
            return f"{flight.action} to {flight.target} is {flight.phase} and not settled"
    return None


def _cooldown(candidate: Candidate, situation: Situation) -> str | None:
    """Up waits after up; down waits after both, and its whole window after an up."""
    rule, now_ms = candidate.rule, situation.now_ms
    for lane in _lanes(candidate):
        state = candidate.state.lane(lane)
        waits = [(state.up_ms, rule.cooldown_ms)]
        if candidate.action is ActionKind.SCALE_DOWN:
            waits = [
                (state.down_ms, rule.cooldown_ms),
                (state.up_ms, max(rule.cooldown_ms, rule.when.over_ms)),
            ]
        for then_ms, wait_ms in waits:
            if then_ms is not None and now_ms - then_ms < wait_ms:
                return (
                    f"it was scaled {_ago(now_ms, then_ms)}, the wait is {format_duration(wait_ms)}"
                )
    return None


def _retry(candidate: Candidate, situation: Situation) -> str | None:
    then_ms = candidate.state.lane(candidate.lane).failed_ms
    if then_ms is not None and situation.now_ms - then_ms < situation.limits.retry_ms:
        return f"the last attempt failed {_ago(situation.now_ms, then_ms)}"
    return None


def _breaker(candidate: Candidate, situation: Situation) -> str | None:
    if candidate.max_mode is Mode.LIVE and not situation.breaker.admits:
        return f"the breaker around Docker is {situation.breaker.circuit}"
    return None


def _lanes(candidate: Candidate) -> tuple[Lane, ...]:
    """A rule on trial respects real actions; a real one does not wait for a trial."""
    return (Lane.RULES,) if candidate.lane is Lane.RULES else (Lane.RULES, Lane.TRIAL)


GUARDS: tuple[Guard, ...] = (
    Guard("own", _own, escalations_too=True),
    Guard("off", _off, escalations_too=True),
    Guard("mode", _mode),
    Guard("rollout", _rollout),
    Guard("deploy", _deploy),
    Guard("stack-deploy", _stack),
    Guard("operator", _operator),
    Guard("stale-inventory", _inventory),
    Guard("in-flight", _flight),
    Guard("cooldown", _cooldown),
    Guard("retry", _retry),
    Guard("breaker", _breaker),
)


def objection(candidate: Candidate, situation: Situation) -> tuple[str, str] | None:
    """The first guard that objects, and its words."""
    escalation = candidate.action is ActionKind.ESCALATE
    for guard in GUARDS:
        if escalation and not guard.escalations_too:
            continue
        words = guard.objects(candidate, situation)
        if words is not None:
            return guard.name, words
    return None
