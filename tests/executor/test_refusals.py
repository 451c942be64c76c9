"""Every reason to refuse a decision, one row each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from autoheal.executor import OF_SERVICE, ON_PAPER
from autoheal.model import ActionKind, Decision, Mode, OutcomeKind
from executor.fakes import SERVICE, START_MS, VERSION, World, a_decision, rich_spec

SOUND = a_decision()


@dataclass(frozen=True)
class Refusal:
    """What is wrong, and the words for it. `stale` where somebody else's change is the reason."""

    check: str
    reason: str
    decision: Decision = SOUND
    key: bytes = b"k" * 32
    epoch: int = 1
    late_s: float = 0.0
    spec: dict[str, Any] | None = None
    index: int = VERSION
    update: str | None = None
    stale: bool = False


def _of_mode(mode: dict[str, Any]) -> dict[str, Any]:
    return {**rich_spec(), "Mode": mode}


GONE: dict[str, Any] = {}

REFUSALS = [
    Refusal("_unsigned", "the signature does not hold", key=b"another key"),
    Refusal("_of_another_epoch", "decided in epoch 1, the engine is in epoch 2", epoch=2),
    Refusal(
        "_of_another_epoch",
        "decided in epoch 9, the engine is in epoch 1",
        decision=a_decision(epoch=9),
    ),
    Refusal("_expired", "expired 1 ms ago", decision=a_decision(expires_at_ms=START_MS)),
    Refusal("_expired", "expired 0 ms ago", decision=a_decision(expires_at_ms=START_MS + 1)),
    Refusal("service", "the service does not exist", spec=GONE, stale=True),
    Refusal(
        "_stale",
        f"stale: decided on version {VERSION}, the service is at {VERSION + 3}",
        index=VERSION + 3,
        stale=True,
    ),
    Refusal(
        "_stale",
        f"stale: decided on version {VERSION}, the service is at {VERSION - 3}",
        index=VERSION - 3,
        stale=True,
    ),
    Refusal("_not_replicated", "not a replicated service", spec=_of_mode({"Global": {}})),
    Refusal(
        "_not_replicated",
        "not a replicated service",
        spec=_of_mode({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}),
    ),
    Refusal("_not_replicated", "not a replicated service", spec=_of_mode({"GlobalJob": {}})),
    Refusal(
        "_switched_off",
        "replicas 0 means off: hands off",
        decision=a_decision(start=0, target=1),
        spec=rich_spec(0),
    ),
    Refusal("_switched_off", "replicas 0 means off: hands off", spec=rich_spec(0)),
    Refusal("_elsewhere", "decided from 2, the service has 4", spec=rich_spec(4)),
    *(
        Refusal("_updating", f"an update of the service is in state {state}", update=state)
        for state in ("updating", "paused", "rollback_started", "rollback_paused", "unheard-of")
    ),
    Refusal(
        "_out_of_range",
        "the target 0 is below 1",
        decision=a_decision(action=ActionKind.SCALE_DOWN, target=0),
    ),
    Refusal("_out_of_range", "the target -1 is below 1", decision=a_decision(target=-1)),
    Refusal(
        "_part_of_autoheal",
        "a part of autoheal itself",
        spec=rich_spec(labels={"autoheal.role": "engine"}),
    ),
]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.check}: {row.reason}")
def test_a_decision_is_refused(world: World, row: Refusal, mode: Mode) -> None:
    _arrange(world, row)
    services = copy.deepcopy(world.swarm.services)
    decision = world.decide(row.decision, row.key)
    executor = world.executor(mode)
    executor.tick()
    world.run(executor)
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.mode is mode
    assert outcome.stale is row.stale
    if row.check != "_expired":
        assert outcome.reason == row.reason
    assert world.swarm.services == services
    assert world.store.intents() == []


def _arrange(world: World, row: Refusal) -> None:
    world.store.epochs["engine"] = row.epoch
    world.swarm.services.clear()
    if row.spec is not GONE:
        world.swarm.create(SERVICE, row.spec or rich_spec(), row.index)
    if row.update is not None:
        world.swarm.services[SERVICE]["UpdateStatus"] = {"State": row.update}


def test_every_check_has_a_row() -> None:
    checks = {check.__name__ for check in (*ON_PAPER, *OF_SERVICE)}
    assert checks == {row.check for row in REFUSALS} - {"service"}


@pytest.mark.parametrize("state", ["completed", "rollback_completed"])
def test_an_update_that_is_over_is_no_reason(world: World, state: str) -> None:
    world.swarm.services[SERVICE]["UpdateStatus"] = {"State": state}
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_an_empty_update_status_is_no_reason(world: World) -> None:
    world.swarm.services[SERVICE]["UpdateStatus"] = None
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_a_decision_holds_until_the_millisecond_of_its_expiry(world: World) -> None:
    world.clock.advance(0.001)
    executor = world.executor()
    executor.tick()
    now_ms = world.clock.ms
    in_time = world.decide(a_decision(expires_at_ms=now_ms + 2))
    executor.tick()
    assert world.the_outcome_of(in_time).kind is OutcomeKind.APPLIED


def test_a_decision_that_expires_between_intent_and_write_is_refused(world: World) -> None:
    decision = world.decide(a_decision())
    world.steps.once("after append intents", _pass(world, 61))
    world.run(world.executor(), 30)
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.reason.startswith("expired ")
    assert world.swarm.posts == []


def test_a_decision_whose_engine_is_replaced_during_the_intent_is_refused(world: World) -> None:
    decision = world.decide(a_decision())
    world.steps.once("after append intents", lambda: world.store.epochs.update(engine=2))
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.REFUSED
    assert world.swarm.posts == []


def _pass(world: World, seconds: float) -> Callable[[], None]:
    """Time passes, but the lease is kept by the store and by its holder."""

    def passing() -> None:
        world.clock.advance(seconds)
        for name, (holder, epoch, _) in world.store.leases.items():
            world.store.leases[name] = (holder, epoch, world.clock.ms + 15_000)

    return passing
