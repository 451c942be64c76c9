"""Any order of faults, deaths, hand-overs, deploys and repetitions: the same invariants."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.actions import ACTIONS
from autoheal.executor import Executor
from autoheal.model import ActionKind, Decision, Mode
from executor.fakes import (
    CHANGES,
    SERVICE,
    Crash,
    Fault,
    Loss,
    World,
    a_decision,
    rich_spec,
    set_replicas,
)
from executor.test_crashes import assert_invariants, differs_only_in_what_is_ours

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=8,
)

TICK = st.tuples(st.just("tick"), st.integers(0, 1))
WAIT = st.tuples(st.just("wait"), st.sampled_from([0.001, 0.5, 2.0, 7.0, 16.0, 61.0]))
STEPS = st.one_of(
    TICK,
    WAIT,
    st.tuples(st.just("turn"), st.tuples(st.integers(0, 1), st.sampled_from(list(CHANGES)))),
    st.tuples(st.just("decide"), st.sampled_from(list(CHANGES))),
    st.tuples(st.just("repeat"), st.integers(0, 3)),
    st.tuples(st.just("die"), st.integers(0, 40)),
    st.tuples(st.just("replace"), st.tuples(st.integers(0, 1), st.sampled_from(list(Mode)))),
    st.tuples(st.just("stop"), st.integers(0, 1)),
    st.tuples(st.just("fault"), st.sampled_from(list(Fault))),
    st.tuples(st.just("loss"), st.sampled_from(list(Loss))),
    st.tuples(st.just("operator"), st.integers(1, 9)),
    st.tuples(st.just("thaw"), st.none()),
    st.tuples(st.just("engine"), st.none()),
)


class Scene:
    """Two executors in a world in which things happen."""

    def __init__(self, extra: dict[str, Any]) -> None:
        self.world = World()
        spec = rich_spec()
        spec["TaskTemplate"]["ContainerSpec"].update(extra)
        self.world.swarm.create(SERVICE, spec)
        self.decisions: list[Decision] = []
        self.executors: list[Executor] = [self.world.executor(), self.world.executor()]

    def do(self, name: str, what: Any) -> None:  # noqa: ANN401  # each step has its own
        getattr(self, name)(what)

    def decide(self, action: ActionKind) -> None:
        leaf = ACTIONS[action].leaf
        assert leaf is not None
        start = leaf.read(self.world.spec)
        assert start is not None
        usual_start, usual_target = CHANGES[action]
        decision = a_decision(
            action=action,
            start=start,
            target=start + usual_target - usual_start,
            version=self.world.index,
            epoch=self.world.store.epochs["engine"],
            decided_at_ms=self.world.clock.ms,
            expires_at_ms=self.world.clock.ms + 60_000,
        )
        self.decisions.append(self.world.decide(decision))

    def repeat(self, back: int) -> None:
        if back < len(self.decisions):
            self.world.decide(self.decisions[-1 - back])

    def tick(self, which: int) -> None:
        try:
            self.executors[which].tick()
        except Crash:
            self.replace((which, Mode.LIVE))
        except OSError:
            pass

    def turn(self, what: tuple[int, ActionKind]) -> None:
        """Something is decided, and an executor has the time to see it."""
        which, action = what
        self.decide(action)
        for _ in range(3):
            self.tick(which)
            self.wait(0.5)

    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    def die(self, number: int) -> None:
        self.world.steps.at(number)

    def replace(self, which: tuple[int, Mode]) -> None:
        number, mode = which
        self.executors[number] = self.world.executor(mode)

    def stop(self, which: int) -> None:
        self.world.steps.never()
        self.executors[which].stop()

    def fault(self, fault: Fault) -> None:
        self.world.swarm.faults.append(fault)

    def loss(self, loss: Loss) -> None:
        self.world.store.losses.append(loss)

    def operator(self, count: int) -> None:
        self.world.swarm.edit(SERVICE, set_replicas(count))

    def thaw(self, _: None) -> None:
        self.world.swarm.thaw()

    def engine(self, _: None) -> None:
        self.world.store.epochs["engine"] += 1

    def settle(self) -> None:
        """Trouble ends; a live executor has the time it needs."""
        self.world.steps.never()
        self.world.store.losses.clear()
        self.world.swarm.faults.clear()
        self.world.clock.advance(16)
        self.world.run(self.world.executor(), 10)
        self.world.swarm.thaw()


@settings(max_examples=200, deadline=None)
@given(
    extra=st.dictionaries(st.text(min_size=1, max_size=5), JSON, max_size=3),
    steps=st.lists(STEPS, min_size=5, max_size=60),
)
def test_whatever_happens_the_invariants_hold(
    extra: dict[str, Any], steps: list[tuple[str, Any]]
) -> None:
    scene = Scene(extra)
    for name, what in steps:
        scene.do(name, what)
        assert all(map(differs_only_in_what_is_ours, scene.world.swarm.commits))
    scene.settle()
    genuine = {decision.id: decision for decision in scene.decisions}
    dry = {o.decision for o in scene.world.store.outcomes() if o.kind == "WOULD_APPLY"}
    assert_invariants(scene.world, *(d for d in genuine.values() if d.id not in dry))
    for decision in (genuine[name] for name in dry):
        assert len(scene.world.final_outcomes_of(decision)) == 1
        assert not any(decision.id in p[2]["Labels"].values() for p in scene.world.swarm.posts)
