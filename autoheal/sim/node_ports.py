"""One simulated node through the ports of the collector that runs on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autoheal.errors import RemoteUnreachable
from autoheal.metrics import MEASURED
from autoheal.model import Event, NodeFigures, RosterRow
from autoheal.ports import Clock, Container
from autoheal.records import Samples, container_key
from autoheal.sim.container import Container as Running
from autoheal.sim.machine import SYSTEM_CPU, SYSTEM_MEMORY, Machine

PIDS = 4.0


@dataclass(frozen=True, slots=True)
class TaskContainer:
    """A running container of a task."""

    id: str
    task: str
    service: str


@dataclass(frozen=True, slots=True)
class _Counters:
    """What a container had used at `at`, in seconds."""

    at: float
    cpu: float
    throttled: float


class NodePorts:
    """ContainerSource, StatsSource, NodeSource and EventSource of one machine."""

    def __init__(self, machine: Machine, clock: Clock) -> None:
        self._machine = machine
        self._clock = clock
        self._last: dict[str, _Counters] = {}

    def containers(self) -> Sequence[Container]:
        """See ports.ContainerSource."""
        self._require_up()
        found = [
            TaskContainer(container.id, task.id, task.service.id)
            for task, container in self._machine.containers()
        ]
        return sorted(found, key=lambda container: container.id)

    def sample(self, containers: Sequence[Container]) -> Samples:
        """See ports.StatsSource; rates are since the last sample of a container."""
        running = {container.id: container for _, container in self._machine.containers()}
        known = [running[each.id] for each in containers if each.id in running]
        columns = [self._column(container) for container in known]
        self._last = {container.id: self._counters(container) for container in known}
        matrix = np.array(columns, dtype=np.float32).reshape(len(columns), len(MEASURED)).T
        return Samples(MEASURED, tuple(container_key(each.id) for each in known), matrix)

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        """See ports.StatsSource."""
        running = {container.id: container for _, container in self._machine.containers()}
        return tuple(
            RosterRow(
                container_key(each.id),
                each.id,
                each.task,
                each.service,
                running[each.id].limits.cpu,
                running[each.id].limits.memory,
            )
            for each in containers
            if each.id in running
        )

    def figures(self) -> NodeFigures:
        """See ports.NodeSource."""
        machine = self._machine
        cpu = min(1.0, SYSTEM_CPU + machine.used_cores / machine.cores)
        memory = min(1.0, SYSTEM_MEMORY + machine.used_memory / machine.memory)
        return NodeFigures(machine.cores, 100 * cpu, machine.memory, 100 * memory)

    def events(self, stop: Callable[[], bool]) -> Iterator[Event | None]:
        """See ports.EventSource: all that has happened by now, then a sign of life, and so on."""
        while not stop():
            self._require_up()
            while self._machine.events:
                yield self._machine.events.popleft()
            yield None

    def _require_up(self) -> None:
        if not self._machine.is_up:
            raise RemoteUnreachable(f"{self._machine.hostname} has no power")

    def _counters(self, container: Running) -> _Counters:
        return _Counters(
            self._clock.monotonic(), container.cpu_seconds, container.throttled_seconds
        )

    def _column(self, container: Running) -> list[float]:
        before, now = self._last.get(container.id), self._counters(container)
        seconds = math.nan if before is None or now.at <= before.at else now.at - before.at
        cpu = now.cpu - (before.cpu if before else 0.0)
        throttled = now.throttled - (before.throttled if before else 0.0)
        figures = {
            "cpu_cores": cpu / seconds,
            "memory_bytes": float(container.memory),
            "throttled_percent": 100.0 * throttled / seconds,
            "pids": PIDS,
        }
        return [figures[name] for name in MEASURED]
