"""The process dies, or loses its office, at every single step; and then everything holds.

The number of steps is counted, not assumed: the k-th point is tried for k = 0, 1, ... until a run
passes without reaching it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from autoheal.actions import ACTIONS
from autoheal.model import LABEL_DECISION, OWN_LABELS, ActionKind, Decision, Mode, OutcomeKind
from executor.fakes import (
    CHANGES,
    SERVICE,
    Commit,
    Crash,
    Fault,
    Loss,
    World,
    a_decision,
    a_decision_to,
    replicas,
    rich_spec,
    set_replicas,
)

TAKEOVER_S = 16
# Long enough to attempt, to settle twice and to have nothing more to do.
LIFE_S = 8
POINTS_MAX = 1000
FINAL_TRUTH = {True: {OutcomeKind.APPLIED}, False: {OutcomeKind.NOT_APPLIED, OutcomeKind.REFUSED}}

POST_FAULTS: list[Sequence[Fault | None]] = [
    [],
    *([fault] for fault in Fault),
    [Fault.NO_LEADER_LOST, Fault.LOST_REPLY],
    [Fault.NO_LEADER_LATER, Fault.NO_LEADER_LATER],
    [Fault.LOST_REQUEST, Fault.DECLINED],
]


def assert_invariants(world: World, *decisions: Decision) -> None:
    """At most once applied; one intent per mutation, before it; one final outcome, the true one."""
    intents = Counter(intent.decision for intent in world.store.intents())
    audited = [body["decision"] for kind, body in world.audit.lines if kind == "intent"]
    for decision in decisions:
        applied = sum(
            after["Labels"].get(LABEL_DECISION) == decision.id
            for after in (commit.after for commit in world.acts)
        )
        assert applied <= 1
        assert intents[decision.id] <= 1
        posts = [post for post in world.swarm.posts if decision.id in post[2]["Labels"].values()]
        if posts:
            assert intents[decision.id] == 1
            assert decision.id in audited
        outcome = world.the_outcome_of(decision)
        assert outcome.kind in FINAL_TRUTH[bool(applied)], outcome
    assert len(world.acts) <= len(decisions)
    kinds = {decision.id: decision.action for decision in decisions}
    for commit in world.swarm.commits:
        assert differs_only_in_what_is_ours(commit)
        if commit.moved:
            leaf = ACTIONS[kinds[commit.after["Labels"][LABEL_DECISION]]].leaf
            assert leaf is not None
            assert commit.moved == [leaf.path]


def differs_only_in_what_is_ours(commit: Commit) -> bool:
    """Whether it changed one leaf at most, the one of its decision, and labels of ours."""
    return len(commit.moved) <= 1 and _others(commit.before) == _others(commit.after)


def _others(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what autoheal may change."""
    others = copy.deepcopy(spec)
    others["Labels"] = {n: text for n, text in spec["Labels"].items() if not is_ours(n)}
    del others["Mode"]["Replicated"]["Replicas"]
    del others["TaskTemplate"]["ForceUpdate"]
    del others["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"]
    return others


def is_ours(label: str) -> bool:
    return label.startswith(OWN_LABELS)


def crashed_at(world: World, number: int, seconds: int = LIFE_S) -> bool:
    """Run an executor that dies at a point; whether it got that far."""
    world.steps.at(number)
    executor = world.executor()
    try:
        world.run(executor, seconds)
        executor.stop()
    except Crash:
        return True
    world.steps.never()
    return False


def every_point(arrange: Callable[[], World], seconds: int = LIFE_S) -> Iterator[tuple[int, World]]:
    """A fresh world per point, in which the first executor died there."""
    for number in count():
        world = arrange()
        if not crashed_at(world, number, seconds):
            assert number > 20, "the exploration explored nothing"
            return
        assert number < POINTS_MAX
        yield number, world


def arranged(faults: Sequence[Fault | None], losses: Sequence[Loss | None] = ()) -> World:
    world = World()
    world.swarm.faults = list(faults)
    world.store.losses = list(losses)
    return world


@pytest.mark.parametrize("after_s", [0.0, 300.0], ids=["at once", "when all has expired"])
@pytest.mark.parametrize("faults", POST_FAULTS, ids=lambda faults: "+".join(f.name for f in faults))
@pytest.mark.parametrize("action", CHANGES)
def test_death_at_every_step(
    action: ActionKind, faults: Sequence[Fault | None], after_s: float
) -> None:
    decision = a_decision_to(action)

    def arrange() -> World:
        world = arranged(faults)
        world.decide(decision)
        return world

    for _, world in every_point(arrange):
        world.clock.advance(TAKEOVER_S + after_s)
        world.run(world.executor(), LIFE_S)
        world.swarm.thaw()
        assert_invariants(world, decision)


@pytest.mark.parametrize("losses", [[Loss.REQUEST], [Loss.REPLY], [None, Loss.REPLY, Loss.REQUEST]])
@pytest.mark.parametrize("fault", [None, Fault.LOST_REPLY, Fault.NO_LEADER_LOST])
def test_death_at_every_step_while_the_store_loses_requests_and_replies(
    fault: Fault | None, losses: Sequence[Loss | None]
) -> None:
    decision = a_decision()

    def arrange() -> World:
        world = arranged([fault], losses)
        world.decide(decision)
        return world

    for _, world in every_point(arrange):
        world.clock.advance(TAKEOVER_S)
        world.run(world.executor(), LIFE_S)
        assert_invariants(world, decision)


@pytest.mark.parametrize("fault", [None, Fault.LOST_REPLY, Fault.NO_LEADER_LOST])
def test_death_at_every_step_and_again_at_every_step_of_the_successor(fault: Fault | None) -> None:
    decision = a_decision()

    def arrange() -> World:
        world = arranged([fault])
        world.decide(decision)
        return world

    for first, _ in every_point(arrange, 4):
        for second in count():
            world = arrange()
            assert crashed_at(world, first, 4)
            world.clock.advance(TAKEOVER_S)
            is_over = not crashed_at(world, second, 4)
            world.clock.advance(TAKEOVER_S)
            world.run(world.executor(), 6)
            assert_invariants(world, decision)
            if is_over:
                break


def test_death_at_every_step_with_two_decisions_each_delivered_twice() -> None:
    decisions = a_decision(), a_decision_to(ActionKind.RESTART, service="other")

    def arrange() -> World:
        world = arranged([Fault.NO_LEADER_APPLIED])
        world.swarm.create("other", rich_spec())
        for decision in (*decisions, *decisions):
            world.decide(decision)
        return world

    for _, world in every_point(arrange):
        world.clock.advance(TAKEOVER_S)
        world.decide(decisions[0])
        world.run(world.executor(), LIFE_S)
        assert_invariants(world, *decisions)
        assert len(world.acts) == 2


@pytest.mark.parametrize("fault", [None, Fault.LOST_REPLY, Fault.NO_LEADER_LOST])
def test_an_operator_between_two_lives_wins(fault: Fault | None) -> None:
    decision = a_decision()

    def arrange() -> World:
        world = arranged([fault])
        world.decide(decision)
        return world

    for _, world in every_point(arrange):
        acted = len(world.acts)
        world.swarm.edit(SERVICE, set_replicas(7))
        world.clock.advance(TAKEOVER_S)
        world.run(world.executor(), LIFE_S)
        assert_invariants(world, decision)
        assert len(world.acts) == acted
        assert replicas(world.spec) == 7


@pytest.mark.parametrize("faults", POST_FAULTS, ids=lambda faults: "+".join(f.name for f in faults))
def test_death_at_every_step_and_dry_run_from_then_on(faults: Sequence[Fault | None]) -> None:
    decision = a_decision()

    def arrange() -> World:
        world = arranged(faults)
        world.decide(decision)
        return world

    for _, world in every_point(arrange):
        posts = len(world.swarm.posts)
        world.clock.advance(TAKEOVER_S)
        world.run(world.executor(Mode.DRY_RUN), 10)
        assert len(world.swarm.posts) == posts
        world.swarm.thaw()
        kinds = [outcome.kind for outcome in world.final_outcomes_of(decision)]
        assert len(kinds) <= 1
        if OutcomeKind.WOULD_APPLY in kinds:
            assert world.acts == []


def overtaken_at(
    number: int, decision: Decision, faults: Sequence[Fault | None]
) -> tuple[World, str] | None:
    """An executor stands still at a point while another takes over; then it goes on."""
    world = arranged(faults)
    world.decide(decision)
    first, second = world.executor(), world.executor()
    stood: list[str] = []

    def overtake() -> None:
        stood.append(world.steps.passed[-1])
        world.clock.advance(TAKEOVER_S)
        world.run(second, LIFE_S)

    world.steps.at(number, overtake)
    world.run(first, LIFE_S)
    if not stood:
        return None
    world.run(second, LIFE_S)
    world.clock.advance(TAKEOVER_S)
    world.run(first, LIFE_S)
    return world, stood[0]


@pytest.mark.parametrize("faults", POST_FAULTS, ids=lambda faults: "+".join(f.name for f in faults))
@pytest.mark.parametrize("action", CHANGES)
def test_two_executors_interleaved_at_every_step(
    action: ActionKind, faults: Sequence[Fault | None]
) -> None:
    decision = a_decision_to(action)
    for number in count():
        overtaken = overtaken_at(number, decision, faults)
        if overtaken is None:
            assert number > 20
            return
        world, _ = overtaken
        assert_invariants(world, decision)


def test_the_exploration_reaches_every_kind_of_step() -> None:
    world = World()
    world.decide(a_decision())
    with suppress(Crash):
        world.run(world.executor(), 3)
    names = {name.partition(" ")[2] for name in world.steps.passed}
    assert names >= {
        "acquire",
        "renew",
        "cut",
        "now_ms",
        "epoch",
        "append intents",
        "append outcomes",
        "audit decision",
        "audit intent",
        "audit outcome",
        "GET",
        "POST",
    }
