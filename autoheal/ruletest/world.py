"""The world of a test: what collectors, Swarm and the executor would have written, and when.

It is no simulation: tasks show what the test says, come and go when the test says so, and an action
that is applied is there at once. Everything is written to the streams that the engine reads.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from autoheal import records
from autoheal.core.view.placement import could_take
from autoheal.model import (
    COMMAND_RESET,
    LABEL_DECISION,
    UPDATE_AT_REST,
    ActionKind,
    Command,
    Decision,
    Event,
    Inventory,
    Mode,
    Node,
    Outcome,
    OutcomeKind,
    Service,
    ServiceMode,
    SourceValue,
    Task,
)
from autoheal.ruletest.sampling import Sampler
from autoheal.ruletest.scenario import (
    LONG_MS,
    Happens,
    Occurrence,
    Place,
    Replacement,
    Scenario,
    TaskSetup,
)

# Swarm's own default between a task's end and its replacement's start.
RESTART_DELAY_MS = 5_000
# Often enough that no inventory is ever stale.
HEARTBEAT_MS = 30_000
# How long an executor takes to answer: less than any step.
ANSWER_MS = 1
NONE_FOUND = ""

Swarms = TypeVar("Swarms", Service, Task, Node)

# What each action changes in a service.
_LEVERS = {
    ActionKind.SCALE_UP: "replicas",
    ActionKind.SCALE_DOWN: "replicas",
    ActionKind.RAISE_MEMORY: "memory_limit",
    ActionKind.RESTART: "force_update",
}


@dataclass(frozen=True, slots=True)
class Written:
    """One stream entry, true at the time it is written."""

    ms: int
    stream: str
    fields: Mapping[str, bytes]


@dataclass(slots=True)
class _Slot:
    """A place: the task that is in it, and how many were before."""

    setup: TaskSetup
    task: Task | None = None
    used: int = 0


class World:
    """Plays one scenario; time goes forward with `until`."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._written: list[Written] = []
        self._now_ms = scenario.zero_ms
        self._index = 100
        self._order = 0
        self._services = dict(scenario.services)
        self._nodes = {name: setup.node for name, setup in scenario.nodes.items()}
        self._slots: dict[Place, _Slot] = {}
        self._changed: dict[tuple[type, str], Service | Task | Node] = {}
        self._sampler = Sampler(scenario)
        self._definitions = {each.name: each.definition for each in scenario.rules.sources}
        self._populate()
        self._at(scenario.zero_ms - LONG_MS, self._begin)
        self._at(scenario.zero_ms, self._keyframe)
        self._at(scenario.zero_ms, self._sample)
        for occurrence in scenario.occurrences:
            self._at(occurrence.at_ms, partial(self._occur, occurrence))

    @property
    def services(self) -> Mapping[str, Service]:
        """The services as they are now."""
        return self._services

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes as they are now."""
        return self._nodes

    def until(self, now_ms: int) -> Iterator[Written]:
        """Everything that is written before `now_ms` and was not yielded yet, in order."""
        while self._agenda and self._agenda[0][0] < now_ms:
            self._now_ms, _, happen = heapq.heappop(self._agenda)
            happen()
            self._publish()
            yield from self._written
            self._written.clear()

    def answer(self, decisions: Iterable[Decision], now_ms: int) -> None:
        """The executor answers these decisions, a moment after `now_ms`."""
        for decision in decisions:
            if decision.action is not ActionKind.ESCALATE:
                self._at(now_ms + ANSWER_MS, partial(self._answer, decision))

    def _at(self, ms: int, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (ms, self._order, happen))

    def _write(self, stream: str, fields: Mapping[str, bytes]) -> None:
        self._written.append(Written(self._now_ms, stream, fields))

    # inventory

    def _populate(self) -> None:
        """The tasks that are there when the test begins."""
        for service in self._services.values():
            count = len(self._nodes) if service.replicas is None else service.replicas
            for number in range(1, count + 1):
                place = Place(service.id, number)
                setup = self._setup(place)
                node = self._node_for(place) if setup.node is None else setup.node
                state = "running" if setup.is_ready else "preparing" if node else "pending"
                self._put(place, state, node=node, since_ms=setup.since_ms)

    def _keyframe(self) -> None:
        self._changed.clear()
        tasks = [slot.task for slot in self._slots.values() if slot.task is not None]
        self._tell(Inventory(
            keyframe=True,
            index=self._index,
            clock_ms=self._now_ms,
            services=tuple(self._services.values()),
            tasks=tuple(tasks),
            nodes=tuple(self._nodes.values()),
        ))  # fmt: skip
        self._at(self._now_ms + HEARTBEAT_MS, self._beat)

    def _beat(self) -> None:
        self._tell(Inventory(keyframe=False, index=self._index, clock_ms=self._now_ms))
        self._at(self._now_ms + HEARTBEAT_MS, self._beat)

    def _publish(self) -> None:
        """What has changed, as a difference."""
        changed = tuple(self._changed.values())
        if not changed:
            return
        self._changed.clear()
        self._tell(Inventory(
            keyframe=False,
            index=self._index,
            clock_ms=self._now_ms,
            services=tuple(each for each in changed if isinstance(each, Service)),
            tasks=tuple(each for each in changed if isinstance(each, Task)),
            nodes=tuple(each for each in changed if isinstance(each, Node)),
        ))  # fmt: skip

    def _tell(self, inventory: Inventory) -> None:
        self._write(records.INVENTORY, records.pack_inventory(inventory))

    def _change(self, changed: Swarms) -> Swarms:
        """The same, to be published."""
        self._changed[type(changed), changed.id] = changed
        return changed

    def _next_index(self) -> int:
        self._index += 1
        return self._index

    # tasks

    def _setup(self, place: Place) -> TaskSetup:
        return self._scenario.setup(place)

    def _put(self, place: Place, state: str, *, node: str, since_ms: int) -> None:
        """A new task in its place, made from the service as it is."""
        slot = self._slots.setdefault(place, _Slot(self._setup(place)))
        slot.used += 1
        service = self._services[place.service]
        identity = str(place) if slot.used == 1 else f"{place}.{slot.used}"
        is_global = service.mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)
        slot.task = self._change(Task(
            id=identity,
            index=self._next_index(),
            service=service.id,
            node=node,
            slot=0 if is_global else place.number,
            container=records.digest(identity.encode()) * 2,
            state=state,
            desired_state="ready" if state == "ready" else "running",
            state_since_ms=since_ms,
            force_update=service.force_update,
            memory_limit=service.memory_limit,
            exit_code=None,
            error="",
        ))  # fmt: skip

    def _become(self, place: Place, state: str, **changes: object) -> None:
        """The task in this place enters another state."""
        slot = self._slots[place]
        if slot.task is not None:
            changes = {"index": self._next_index(), "state_since_ms": self._now_ms, **changes}
            changed = dataclasses.replace(slot.task, state=state, **changes)  # type: ignore[arg-type]  # fields by name
            slot.task = self._change(changed)

    def _end(self, place: Place, state: str, exit_code: int | None = None, error: str = "") -> None:
        self._become(place, state, desired_state="shutdown", exit_code=exit_code, error=error)
        self._publish()
        self._slots[place].task = None

    def _replace(self, place: Place, how: Replacement) -> None:
        """Swarm puts a new task in the place, which may come up after a while."""
        node = self._node_for(place)
        match how if node or how is Replacement.NONE else Replacement.PENDING:
            case Replacement.RUNNING:
                self._put(place, "ready", node=node, since_ms=self._now_ms)
                new = self._slots[place].task
                self._at(self._now_ms + RESTART_DELAY_MS, partial(self._come_up, place, new))
            case Replacement.STARTING:
                self._put(place, "preparing", node=node, since_ms=self._now_ms)
            case Replacement.PENDING:
                self._put(place, "pending", node=NONE_FOUND, since_ms=self._now_ms)
            case Replacement.NONE:  # pragma: no branch  # mypy knows that there is no other
                pass

    def _come_up(self, place: Place, task: Task | None) -> None:
        if task is not None and self._slots[place].task is task:
            self._start(place)

    def _start(self, place: Place) -> None:
        task = self._slots[place].task
        if task is not None:
            node = task.node or self._node_for(place)
            self._become(place, "running", desired_state="running", node=node)

    def _node_for(self, place: Place) -> str:
        """The node on which Swarm puts a task: one after the other; "" if none could take it."""
        constraints = self._services[place.service].constraints
        able = [name for name, node in self._nodes.items() if could_take(node, constraints)]
        return able[(place.number - 1) % len(able)] if able else NONE_FOUND

    def _places(self, service: str) -> list[Place]:
        """The places of a service that have a task."""
        return [p for p, slot in self._slots.items() if p.service == service and slot.task]

    # what happens

    def _occur(self, occurrence: Occurrence) -> None:
        match occurrence.what:
            case Happens.CHANGE | Happens.DEPLOY:
                self._change_service(occurrence)
            case Happens.RESET:
                command = Command(COMMAND_RESET, occurrence.subject, occurrence.rule, "the test")
                self._write(records.COMMANDS, records.pack_command(command))
            case Happens.NODE_DOWN:
                self._lose_node(occurrence.subject, state="down")
            case Happens.NODE_DRAINED:
                self._lose_node(occurrence.subject, availability="drain")
            case Happens.NODE_UP:
                self._change_node(occurrence.subject, state="ready", availability="active")
            case _:
                self._befall(place_of(occurrence.subject), occurrence)

    def _befall(self, place: Place, occurrence: Occurrence) -> None:
        """Something happens to the task in a place; nothing, if there is none."""
        task = self._slots[place].task if place in self._slots else None
        if task is None:
            return
        code = occurrence.exit_code
        match occurrence.what:
            case Happens.OOM_KILLED:
                self._event("oom_killed", task)
            case Happens.STARTED:
                self._start(place)
            case Happens.DIED:
                self._event("died", task, exit_code=code, stopped=False)
                error = f"task: non-zero exit ({code})" if code else ""
                self._end(place, "failed" if code else "complete", code, occurrence.error or error)
            case Happens.UNHEALTHY:
                self._event("unhealthy", task)
                self._event("died", task, exit_code=code, stopped=True)
                error = f"task: non-zero exit ({code}): dockerexec: unhealthy container"
                self._end(place, "failed", code, occurrence.error or error)
            case _:
                self._end(place, "rejected", None, occurrence.error or "No such image")
        if self._slots[place].task is None:
            self._replace(place, self._replacement(occurrence, place))

    def _replacement(self, occurrence: Occurrence, place: Place) -> Replacement:
        """What the test says, else what the service's restart condition does."""
        if occurrence.replacement is not None:
            return occurrence.replacement
        condition = self._services[place.service].restart_condition
        ended_well = occurrence.what is Happens.DIED and occurrence.exit_code == 0
        stays = condition == "none" or (condition == "on-failure" and ended_well)
        return Replacement.NONE if stays else Replacement.RUNNING

    def _event(
        self,
        kind: str,
        task: Task,
        *,
        exit_code: int | None = None,
        stopped: bool | None = None,
    ) -> None:
        told = Event(
            kind, task.service, task.id, task.container, task.node, exit_code, None, stopped
        )
        self._write(records.EVENTS, records.pack_event(told))

    def _change_service(self, occurrence: Occurrence) -> None:
        """An operator changes a service, or deploys it anew."""
        changes = dict(occurrence.changes)
        is_deploy = occurrence.what is Happens.DEPLOY
        if is_deploy:
            changes.setdefault("update_state", "completed")
            changes["content"] = f"deployed at {self._now_ms}"
        self._set(occurrence.subject, changes)
        rolls = is_deploy or "memory_limit" in changes
        if rolls and self._services[occurrence.subject].update_state in UPDATE_AT_REST:
            self._roll(occurrence.subject)

    def _set(self, service: str, changes: Mapping[str, object]) -> None:
        """Change a service; its tasks become as many as it wants."""
        before = self._services[service]
        changes = {"index": self._next_index(), "updated_at_ms": self._now_ms, **changes}
        changed = dataclasses.replace(before, **changes)  # type: ignore[arg-type]  # fields by name
        self._services[service] = self._change(changed)
        wanted = changed.replicas
        if wanted is None or wanted == before.replicas:
            return
        for place in self._places(service):
            if place.number > wanted:
                self._end(place, "shutdown")
        for number in range((before.replicas or 0) + 1, wanted + 1):
            self._appear(Place(service, number))

    def _appear(self, place: Place) -> None:
        """A new task runs at once, if there is a node for it."""
        node = self._node_for(place)
        self._put(place, "running" if node else "pending", node=node, since_ms=self._now_ms)

    def _roll(self, service: str) -> None:
        """Every task is replaced."""
        wanted = self._services[service].replicas
        places = self._places(service)
        for place in places:
            self._end(place, "shutdown")
        if wanted is not None:
            places = [Place(service, number) for number in range(1, wanted + 1)]
        for place in places:
            self._appear(place)

    def _change_node(self, name: str, **changes: object) -> None:
        changes = {"index": self._next_index(), **changes}
        changed = dataclasses.replace(self._nodes[name], **changes)  # type: ignore[arg-type]  # fields by name
        self._nodes[name] = self._change(changed)

    def _lose_node(self, name: str, **changes: object) -> None:
        """The node takes part no more: Swarm wants its tasks elsewhere."""
        self._change_node(name, **changes)
        self._publish()
        for place, slot in self._slots.items():
            if slot.task is not None and slot.task.node == name:
                self._become(place, slot.task.state, desired_state="shutdown")
                self._publish()
                slot.task = None
                if self._services[place.service].replicas is not None:
                    self._replace(place, Replacement.RUNNING)

    # the executor

    def _answer(self, decision: Decision) -> None:
        """What becomes of a decision; one that may only be shown is."""
        kind, mode = self._scenario.outcome, decision.max_mode
        if mode is Mode.DRY_RUN:
            kind = OutcomeKind.WOULD_APPLY
        if kind is OutcomeKind.APPLIED:
            self._apply(decision)
        index = self._services[decision.service].index if kind is OutcomeKind.APPLIED else 0
        outcome = Outcome(decision.id, decision.service, kind, "as the test says", mode, index)
        self._write(records.OUTCOMES, records.pack_outcome(outcome))

    def _apply(self, decision: Decision) -> None:
        labels = {**self._services[decision.service].labels, LABEL_DECISION: decision.id}
        rolls = decision.action in (ActionKind.RAISE_MEMORY, ActionKind.RESTART)
        changes = {_LEVERS[decision.action]: decision.target, "labels": labels}
        if rolls:
            changes["update_state"] = "completed"
        self._set(decision.service, changes)
        if rolls:
            self._roll(decision.service)

    # samples

    def _begin(self) -> None:
        """The nodes' own load before the test begins, as it is then: else nothing could act yet."""
        limits, zero_ms = self._scenario.limits, self._scenario.zero_ms
        slots = -(-limits.saturated_window_ms // limits.step_ms)
        for slot in range(-slots, 0):
            self._now_ms = zero_ms + slot * limits.step_ms
            for node in self._nodes.values():
                self._sample_node(node, (), 0)

    def _sample_node(self, node: Node, tasks: Sequence[tuple[Task, TaskSetup]], step: int) -> None:
        batch = self._sampler.batch(node, tasks, self._services, step)
        self._write(records.SAMPLES, records.pack_samples(batch))

    def _sample(self) -> None:
        """Every node that is up, and every source, tells what it reads now."""
        step = (self._now_ms - self._scenario.zero_ms) // self._scenario.limits.step_ms
        by_node: dict[str, list[tuple[Task, TaskSetup]]] = {}
        for slot in self._slots.values():
            if slot.task is not None and slot.task.state == "running" and not _is_mute(slot, step):
                by_node.setdefault(slot.task.node, []).append((slot.task, slot.setup))
        for name, node in self._nodes.items():
            if node.state == "ready":
                self._sample_node(node, by_node.get(name, ()), step)
        for source, series in self._scenario.sources.items():
            if not series.is_stale(step):
                value = series.at(step)
                error = "" if value is not None else "no value"
                told = SourceValue(source, value, error, self._definitions.get(source, ""))
                self._write(records.SOURCES, records.pack_source(told))
        self._at(self._now_ms + self._scenario.limits.step_ms, self._sample)


def place_of(name: str) -> Place:
    """The place that `web.1` names."""
    service, _, number = name.rpartition(".")
    return Place(service, int(number))


def _is_mute(slot: _Slot, step: int) -> bool:
    """Whether nothing is heard of the task any more."""
    return any(series.is_stale(step) for series in slot.setup.series.values())
