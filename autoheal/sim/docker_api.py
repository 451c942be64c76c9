"""The Docker API of one node of a simulated Swarm: what autoheal asks for, and the one write."""

from __future__ import annotations

import copy
import re
from typing import Any

from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.ports import Clock, JsonObject
from autoheal.sim.docker_json import info_json, node_json, service_json, task_json
from autoheal.sim.machine import Machine
from autoheal.sim.objects import Service, Task
from autoheal.sim.swarm import OutOfSequenceError, Swarm

NOT_FOUND = 404
SERVER_ERROR = 500
UNAVAILABLE = 503
_OBJECT = re.compile(r"/(services|nodes)/([^/]+)")


class DockerApi:
    """SwarmReader and SwarmWriter of one machine."""

    def __init__(self, swarm: Swarm, machine: Machine, clock: Clock) -> None:
        self._swarm = swarm
        self._machine = machine
        self._clock = clock

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        """See ports.SwarmReader. What autoheal never asks for is not found."""
        del parameters  # autoheal narrows only what it reads of containers
        return copy.deepcopy(self._found(path))  # whoever changes an answer changes no world

    def _found(self, path: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        self._require_up()
        if path == "/info":
            return info_json(self._machine)
        self._require_manager()
        match path:
            case "/services":
                return [_service(each) for each in self._swarm.services.values()]
            case "/nodes":
                return [_node(each) for each in self._swarm.machines]
            case "/tasks":
                return [_task(each) for each in self._swarm.tasks()]
            case _:
                return self._object(path)

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        """See ports.SwarmWriter."""
        self._require_up()
        self._require_manager()
        found = self._find_service(service)
        try:
            self._swarm.update(found, version, spec, self._clock.wall_ms())
        except OutOfSequenceError as error:
            words = f"rpc error: code = Unknown desc = {error}"
            raise RemoteRefused(SERVER_ERROR, words) from error

    def _object(self, path: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        found = _OBJECT.fullmatch(path)
        if found is None:
            raise RemoteRefused(NOT_FOUND, "page not found")
        kind, name = found.groups()
        if kind == "services":
            return _service(self._find_service(name))
        for machine in self._swarm.machines:
            if name in {machine.id, machine.hostname}:
                return _node(machine)
        raise RemoteRefused(NOT_FOUND, f"node {name} not found")

    def _find_service(self, name: str) -> Service:
        for service in self._swarm.services.values():
            if name in {service.id, service.name}:
                return service
        raise RemoteRefused(NOT_FOUND, f"service {name} not found")

    def _require_up(self) -> None:
        if not self._machine.is_up:
            raise RemoteUnreachable(f"{self._machine.hostname} has no power")

    def _require_manager(self) -> None:
        if self._machine.role != "manager":
            raise RemoteRefused(
                UNAVAILABLE,
                "This node is not a swarm manager. Worker nodes can't be used to view or modify"
                " cluster state. Please run this command on a manager node or promote the current"
                " node to a manager.",
            )


def _service(service: Service) -> dict[str, Any]:
    """Rendered once per version."""
    if service.rendered is None:
        service.rendered = service_json(service)
    return service.rendered


def _task(task: Task) -> dict[str, Any]:
    if task.rendered is None:
        task.rendered = task_json(task)
    return task.rendered


def _node(machine: Machine) -> dict[str, Any]:
    if machine.rendered is None:
        machine.rendered = node_json(machine)
    return machine.rendered
