"""What happens in a world: its nodes, its services, and what befalls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoheal.sim.machine import NodePlan
from autoheal.sim.program import Program
from autoheal.sim.world import THREE_NODES, World

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
# A Monday, nine in the morning.
START_MS = 1_767_603_600_000
# The labels of a service on which autoheal may do everything.
ARMED: Mapping[str, str] = {
    "autoheal.enable": "true",
    "autoheal.allow": "scale_up,scale_down,restart,raise_memory",
}


def _nothing(_: World) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happens `at_ms` after the beginning, and the words it is told in.

    What loads and programs do by themselves is only told.
    """

    at_ms: int
    words: str
    act: Callable[[World], None] = _nothing


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world and its hours.

    `services` are specs with their programs; `focus` is the one whose load is shown. Decisions are
    carried out from `live_at_ms` on. `settings` are AUTOHEAL_* by name, each with a reason beside
    it where it is written.
    """

    name: str
    about: str
    focus: str
    live_at_ms: int
    total_ms: int
    services: Sequence[tuple[Mapping[str, Any], Program]]
    happenings: Sequence[Happening]
    nodes: Sequence[NodePlan] = THREE_NODES
    settings: Mapping[str, str] = field(default_factory=dict)

    def world(self, seed: int, quantum_ms: int) -> World:
        """Its world at the beginning: everything has been running for an hour."""
        world = World(
            seed=seed, start_ms=START_MS - HOUR_MS, nodes=self.nodes, quantum_ms=MINUTE_MS
        )
        for spec, program in self.services:
            world.create(spec, program)
        world.advance_to(START_MS)
        for machine in world.machines:
            machine.events.clear()  # nobody listened yet
        world.quantum_ms = quantum_ms
        return world
