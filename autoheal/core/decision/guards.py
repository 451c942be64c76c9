"""What holds an action back: a list, read top-down; the first that objects is the reason.

Each guard looks at one candidate in its situation and answers with words, or None. Escalations
touch no service; only the guards that say so look at them.

A lasting objection leads to the rule's `otherwise` and may wake a person, so whatever may pass or
help by itself stands above it: during a deploy nobody is paged because an image is unpinned. Below
it stand the waits of our own making, which matter only to an action that may be done at all: a
spent budget never keeps the page for a spent limit back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoheal.actions import Plan, Track
from autoheal.core.breaker import Breaker
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import Risk, Rule
from autoheal.core.state import Lane, LaneState, ServiceState
from autoheal.core.view.node_window import NodeLoad
from autoheal.core.view.placement import could_take, is_saturated
from autoheal.labels import Terms
from autoheal.model import (
    LABEL_ROLE,
    UPDATE_AT_REST,
    ActionKind,
    Evidence,
    Mode,
    Node,
    Service,
    ServiceMode,
)
from autoheal.units import format_duration

NO_RESTART = "none"
START_FIRST = "start-first"
NODES_NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rule that wants this `action` done to one service, and the figures that it rests on."""

    service: Service
    state: ServiceState
    rule: Rule
    action: ActionKind
    plan: Plan
    lane: Lane
    max_mode: Mode
    evidence: tuple[Evidence, ...]
    terms: Terms
    is_healthy: bool


@dataclass(frozen=True, slots=True)
class Situation:
    """What guards know beside the candidate. `stack_deployed_ms` is the newest deploy per stack.

    `nodes_changed_ms` is when a node last came or went, `outage_ms` since when there is an outage;
    `spent` holds the times of the last hour's actions per max_mode.
    """

    now_ms: int
    limits: Limits
    inventory_at_ms: int
    stack_deployed_ms: Mapping[str, int]
    breaker: Breaker
    nodes: tuple[Node, ...]
    loads: Mapping[str, NodeLoad]
    nodes_changed_ms: int | None
    outage_ms: int | None
    spent: Mapping[Mode, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Guard:
    """A name for metrics and state, and the question.

    `lasting` says that waiting will not change the answer: then the rule's `otherwise` is due. A
    rule that takes the `risk` is not asked. `own_wait` marks what only delays an action of ours: it
    keeps nobody from being told that the action could not be.
    """

    name: str
    objects: Callable[[Candidate, Situation], str | None]
    escalations_too: bool = False
    lasting: bool = False
    risk: Risk | None = None
    own_wait: bool = False


@dataclass(frozen=True, slots=True)
class Objection:
    """The guard that holds a candidate back, and why, in words."""

    guard: Guard
    words: str


def _own(candidate: Candidate, _: Situation) -> str | None:
    if LABEL_ROLE in candidate.service.labels:
        return "it is a part of autoheal itself"
    return None


def _off(candidate: Candidate, _: Situation) -> str | None:
    return "0 replicas means switched off" if candidate.service.replicas == 0 else None


def _inventory(_: Candidate, situation: Situation) -> str | None:
    if situation.now_ms - situation.inventory_at_ms >= situation.limits.inventory_stale_ms:
        return f"the last inventory came {_ago(situation.now_ms, situation.inventory_at_ms)}"
    return None


def _group_wait(candidate: Candidate, situation: Situation) -> str | None:
    """Rules that heal watch from their first TRUE, as Alertmanager's group_wait does."""
    rule, limits = candidate.rule, situation.limits
    if not rule.then.heals:
        return None
    watched = candidate.state.rules.get(rule.name)
    since_ms = situation.now_ms if watched is None else watched.active_ms
    left_ms = since_ms + limits.group_wait_ms - situation.now_ms
    return f"watched for a common cause, {_whole_seconds(left_ms)} more" if left_ms > 0 else None


def _outage(_: Candidate, situation: Situation) -> str | None:
    if situation.outage_ms is None:
        return None
    ago = _ago(situation.now_ms, situation.outage_ms)
    return f"an outage began {ago}: too many services are sick at once"


def _flight(candidate: Candidate, _: Situation) -> str | None:
    for lane in _lanes(candidate):
        flight = candidate.state.lane(lane).flight
        if flight is not None:
            return f"the {flight.action} of rule {flight.rule} is {flight.phase} and not settled"
    return None


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


def _node(_: Candidate, situation: Situation) -> str | None:
    then_ms = situation.nodes_changed_ms
    if then_ms is not None and situation.now_ms - then_ms < situation.limits.node_hold_ms:
        return f"a node came or went {_ago(situation.now_ms, then_ms)}"
    return None


def _judging(candidate: Candidate, situation: Situation) -> str | None:
    trial = candidate.state.trials.get(candidate.rule.name)
    if trial is None:
        return None
    left = _whole_seconds(trial.until_ms - situation.now_ms)
    return f"whether its last {trial.action} helped is known in {left}"


def _cooldown(candidate: Candidate, situation: Situation) -> str | None:
    done = "its tasks were replaced" if candidate.rule.then.rolls else "it was scaled"
    for lane in _lanes(candidate):
        for then_ms, wait_ms in _waits(candidate, candidate.state.lane(lane)):
            if then_ms is not None and situation.now_ms - then_ms < wait_ms:
                ago = _ago(situation.now_ms, then_ms)
                return f"{done} {ago}, the wait is {format_duration(wait_ms)}"
    return None


def _waits(candidate: Candidate, lane: LaneState) -> tuple[tuple[int | None, int], ...]:
    """Which earlier actions are waited for, and how long.

    What replaces tasks waits for anything that did; up for up; down for both, and for its whole
    window after an up: that of its condition, or of a tracking rule that in which it stabilizes.
    """
    rule = candidate.rule
    if rule.then.rolls:
        return ((lane.rolled_ms, rule.cooldown_ms),)
    if candidate.action is ActionKind.SCALE_DOWN:
        after_up_ms = max(rule.cooldown_ms, rule.window_ms, _stabilization_ms(rule))
        return (lane.down_ms, rule.cooldown_ms), (lane.up_ms, after_up_ms)
    return ((lane.up_ms, rule.cooldown_ms),)


def _stabilization_ms(rule: Rule) -> int:
    """How long a tracking rule looks back before it scales down; 0 for others."""
    return rule.then.down.stabilization_ms if isinstance(rule.then, Track) else 0


def _labels(candidate: Candidate, _: Situation) -> str | None:
    mistakes = candidate.terms.mistakes
    return f"its labels cannot be read: {mistakes[0]}" if mistakes else None


def _mode(candidate: Candidate, _: Situation) -> str | None:
    mode = candidate.service.mode
    if mode is ServiceMode.REPLICATED:
        return None
    return f"it is a {mode} service, and only replicated ones are acted on"


def _no_restart(candidate: Candidate, _: Situation) -> str | None:
    if candidate.service.restart_condition == NO_RESTART:
        return "its restart condition is none, as for jobs: nobody wants it run again unasked"
    return None


def _volume(candidate: Candidate, _: Situation) -> str | None:
    service = candidate.service
    only_one = service.replicas == 1 and service.stateful
    return "its only replica writes to a volume" if only_one else None


def _unpinned(candidate: Candidate, _: Situation) -> str | None:
    if candidate.rule.then.rolls and not candidate.service.pinned:
        return "its image has no digest, so new tasks may run other code"
    return None


def _single(candidate: Candidate, _: Situation) -> str | None:
    service = candidate.service
    stops_first = service.replicas == 1 and service.update_order != START_FIRST
    if candidate.rule.then.rolls and stops_first and candidate.is_healthy:
        return "its only task is healthy and would be stopped before the next one starts"
    return None


def _quarantine(candidate: Candidate, situation: Situation) -> str | None:
    rule, service = candidate.rule.name, candidate.service.name
    since_ms = candidate.state.quarantined.get(rule)
    if since_ms is None:
        return None
    ago = _ago(situation.now_ms, since_ms)
    return f"seen {ago} not to help; not tried again before 'autoheal reset {service} {rule}'"


def _limit(candidate: Candidate, situation: Situation) -> str | None:
    limit = candidate.rule.limit
    if limit is None:
        return None
    name = candidate.rule.name
    forgiven_ms = candidate.state.forgiven.get(name, 0)
    acted = [ms for ms in candidate.state.acted.get(name, ()) if ms > forgiven_ms]
    if _count(acted, situation.now_ms, limit.per_ms) < limit.times:
        return None
    return f"the limit of the rule is spent: {limit.times} in {format_duration(limit.per_ms)}"


def _saturated(candidate: Candidate, situation: Situation) -> str | None:
    if candidate.action is not ActionKind.SCALE_UP:
        return None
    constraints = candidate.service.constraints
    full = []
    for node in situation.nodes:
        if could_take(node, constraints):
            load = situation.loads.get(node.id)
            saturated = is_saturated(load, situation.limits.saturated_percent)
            if saturated is False:
                return None
            full.append(f"{node.hostname} is {'saturated' if saturated else 'not measured'}")
    if not full:
        return "no node could take another task"
    return f"no node is known to have room for another task: {_shortened(full)}"


def _shortened(phrases: Sequence[str]) -> str:
    """The first few phrases, and how many there are beside them."""
    more = len(phrases) - NODES_NAMED_MAX
    shown = ", ".join(phrases[:NODES_NAMED_MAX])
    return f"{shown} and {more} more" if more > 0 else shown


def _retry(candidate: Candidate, situation: Situation) -> str | None:
    then_ms = candidate.state.lane(candidate.lane).failed_ms
    if then_ms is not None and situation.now_ms - then_ms < situation.limits.retry_ms:
        return f"the last attempt failed {_ago(situation.now_ms, then_ms)}"
    return None


def _budget(candidate: Candidate, situation: Situation) -> str | None:
    spent = _count(situation.spent.get(candidate.max_mode, ()), situation.now_ms, HOUR_MS)
    allowed = situation.limits.actions_per_hour
    if spent < allowed:
        return None
    return f"{spent} actions were taken in the last hour, and {allowed} are allowed"


def _breaker(candidate: Candidate, situation: Situation) -> str | None:
    if candidate.max_mode is Mode.LIVE and not situation.breaker.admits:
        return f"the breaker around Docker is {situation.breaker.circuit}"
    return None


# what several of them need


def _ago(now_ms: int, then_ms: int) -> str:
    return f"{_whole_seconds(now_ms - then_ms)} ago"


def _whole_seconds(ms: int) -> str:
    return format_duration(max(0, ms) // 1000 * 1000)


def _count(times: Sequence[int], now_ms: int, over_ms: int) -> int:
    """How many of the times lie less than `over_ms` back."""
    return sum(now_ms - then_ms < over_ms for then_ms in times)


def _lanes(candidate: Candidate) -> tuple[Lane, ...]:
    """A rule on trial respects real actions; a real one does not wait for a trial."""
    return (Lane.RULES,) if candidate.lane is Lane.RULES else (Lane.RULES, Lane.TRIAL)


GUARDS: tuple[Guard, ...] = (
    # Never touched, and nobody is paged for it.
    Guard("own", _own, escalations_too=True),
    Guard("off", _off, escalations_too=True),
    # A common cause shows before its first consequence is treated, or told, alone.
    Guard("group-wait", _group_wait, escalations_too=True),
    # What may pass or help by itself.
    Guard("stale-inventory", _inventory),
    Guard("outage", _outage),
    Guard("in-flight", _flight),
    Guard("rollout", _rollout),
    Guard("deploy", _deploy),
    Guard("stack-deploy", _stack),
    Guard("operator", _operator),
    Guard("node", _node),
    Guard("judging", _judging),
    Guard("cooldown", _cooldown),
    # What a person has to change.
    Guard("labels", _labels, lasting=True),
    Guard("mode", _mode, lasting=True),
    Guard("no-restart", _no_restart, lasting=True, risk=Risk.NO_RESTART),
    Guard("volume", _volume, lasting=True, risk=Risk.VOLUME),
    Guard("unpinned", _unpinned, lasting=True, risk=Risk.UNPINNED),
    Guard("single", _single, lasting=True, risk=Risk.SINGLE),
    Guard("quarantine", _quarantine, lasting=True),
    Guard("limit", _limit, lasting=True),
    # Our own waits.
    Guard("saturated", _saturated, own_wait=True),
    Guard("retry", _retry, own_wait=True),
    Guard("budget", _budget, own_wait=True),
    Guard("breaker", _breaker, own_wait=True),
)


def objection(candidate: Candidate, situation: Situation) -> Objection | None:
    """What the first guard that objects says; None if the candidate is free."""
    escalation = candidate.action is ActionKind.ESCALATE
    for guard in GUARDS:
        if escalation and not guard.escalations_too:
            continue
        if guard.risk is not None and guard.risk in candidate.rule.allow_risk:
            continue
        words = guard.objects(candidate, situation)
        if words is not None:
            return Objection(guard, words)
    return None
