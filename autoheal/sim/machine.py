"""One node: its engine, its share of Swarm's work, and the containers that compete for it.

The agent's part follows swarmkit's agent/exec/controller.go: accepted, preparing, ready, starting,
running; a task with a health check runs once it is healthy.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoheal.model import Event
from autoheal.sim.container import Container, Health, Sign
from autoheal.sim.identity import Identities
from autoheal.sim.objects import Task, TaskState, section

if TYPE_CHECKING:
    from collections.abc import Mapping

PREPARE_MS = 200
LOST = 255
# What the system itself takes, of a node's memory and of its CPU.
SYSTEM_MEMORY = 0.1
SYSTEM_CPU = 0.02


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node as it is bought. The first manager of a plan leads."""

    hostname: str
    role: str = "worker"
    cores: float = 4.0
    memory: int = 8 * 2**30
    labels: Mapping[str, str] | None = None


class Machine:
    """One node. `is_up` is the truth; `state` is what the managers believe."""

    def __init__(self, plan: NodePlan, identities: Identities, now_ms: int) -> None:
        self.id = identities.object_id()
        self.hostname = plan.hostname
        self.role = plan.role
        self.cores = plan.cores
        self.memory = plan.memory
        self.labels = dict(plan.labels or {})
        self.availability = "active"
        self.state = "ready"
        self.is_leader = False
        self.is_up = True
        self.heard_ms = now_ms
        self.created_ms = now_ms
        self.updated_ms = now_ms
        self.index = 0
        self.rendered: dict[str, Any] | None = None
        self.tasks: list[Task] = []
        self.events: deque[Event] = deque()
        self.used_cores = 0.0
        self._identities = identities

    @property
    def takes_tasks(self) -> bool:
        """Whether the scheduler may place a task here."""
        return self.state == "ready" and self.availability == "active"

    @property
    def used_memory(self) -> int:
        """What its containers hold, in bytes."""
        return sum(container.memory for _, container in self.containers())

    def containers(self) -> Iterable[tuple[Task, Container]]:
        """The containers that run, with their tasks."""
        for task in self.tasks:
            if task.container is not None and task.container.is_alive:
                yield task, task.container

    # its containers

    def live(self, now_ms: int, elapsed_ms: int, share_of: Mapping[str, float]) -> None:
        """Pass time in every container; `share_of` is each one's part of its service's load."""
        wants = []
        for task, container in self.containers():
            serves = task.state is TaskState.RUNNING
            share = share_of.get(task.service.id, 0.0) if serves else 0.0
            wants.append((task, container, container.wants_cores(now_ms, share)))
        # Exactly rounded: the same on every Python.
        allowed = math.fsum(container.allowed_cores(wanted) for _, container, wanted in wants)
        scarcity = min(1.0, self.cores / allowed) if allowed else 1.0
        self.used_cores = allowed * scarcity
        for task, container, wanted in wants:
            used = container.allowed_cores(wanted) * scarcity
            for happening in container.live(now_ms, elapsed_ms, wanted, used):
                self._tell(task, container, happening.value)
                if happening is Sign.UNHEALTHY:
                    container.stop(now_ms)  # Swarm's agent does, in the same second
            if not container.is_alive:
                self._tell_end(task, container)

    def kill(self, container: Container) -> None:
        """Somebody kills a container of this node through Docker."""
        task = next(task for task, each in self.containers() if each is container)
        container.kill()
        self._tell_end(task, container)

    def lose(self) -> None:
        """Its power fails: whatever ran runs no more, and nobody is told."""
        self.is_up = False
        self.used_cores = 0.0
        for _, container in self.containers():
            container.is_stopped = True
            container.exit_code = LOST
        self.events.clear()

    # its agent

    def work(self, now_ms: int, touch: Callable[[Task], None]) -> None:
        """Take every task as far as it can go now; `touch` is told of those that went further."""
        if not self.is_up:
            return
        for task in self.tasks:
            was = task.state
            self._work_on(task, now_ms)
            if task.state is not was:
                task.state_since_ms = now_ms
                touch(task)
        self.tasks = [task for task in self.tasks if task.is_wanted or not task.has_ended]

    def _work_on(self, task: Task, now_ms: int) -> None:
        container = task.container
        if task.has_ended:
            return
        if container is not None and not container.is_alive:
            self._conclude(task, container)
        elif not task.is_wanted:
            self._shut_down(task, now_ms)
        elif task.state < TaskState.READY:
            self._prepare(task, now_ms)
        elif task.state is TaskState.READY and task.desired is TaskState.RUNNING:
            self._start(task, now_ms)
        elif task.state is TaskState.STARTING and container is not None:
            self._await_health(task, container)

    def _prepare(self, task: Task, now_ms: int) -> None:
        if task.state is TaskState.ASSIGNED:
            task.state = TaskState.PREPARING
            task.prepared_at_ms = now_ms + PREPARE_MS
        elif now_ms >= task.prepared_at_ms:
            if task.service.program.has_image:
                task.state = TaskState.READY
            else:
                task.state = TaskState.REJECTED
                image = section(task.template, "ContainerSpec").get("Image", "")
                task.error = f"No such image: {image}"

    def _start(self, task: Task, now_ms: int) -> None:
        service = task.service
        task.container = Container(
            self._identities.container_id(),
            task.template,
            service.program,
            service.orders,
            now_ms,
        )
        task.state = TaskState.STARTING

    def _await_health(self, task: Task, container: Container) -> None:
        if container.health in {Health.NONE, Health.HEALTHY}:
            task.state = TaskState.RUNNING

    def _shut_down(self, task: Task, now_ms: int) -> None:
        if task.container is None:
            task.state = TaskState.SHUTDOWN
        else:
            task.container.stop(now_ms)

    def _conclude(self, task: Task, container: Container) -> None:
        """Its container ended; the agent of a node that was lost learns of it on its return."""
        code = container.exit_code or 0
        task.exit_code = code
        if not task.is_wanted and code != LOST:
            task.state = TaskState.SHUTDOWN
        elif code == 0:
            task.state = TaskState.COMPLETE
        else:
            task.state = TaskState.FAILED
            unhealthy = container.health is Health.UNHEALTHY
            cause = ": dockerexec: unhealthy container" if unhealthy else ""
            task.error = f"task: non-zero exit ({code}){cause}"

    # what Docker tells on this node

    def _tell_end(self, task: Task, container: Container) -> None:
        self._tell(task, container, "died", container.exit_code, stopped=container.is_stopped)

    def _tell(
        self,
        task: Task,
        container: Container,
        kind: str,
        exit_code: int | None = None,
        *,
        stopped: bool | None = None,
    ) -> None:
        service = task.service.id
        told = Event(kind, service, task.id, container.id, self.id, exit_code, None, stopped)
        self.events.append(told)
