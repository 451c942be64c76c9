"""What the Swarm leader tells of the whole Swarm: its services, tasks and nodes.

Every `interval_s`, soon after something changed, and every few seconds while a service is on its
way, all objects are read and compared with those published last. What is published is the
difference, an empty one too (a sign of life); every few minutes, on becoming leader, and whenever a
reader may have missed something, it is the whole: a keyframe.

Two leaders may publish for a while, one of them cut off: readers keep the highest raft index of
each object.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from autoheal.adapters.docker_api import swarm_role
from autoheal.adapters.swarm_objects import node_from, service_from, task_from
from autoheal.errors import RemoteError
from autoheal.model import Inventory, Node, Service, ServiceMode, Task
from autoheal.records import INVENTORY, pack_inventory

if TYPE_CHECKING:
    from autoheal.outbox import Outbox
    from autoheal.ports import Clock, SwarmReader

INTERVAL_S = 15.0
UNSETTLED_S = 5.0
KEYFRAME_S = 300.0
DEBOUNCE_S = 1.0
RUNNING = "running"

_MOVING = {"updating", "rollback_started"}
_LONG_RUNNING = {ServiceMode.REPLICATED, ServiceMode.GLOBAL}

_log = logging.getLogger(__name__)
_Object = TypeVar("_Object", Service, Task, Node)


@dataclass(frozen=True, slots=True)
class Swarm:
    """One reading of all objects, by their ids."""

    services: Mapping[str, Service]
    tasks: Mapping[str, Task]
    nodes: Mapping[str, Node]

    @property
    def index(self) -> int:
        """The highest raft index among them."""
        everything: Iterable[Service | Task | Node] = (
            *self.services.values(),
            *self.tasks.values(),
            *self.nodes.values(),
        )
        return max((found.index for found in everything), default=0)


class InventoryPublisher:
    """The loop that publishes the inventory while this node is the leader, and rests otherwise.

    `tick()` belongs to one thread, `poke()` and `seconds_until_due()` to any.
    """

    def __init__(
        self,
        reader: SwarmReader,
        clock: Clock,
        outbox: Outbox,
        *,
        interval_s: float = INTERVAL_S,
        keyframe_s: float = KEYFRAME_S,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._outbox = outbox
        self._interval_s = interval_s
        self._keyframe_s = keyframe_s
        self._due_at = clock.monotonic()
        self._leader = False
        self._failure: RemoteError | None = None
        self._published: Swarm | None = None
        self._index = 0
        self._keyframe_due_at = 0.0
        self._breaks_seen = 0

    def seconds_until_due(self) -> float:
        """How long `tick()` may wait; 0 is now."""
        return max(0.0, self._due_at - self._clock.monotonic())

    def poke(self) -> None:
        """Something changed: be due soon, with whatever else changes in that moment."""
        if self._leader:  # another node's changes are its leader's to tell
            self._due_at = min(self._due_at, self._clock.monotonic() + DEBOUNCE_S)

    def tick(self) -> None:
        """If it is due and this node leads: read everything, publish what is new.

        If it is not due, only what still waits for the store is sent. Raises RemoteError (Docker
        did not answer when it was last due) and ConnectionError (the store is away).
        """
        if self.seconds_until_due() == 0:
            self._failure = None
            self._read_and_publish()
        if not self._outbox.flush():
            raise ConnectionError("the store is away: the inventory waits")
        if self._failure is not None:
            raise self._failure

    def _read_and_publish(self) -> None:
        self._due_at = self._clock.monotonic() + self._interval_s
        try:
            self._note_leader(swarm_role(self._reader).leader)
            if self._leader:
                self._publish()
        except RemoteError as error:
            self._published = None  # another node may have led and told meanwhile: start anew
            self._failure = error

    def _publish(self) -> None:
        taken, clock_ms = self._clock.monotonic(), self._clock.wall_ms()
        swarm = self._read()
        self._index = max(self._index, swarm.index)
        inventory = self._next(swarm, clock_ms)
        self._outbox.put(INVENTORY, pack_inventory(inventory), taken)
        self._published = swarm
        if unsettled(swarm):
            soon = self._clock.monotonic() + min(self._interval_s, UNSETTLED_S)
            self._due_at = min(self._due_at, soon)

    def _read(self) -> Swarm:
        """Tasks last: none of them belongs to a service that is newer than the list."""
        services = _converted(self._reader.get("/services"), service_from)
        nodes = _converted(self._reader.get("/nodes"), node_from)
        tasks = _converted(self._reader.get("/tasks"), task_from)
        return Swarm(services, tasks, nodes)

    def _next(self, swarm: Swarm, clock_ms: int) -> Inventory:
        now = self._clock.monotonic()
        breaks = self._outbox.breaks
        before = self._published
        if before is None or now >= self._keyframe_due_at or breaks != self._breaks_seen:
            self._keyframe_due_at = now + self._keyframe_s
            self._breaks_seen = breaks
            return difference(Swarm({}, {}, {}), swarm, self._index, clock_ms, keyframe=True)
        return difference(before, swarm, self._index, clock_ms)

    def _note_leader(self, leader: bool) -> None:
        if leader and not self._leader:
            _log.info("this node leads the Swarm: it publishes the inventory")
            self._index = 0
            self._published = None
        if self._leader and not leader:
            _log.info("this node leads the Swarm no more")
        self._leader = leader


def difference(
    before: Swarm, after: Swarm, index: int, clock_ms: int, *, keyframe: bool = False
) -> Inventory:
    """What must be told to someone who knows `before`. Pure; ordered by id."""
    gone = (
        *(before.services.keys() - after.services.keys()),
        *(before.tasks.keys() - after.tasks.keys()),
        *(before.nodes.keys() - after.nodes.keys()),
    )
    return Inventory(
        keyframe=keyframe,
        index=index,
        clock_ms=clock_ms,
        services=_changed(before.services, after.services),
        tasks=_changed(before.tasks, after.tasks),
        nodes=_changed(before.nodes, after.nodes),
        gone=tuple(sorted(gone)),
    )


def unsettled(swarm: Swarm) -> bool:
    """Whether a service is being updated, or lacks tasks, or has one that does not run yet."""
    tasks = swarm.tasks.values()
    wanted = [task for task in tasks if task.desired_state == RUNNING]
    running = Counter(task.service for task in wanted if task.state == RUNNING)
    starting = {task.service for task in wanted if task.state != RUNNING}
    return any(
        service.update_state in _MOVING
        or (service.mode in _LONG_RUNNING and service.id in starting)
        or (service.replicas is not None and running[service.id] != service.replicas)
        for service in swarm.services.values()
    )


def _changed(before: Mapping[str, _Object], after: Mapping[str, _Object]) -> tuple[_Object, ...]:
    return tuple(after[key] for key in sorted(after) if before.get(key) != after[key])


def _converted(
    rows: Iterable[Mapping[str, Any]], convert: Callable[[Mapping[str, Any]], _Object]
) -> dict[str, _Object]:
    """Objects by id. One that we do not understand is left out: what is unknown is not acted on."""
    found: dict[str, _Object] = {}
    for row in rows:
        try:
            converted = convert(row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s: cannot understand %.80s: %r", convert.__name__, row, error)
        else:
            found[converted.id] = converted
    return found
