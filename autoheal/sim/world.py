"""A Swarm, its nodes, and the people who work with it, in a time that moves only when told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoheal.sim.clock import SimulatedClock
from autoheal.sim.container import Container
from autoheal.sim.docker_api import DockerApi
from autoheal.sim.identity import Identities
from autoheal.sim.machine import Machine, NodePlan
from autoheal.sim.node_ports import NodePorts
from autoheal.sim.objects import Service, Task, TaskState
from autoheal.sim.program import Program
from autoheal.sim.swarm import Swarm

QUANTUM_MS = 1_000
THREE_NODES = (NodePlan("manager-1", "manager"), NodePlan("worker-1"), NodePlan("worker-2"))


class World:
    """The whole simulation. The same seed, and the same orders at the same times, repeat it.

    Time passes in quanta of at most `quantum_ms`: loads, memory and health checks are looked at
    once in each. The first manager leads.
    """

    def __init__(
        self,
        *,
        seed: int,
        start_ms: int,
        nodes: Sequence[NodePlan] = THREE_NODES,
        quantum_ms: int = QUANTUM_MS,
    ) -> None:
        self.seed = seed
        self.clock = SimulatedClock(start_ms)
        identities = Identities(seed)
        self.machines = [Machine(plan, identities, start_ms) for plan in nodes]
        leader = next(machine for machine in self.machines if machine.role == "manager")
        leader.is_leader = True
        self.swarm = Swarm(self.machines, identities)
        self.quantum_ms = quantum_ms
        self._lived_ms = start_ms

    @property
    def now_ms(self) -> int:
        """Simulated milliseconds since 1970."""
        return self.clock.now_ms

    def advance(self, ms: int) -> None:
        """Let so much time pass."""
        self.advance_to(self.now_ms + ms)

    def advance_to(self, ms: int) -> None:
        """Let time pass until then."""
        while self.now_ms < ms:
            self.clock.advance_to(min(ms, self.now_ms + self.quantum_ms))
            self._live(self.now_ms - self._lived_ms)
            self._lived_ms = self.now_ms
            self.swarm.work(self.now_ms)

    def _live(self, elapsed_ms: int) -> None:
        """Pass time on the nodes, also what others have let pass on the clock."""
        shares = {service.id: self._share(service) for service in self.swarm.services.values()}
        for machine in self.machines:
            if machine.is_up:
                machine.live(self.now_ms, elapsed_ms, shares)

    def _share(self, service: Service) -> float:
        """The part of a service's load that each of its serving tasks takes."""
        serving = sum(
            task.state is TaskState.RUNNING
            and task.container is not None
            and task.container.serves(self.now_ms)
            for task in service.tasks
        )
        return service.program.load.at(self.now_ms) / serving if serving else 0.0

    # as programs see it

    def docker(self, hostname: str) -> DockerApi:
        """The Docker API of a node."""
        return DockerApi(self.swarm, self.machine(hostname), self.clock)

    def ports_of(self, hostname: str) -> NodePorts:
        """A node as its collector sees it."""
        return NodePorts(self.machine(hostname), self.clock)

    # as people work with it

    def create(self, spec: Mapping[str, Any], program: Program) -> Service:
        """Create a service. Raises ValueError for what is not simulated."""
        return self.swarm.create(spec, program, self.now_ms)

    def update(self, name: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Change a service's spec, as an operator does who sees its present version."""
        service = self.service(name)
        self.swarm.update(service, service.index, change(service.spec), self.now_ms)

    def remove(self, name: str) -> None:
        """Remove a service."""
        self.swarm.remove(self.service(name))

    def kill(self, container: str) -> None:
        """`docker kill` of one container. Raises KeyError if it does not run."""
        machine, running = self._find(container)
        machine.kill(running)

    def lose(self, hostname: str) -> None:
        """A node's power fails."""
        self.machine(hostname).lose()

    def restore(self, hostname: str) -> None:
        """The node is back; what ran on it is not."""
        self.machine(hostname).is_up = True

    def set_availability(self, hostname: str, availability: str) -> None:
        """`docker node update --availability`: active, pause or drain."""
        machine = self.machine(hostname)
        machine.availability = availability
        self.swarm.touch(machine)

    def machine(self, hostname: str) -> Machine:
        """The node of that name. Raises KeyError."""
        for machine in self.machines:
            if machine.hostname == hostname:
                return machine
        raise KeyError(hostname)

    def service(self, name: str) -> Service:
        """The service of that name. Raises KeyError."""
        for service in self.swarm.services.values():
            if service.name == name:
                return service
        raise KeyError(name)

    def running(self, name: str) -> list[Task]:
        """The tasks of a service that run, by slot."""
        tasks = [task for task in self.service(name).tasks if task.state is TaskState.RUNNING]
        return sorted(tasks, key=lambda task: task.slot)

    def _find(self, container: str) -> tuple[Machine, Container]:
        for machine in self.machines:
            for _, running in machine.containers():
                if running.id == container:
                    return machine, running
        raise KeyError(container)
