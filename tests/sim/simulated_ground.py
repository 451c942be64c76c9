"""A simulated Swarm as the ground of scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from autoheal.model import Event
from autoheal.ports import SwarmWriter
from autoheal.sim.objects import NANO
from autoheal.sim.program import MIB, Order, Program
from autoheal.sim.scenario import START_MS
from autoheal.sim.world import World
from sim.ground import BROKEN, EVERYBODY, GOOD, RELEASE, Figures, Patient, Word, figures_of

SEED = 1
QUANTUM_MS = 50
# What the rig's program takes: more than any limit in the scenes.
FILLED = 64 * MIB


class SimulatedGround:
    """Ground of a world of its own."""

    def __init__(self) -> None:
        self.world = World(seed=SEED, start_ms=START_MS, quantum_ms=QUANTUM_MS)
        self.nodes: Sequence[str] = [machine.hostname for machine in self.world.machines]
        self.swarm: SwarmWriter = self.world.docker(self.nodes[0])
        self._ports = [self.world.ports_of(hostname) for hostname in self.nodes]
        self._events: list[Event] = []

    def create(self, name: str, patient: Patient) -> str:
        program = Program(
            memory=2 * MIB,
            exit_on_term=0 if patient.heeds_term else None,
            has_image=patient.has_image,
        )
        return self.world.create(_spec(name, patient), program).id

    def order(self, name: str, word: Word, whom: str = EVERYBODY) -> None:
        to = None if whom == EVERYBODY else whom
        self.world.service(name).orders.give(Order(word), FILLED, to=to)

    def relieve(self, name: str, word: Word) -> None:
        self.world.service(name).orders.relieve(Order(word))

    def kill(self, container: str) -> None:
        self.world.kill(container)

    def lose_node(self, hostname: str) -> None:
        self.world.lose(hostname)

    def return_node(self, hostname: str) -> None:
        self.world.restore(hostname)

    def drain(self, hostname: str) -> None:
        self.world.set_availability(hostname, "drain")

    def activate(self, hostname: str) -> None:
        self.world.set_availability(hostname, "active")

    def events(self) -> Sequence[Event]:
        for hostname, ports in zip(self.nodes, self._ports, strict=True):
            if self.world.machine(hostname).is_up:
                told = iter(partial(next, ports.events(lambda: False)), None)
                self._events += [event for event in told if event is not None]
        return self._events

    def figures(self) -> Mapping[str, Figures]:
        found: dict[str, Figures] = {}
        for hostname, ports in zip(self.nodes, self._ports, strict=True):
            if self.world.machine(hostname).is_up:
                found.update(figures_of(ports, ports))
        return found

    def pass_time(self, seconds: float) -> None:
        self.world.advance(round(seconds * 1000))


def _spec(name: str, patient: Patient) -> dict[str, Any]:
    rollout = {
        "Parallelism": patient.rollout.parallelism,
        "Delay": patient.rollout.delay_s * NANO,
        "FailureAction": patient.rollout.failure_action,
        "Monitor": patient.rollout.monitor_s * NANO,
        "Order": patient.rollout.order,
    }
    release = BROKEN if patient.is_broken else GOOD
    container: dict[str, Any] = {
        "Image": f"registry/{'patient' if patient.has_image else 'absent'}:1",
        # A deploy puts RELEASE last, and another order is another environment to Swarm.
        "Env": [f"{RELEASE}={release}", "TERM_IS=heeded"],
        "StopGracePeriod": NANO,
    }
    if patient.has_health_check:
        container["Healthcheck"] = {"Test": ["CMD", "x"], "Interval": NANO, "Retries": 2}
    limits = {"NanoCPUs": int(patient.cpus * NANO), "MemoryBytes": patient.memory_mib * MIB}
    return {
        "Name": name,
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": limits},
            "RestartPolicy": {
                "Condition": patient.restart.condition,
                "Delay": patient.restart.delay_s * NANO,
                "MaxAttempts": patient.restart.max_attempts,
            },
            "Placement": {"Constraints": list(patient.constraints)},
            "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": patient.replicas}},
        "UpdateConfig": rollout,
        "RollbackConfig": {**rollout, "FailureAction": "pause"},
    }
