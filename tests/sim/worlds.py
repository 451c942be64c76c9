"""Worlds for the tests of the simulator itself."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoheal.sim.identity import OBJECT_ID_CHARACTERS
from autoheal.sim.machine import NodePlan
from autoheal.sim.objects import Service, Task, TaskState
from autoheal.sim.program import Program
from autoheal.sim.spec import service_spec
from autoheal.sim.world import QUANTUM_MS, THREE_NODES, World

Json = dict[str, Any]

START_MS = 1_767_603_600_000
SECOND = 1_000
NANO = 10**9
MIB = 2**20
# From a change to its first tasks that run, in quanta of a second.
SETTLED = 3 * SECOND
ONE_NODE = (NodePlan("only", "manager"),)


def world(
    *, seed: int = 1, nodes: Sequence[NodePlan] = THREE_NODES, quantum_ms: int = QUANTUM_MS
) -> World:
    """An empty one."""
    return World(seed=seed, start_ms=START_MS, nodes=nodes, quantum_ms=quantum_ms)


def running(
    there: World,
    name: str = "web",
    program: Program | None = None,
    **spec: Any,  # noqa: ANN401  # as service_spec takes it
) -> Service:
    """A service whose tasks run; `spec` as service_spec takes it."""
    service = there.create(service_spec(name, **spec), program or Program())
    there.advance(SETTLED + (spec.get("check_every_s") or 0) * SECOND)
    assert len(there.running(name)) == service.replicas, told(service)
    return service


def told(service: Service) -> list[str]:
    """All its tasks that are remembered, in a few words: slot, state, desired state."""
    tasks = sorted(service.tasks, key=lambda task: task.slot)
    return [f"{task.slot} {task.state.word}/{task.desired.word}" for task in tasks]


def ids(tasks: Sequence[Task]) -> set[str]:
    """Their ids."""
    return {task.id for task in tasks}


def newest(service: Service, slot: int = 1) -> Task:
    """The last task of a slot."""
    return [task for task in service.tasks if task.slot == slot][-1]


def container(task: Task) -> str:
    """The id of its container."""
    assert task.container is not None
    return task.container.id


def home(task: Task) -> str:
    """The hostname of its node."""
    assert task.machine is not None
    return task.machine.hostname


def spread(there: World, name: str = "web") -> Mapping[str, int]:
    """How many tasks run on each node that has any."""
    return Counter(home(task) for task in there.running(name))


def change(path: str, value: object) -> Callable[[Mapping[str, Any]], Json]:
    """A change of one leaf, at a path such as "TaskTemplate.ForceUpdate"."""

    def changed(spec: Mapping[str, Any]) -> Json:
        copied = copy.deepcopy(dict(spec))
        *parents, leaf = path.split(".")
        inner = copied
        for key in parents:
            inner = inner.setdefault(key, {})
        inner[leaf] = value
        return copied

    return changed


def force(count: int = 1) -> Callable[[Mapping[str, Any]], Json]:
    """All tasks anew."""
    return change("TaskTemplate.ForceUpdate", count)


def replicas(count: int) -> Callable[[Mapping[str, Any]], Json]:
    """So many replicas."""
    return change("Mode.Replicated.Replicas", count)


def update_state(service: Service) -> tuple[str, str]:
    """State and message of its last rollout; ids of tasks left out."""
    if service.update is None:
        return "", ""
    return service.update.state, re.sub(
        rf" [0-9a-z]{{{OBJECT_ID_CHARACTERS}}}$", "", service.update.message
    )


def advance_until(there: World, is_so: Callable[[], bool], limit_s: int = 120) -> None:
    """Quantum by quantum until it is so."""
    for _ in range(limit_s * SECOND // there.quantum_ms):
        if is_so():
            return
        there.advance(there.quantum_ms)
    raise AssertionError(f"not so after {limit_s} s")


def peak(there: World, name: str, seconds: int) -> tuple[int, int]:
    """The fewest and the most tasks that run in that time."""
    counts = []
    for _ in range(seconds * SECOND // there.quantum_ms):
        there.advance(there.quantum_ms)
        counts.append(sum(task.state is TaskState.RUNNING for task in there.service(name).tasks))
    return min(counts), max(counts)
