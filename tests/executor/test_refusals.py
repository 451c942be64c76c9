"""Every reason to refuse a decision, one row each."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from autoheal.actions import ACTIONS
from autoheal.executor import OF_SERVICE, ON_PAPER
from autoheal.model import ActionKind, Decision, Mode, OutcomeKind
from autoheal.units import MIB
from executor.fakes import (
    CHANGES,
    SERVICE,
    START_MS,
    VERSION,
    World,
    a_decision,
    a_decision_to,
    rich_spec,
)

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


def _without_limits() -> dict[str, Any]:
    spec = rich_spec()
    spec["TaskTemplate"]["Resources"] = {}
    return spec


def _having(action: ActionKind, start: int) -> dict[str, Any]:
    """A service that the decision would have been made on."""
    leaf = ACTIONS[action].leaf
    assert leaf is not None
    return leaf.write(rich_spec(), start)


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
    *(
        Refusal("_not_replicated", "not a replicated service", a_decision_to(action), spec=spec)
        for action in CHANGES
        for spec in (_of_mode({"Global": {}}), _of_mode({"GlobalJob": {}}))
    ),
    Refusal(
        "_switched_off",
        "replicas 0 means off: hands off",
        decision=a_decision(start=0, target=1),
        spec=rich_spec(0),
    ),
    *(
        Refusal(
            "_switched_off",
            "replicas 0 means off: hands off",
            a_decision_to(action),
            spec=rich_spec(0),
        )
        for action in CHANGES
    ),
    Refusal("_elsewhere", "decided from 2, the service has 4", spec=rich_spec(4)),
    Refusal(
        "_elsewhere",
        "decided from ForceUpdate 3, the service has ForceUpdate 4",
        decision=a_decision(action=ActionKind.RESTART, start=3, target=4),
    ),
    Refusal(
        "_elsewhere",
        "decided from 32MiB, the service has 64MiB",
        decision=a_decision(action=ActionKind.RAISE_MEMORY, start=32 * MIB, target=132 * MIB),
    ),
    Refusal(
        "_elsewhere",
        "decided from 64MiB, the service has none",
        a_decision_to(ActionKind.RAISE_MEMORY),
        spec=_without_limits(),
    ),
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
    *(
        Refusal(
            "_out_of_range",
            words,
            decision=a_decision(action=action, start=start, target=target),
            spec=_having(action, start),
        )
        for action, start, target, words in (
            (ActionKind.SCALE_UP, 2, 2, "the target 2 is no more than 2"),
            (ActionKind.SCALE_UP, 2, 1, "the target 1 is no more than 2"),
            (ActionKind.SCALE_DOWN, 2, 2, "the target 2 is no fewer than 2"),
            (ActionKind.SCALE_DOWN, 2, 3, "the target 3 is no fewer than 2"),
            (ActionKind.RESTART, 4, 4, "ForceUpdate 4 is not one restart further"),
            (ActionKind.RESTART, 4, 6, "ForceUpdate 6 is not one restart further"),
            (ActionKind.RESTART, 4, 3, "ForceUpdate 3 is not one restart further"),
            (ActionKind.RAISE_MEMORY, 64 * MIB, 64 * MIB, "64MiB is no more than 64MiB"),
            (ActionKind.RAISE_MEMORY, 64 * MIB, 32 * MIB, "32MiB is no more than 64MiB"),
            (ActionKind.RAISE_MEMORY, MIB, 3 * MIB, "3MiB is below Docker's minimum of 4MiB"),
        )
    ),
    *(
        Refusal(
            "_mislabelled",
            "its labels are in doubt: " + words,
            a_decision_to(action),
            spec=rich_spec(labels=labels),
        )
        for action in CHANGES
        for labels, words in (
            (
                {"autoheal.enable": "1"},
                'autoheal.enable "1" is neither true nor false',
            ),
            (
                {"autoheal.dry-run": "yes", "autoheal.dryrun": "true"},
                (
                    'there is no label "autoheal.dryrun"; '
                    'autoheal.dry-run "yes" is neither true nor false'
                ),
            ),
        )
    ),
    Refusal(
        "_outside_labels",
        "the target 3 is above the label autoheal.max, 2",
        spec=rich_spec(labels={"autoheal.max": "2"}),
    ),
    Refusal(
        "_outside_labels",
        "the target 3 is below the label autoheal.min, 4",
        spec=rich_spec(labels={"autoheal.min": "4"}),
    ),
    Refusal(
        "_outside_labels",
        "the target 1 is below the label autoheal.min, 2",
        a_decision_to(ActionKind.SCALE_DOWN),
        spec=rich_spec(labels={"autoheal.min": "2"}),
    ),
    Refusal(
        "_outside_labels",
        "the target 2 is above the label autoheal.max, 1",
        decision=a_decision(action=ActionKind.SCALE_DOWN, start=3, target=2),
        spec=rich_spec(3, {"autoheal.max": "1"}),
    ),
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
