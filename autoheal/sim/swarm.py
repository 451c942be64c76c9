"""The managers: what is kept under raft, and what they do to bring it about.

After swarmkit's manager/orchestrator: replicated services, the restart supervisor, the updater, the
scheduler, the task reaper. Several managers are one here: quorum and elections are not simulated.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

from autoheal.records import canonical, digest
from autoheal.sim.identity import Identities
from autoheal.sim.machine import Machine
from autoheal.sim.objects import Service, Task, TaskState, section
from autoheal.sim.program import Program
from autoheal.sim.restarts import may_restart, restart, start_if_due
from autoheal.sim.rollout import ROLLBACK_STARTED, Rollout
from autoheal.sim.scheduler import meets_constraints, place

# Swarm's default for the tasks of one slot that are remembered, the one that runs among them.
TASK_HISTORY = 5
# A node is heard every 5 s, and down once three times in a row it was not.
HEARTBEAT_MS = 5_000
DOWN_AFTER_MS = 3 * HEARTBEAT_MS
ROUNDS_MAX = 100


class OutOfSequenceError(Exception):
    """A service update whose version is not the service's."""


class Swarm:
    """All objects, each with the raft index of its last change."""

    def __init__(self, machines: Sequence[Machine], identities: Identities) -> None:
        self.machines = list(machines)
        self.services: dict[str, Service] = {}
        self.index = 10
        self.changes = 0
        self._identities = identities
        self._now_ms = self.machines[0].created_ms
        self._removed: list[Service] = []
        for machine in self.machines:
            self.touch(machine)

    # what people and programs ask for

    def create(self, spec: Mapping[str, Any], program: Program, now_ms: int) -> Service:
        """A new service. Raises ValueError for a mode that is not simulated, or a name twice."""
        if "Replicated" not in spec["Mode"]:
            raise ValueError(f"service {spec['Name']}: only replicated services are simulated")
        if any(service.name == spec["Name"] for service in self.services.values()):
            raise ValueError(f"service {spec['Name']} exists already")
        service = Service(
            id=self._identities.object_id(),
            index=0,
            spec=copy.deepcopy(dict(spec)),
            template_key=_key(spec),
            program=program,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        self._now_ms = now_ms
        self.services[service.id] = service
        self.touch(service)
        return service

    def update(self, service: Service, version: int, spec: Mapping[str, Any], now_ms: int) -> None:
        """Compare-and-swap on the version. Raises OutOfSequenceError."""
        if version != service.index:
            raise OutOfSequenceError("update out of sequence")
        self._now_ms = now_ms
        service.update = None
        service.rollout = None
        self.set_spec(service, copy.deepcopy(dict(spec)), previous=service.spec)

    def remove(self, service: Service) -> None:
        """The service goes at once, its tasks as they stop."""
        del self.services[service.id]
        service.is_removed = True
        service.rollout = None
        self.changes += 1
        for task in service.tasks:
            self.want(task, TaskState.REMOVE)
        self._removed.append(service)

    def tasks(self) -> Iterator[Task]:
        """All tasks that are remembered, those of removed services too."""
        for service in (*self.services.values(), *self._removed):
            yield from service.tasks

    # what the parts of the managers do to objects

    def touch(self, changed: Service | Task | Machine) -> None:
        """It changed: a new raft index, and what was rendered of it is out of date."""
        self.index += 1
        self.changes += 1
        changed.index = self.index
        changed.updated_ms = self._now_ms
        changed.rendered = None

    def set_spec(
        self, service: Service, spec: Mapping[str, Any], *, previous: Mapping[str, Any] | None
    ) -> None:
        """Another spec from now on."""
        service.spec, service.previous = spec, previous
        service.template_key = _key(spec)
        service.is_changed = True
        self.touch(service)

    def want(self, task: Task, desired: TaskState) -> None:
        """Change what is wanted of a task."""
        task.desired = desired
        self.touch(task)

    def create_task(self, service: Service, slot: int) -> Task:
        """A new task of the service as it is now."""
        task = Task(
            id=self._identities.object_id(),
            index=0,
            service=service,
            slot=slot,
            template=service.template,
            template_key=service.template_key,
            created_ms=self._now_ms,
            updated_ms=self._now_ms,
            state_since_ms=self._now_ms,
        )
        service.tasks.append(task)
        self.touch(task)
        return task

    # bringing it about

    def work(self, now_ms: int) -> None:
        """Managers and agents, in turns, until there is nothing more to do at this time."""
        self._now_ms = now_ms
        for _ in range(ROUNDS_MAX):
            before = self.changes
            self._step(now_ms)
            for machine in self.machines:
                machine.work(now_ms, self.touch)
            if self.changes == before:
                return
        raise AssertionError("the managers never come to rest")

    def _step(self, now_ms: int) -> None:
        self._hear(now_ms)
        for service in [*self.services.values(), *self._removed]:
            self._restart_ended(service, now_ms)
            if service.is_changed and not service.is_removed:
                service.is_changed = False
                self._reconcile(service, now_ms)
            if service.rollout is not None:
                service.rollout.step(now_ms)
            for task in service.tasks:
                if start_if_due(task, now_ms):
                    self.touch(task)
            self._schedule(service)
            self._reap(service)
        self._removed = [service for service in self._removed if service.tasks]

    def _hear(self, now_ms: int) -> None:
        """Which nodes are heard of."""
        for machine in self.machines:
            if machine.is_up:
                machine.heard_ms = now_ms
            state = "down" if now_ms - machine.heard_ms >= DOWN_AFTER_MS else "ready"
            if machine.state != state:
                machine.state = state
                self.touch(machine)

    def _restart_ended(self, service: Service, now_ms: int) -> None:
        for task in list(service.tasks):
            # One that ends while it waits for its restart is replaced when that would have come.
            waits = task.start_at_ms is not None
            if task.is_wanted and not waits and (task.has_ended or _has_no_node(task)):
                restart(task, now_ms, self.create_task)
                self.touch(task)

    def _reconcile(self, service: Service, now_ms: int) -> None:
        """As many slots as replicas; then the outdated ones are rolled."""
        slots = {
            slot: _updatable(tasks) for slot, tasks in service.slots().items() if _is_counted(tasks)
        }
        before = set(slots)
        for slot in _superfluous(slots, service.replicas):
            for task in slots.pop(slot):
                self.want(task, TaskState.REMOVE)
        new = list(islice(_free(slots), service.replicas - len(slots)))
        self._forget(service, keep={*before, *new})
        for slot in new:
            self.create_task(service, slot)
        self._roll(service, slots, now_ms)

    def _forget(self, service: Service, *, keep: Container[int]) -> None:
        """Drop what is remembered of the other slots."""
        service.tasks = [task for task in service.tasks if task.slot in keep]
        self.changes += 1

    def _roll(self, service: Service, slots: Mapping[int, Sequence[Task]], now_ms: int) -> None:
        outdated = [
            slot
            for slot, tasks in slots.items()
            if len(tasks) > 1 or tasks[0].template_key != service.template_key
        ]
        rolls_back = service.update is not None and service.update.state == ROLLBACK_STARTED
        if outdated or rolls_back:
            service.rollout = Rollout(self, service, outdated, now_ms)

    def _schedule(self, service: Service) -> None:
        for task in service.tasks:
            if task.machine is not None or not task.is_wanted or task.has_ended:
                continue
            machine, error = place(task, self.machines)
            if machine is not None:
                machine.tasks.append(task)
                task.machine, task.error = machine, ""
                self._enter(task, TaskState.ASSIGNED)
            elif task.state is not TaskState.PENDING or task.error != error:
                task.error = error
                self._enter(task, TaskState.PENDING)

    def _enter(self, task: Task, state: TaskState) -> None:
        task.state = state
        task.state_since_ms = self._now_ms
        self.touch(task)

    def _reap(self, service: Service) -> None:
        """Forget tasks that are to be removed and have stopped, and of each slot the oldest."""
        forgotten = {task for task in service.tasks if _is_removable(task)}
        for tasks in service.slots().values():
            forgotten.update(_surplus_of_history(tasks))
        if forgotten:
            self.changes += 1
            service.tasks = [task for task in service.tasks if task not in forgotten]


def _key(spec: Mapping[str, Any]) -> str:
    return digest(canonical(spec["TaskTemplate"]))


def _has_no_node(task: Task) -> bool:
    """Whether its node is gone for it: down, drained, or no longer what it may run on."""
    machine = task.machine
    if machine is None:
        return False
    if machine.state == "down" or machine.availability == "drain":
        return True
    return not meets_constraints(task, machine)


def _updatable(tasks: Sequence[Task]) -> Sequence[Task]:
    """The tasks of a slot that a rollout looks at: those that are wanted, else the newest."""
    return [task for task in tasks if task.is_wanted] or tasks[-1:]


def _is_counted(tasks: Sequence[Task]) -> bool:
    """Whether a slot is one of the replicas: it lives, or its restart policy gave it up."""
    if any(task.is_wanted for task in tasks):
        return True
    newest = tasks[-1]
    if newest.desired is TaskState.REMOVE:
        return False
    update = newest.service.update
    rolls_back = update is not None and update.state == ROLLBACK_STARTED
    return not rolls_back and not may_restart(newest, newest.state_since_ms)


def _superfluous(slots: Mapping[int, Sequence[Task]], wanted: int) -> list[int]:
    """The slots to remove: those on no node or with two tasks, then from the fullest nodes.

    On a node those that run count as the first ones there, so that the others go before them.
    """
    ranks: dict[int, float] = {}
    crowd: Counter[str] = Counter()
    for slot in sorted(slots, key=lambda slot: (not _runs(slots[slot]), slot)):
        first, *others = slots[slot]
        ranks[slot] = math.inf
        if first.machine is not None and not others:
            crowd[first.machine.id] += 1
            ranks[slot] = crowd[first.machine.id]
    return sorted(ranks, key=ranks.__getitem__)[wanted:]


def _runs(tasks: Sequence[Task]) -> bool:
    return any(task.state is TaskState.RUNNING for task in tasks)


def _free(slots: Container[int]) -> Iterator[int]:
    """The numbers of new slots: the lowest that are free."""
    return (number for number in count(1) if number not in slots)


def _is_removable(task: Task) -> bool:
    never_ran = task.state < TaskState.ASSIGNED
    return task.desired is TaskState.REMOVE and (task.has_ended or never_ran)


def _surplus_of_history(tasks: Sequence[Task]) -> list[Task]:
    """The oldest tasks of a slot that are over and beyond what is remembered."""
    attempts = section(tasks[-1].service.template, "RestartPolicy").get("MaxAttempts") or 0
    kept = attempts + 1 if attempts else TASK_HISTORY
    over = [task for task in tasks if task.has_ended or _will_never_run(task)]
    return over[: max(0, len(tasks) - kept)]


def _will_never_run(task: Task) -> bool:
    return task.state < TaskState.ASSIGNED and not task.is_wanted
