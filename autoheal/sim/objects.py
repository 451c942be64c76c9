"""What the managers of a simulated Swarm keep: services, tasks and nodes, each with its version.

The states of a task, and what follows from their order, are those of swarmkit's api/types.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from autoheal.sim.program import Orders, Program

if TYPE_CHECKING:
    from autoheal.sim.container import Container
    from autoheal.sim.machine import Machine
    from autoheal.sim.rollout import Rollout

NANO = 10**9
NANO_PER_MS = 10**6


class TaskState(IntEnum):
    """In the order of a task's life; a task never goes back."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800

    @property
    def word(self) -> str:
        """As Docker's API writes it."""
        return self.name.lower()


@dataclass(slots=True)
class UpdateStatus:
    """How far a rollout is, in Docker's words."""

    state: str
    message: str
    started_ms: int
    completed_ms: int | None = None


@dataclass(slots=True, eq=False)
class Task:
    """One task. `start_at_ms` and `waits_for` say when one that is READY may run."""

    id: str
    index: int
    service: Service
    slot: int
    template: Mapping[str, Any]
    template_key: str
    created_ms: int
    updated_ms: int
    state_since_ms: int
    state: TaskState = TaskState.NEW
    desired: TaskState = TaskState.RUNNING
    machine: Machine | None = None
    container: Container | None = None
    error: str = ""
    exit_code: int = 0
    prepared_at_ms: int = 0
    start_at_ms: int | None = None
    waits_for: Task | None = None
    rendered: dict[str, Any] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether the managers want it to run, now or soon."""
        return self.desired <= TaskState.RUNNING

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more and never will."""
        return self.state > TaskState.RUNNING


@dataclass(slots=True, eq=False)
class Service:
    """One service: its spec as it was posted, the one before, and the program it runs.

    `template_key` tells the task templates apart: a task of another key is outdated.
    """

    id: str
    index: int
    spec: Mapping[str, Any]
    template_key: str
    program: Program
    created_ms: int
    updated_ms: int
    previous: Mapping[str, Any] | None = None
    update: UpdateStatus | None = None
    rollout: Rollout | None = None
    is_changed: bool = True
    is_removed: bool = False
    orders: Orders = field(default_factory=Orders)
    tasks: list[Task] = field(default_factory=list)
    restarts: dict[int, Restarts] = field(default_factory=dict)
    rendered: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.spec["Name"])

    @property
    def replicas(self) -> int:
        """How many tasks are wanted."""
        return int(self.spec["Mode"]["Replicated"]["Replicas"])

    @property
    def template(self) -> Mapping[str, Any]:
        """What its next task is made from."""
        template: Mapping[str, Any] = self.spec["TaskTemplate"]
        return template

    def slots(self) -> dict[int, list[Task]]:
        """All tasks that are remembered, by slot, oldest first."""
        found: dict[int, list[Task]] = {}
        for task in self.tasks:
            found.setdefault(task.slot, []).append(task)
        return found


@dataclass(slots=True)
class Restarts:
    """When the tasks of one slot were restarted, under one task template."""

    template_key: str
    at_ms: list[int] = field(default_factory=list)


def section(spec: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The map at a path of a spec; empty where Docker left it out."""
    for key in path:
        spec = spec.get(key) or {}
    return spec


def duration_ms(spec: Mapping[str, Any], key: str, default_ms: int) -> int:
    """A duration of Docker's JSON, which counts nanoseconds."""
    nanoseconds = spec.get(key)
    return default_ms if nanoseconds is None else int(nanoseconds) // NANO_PER_MS
