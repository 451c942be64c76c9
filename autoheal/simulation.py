"""All loops of an autoheal on a simulated Swarm: on one thread, in simulated time, step by step.

Every loop takes a millisecond of that time, so that what one writes is older than the cut of the
next. So the same world gives the same entries at the same times, and the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoheal.collector import Collector
from autoheal.engine import Engine
from autoheal.executor import Executor
from autoheal.inventory import InventoryPublisher
from autoheal.model import Mode
from autoheal.notifier import NotifierLoop
from autoheal.sim.machine import Machine
from autoheal.sim.scenario import Happening, Scenario
from autoheal.sim.world import World


@dataclass(frozen=True, slots=True)
class NodeLoops:
    """What runs on one node. `publisher` is idle where the node does not lead the Swarm."""

    machine: Machine
    collector: Collector
    publisher: InventoryPublisher


@dataclass(frozen=True, slots=True)
class Acting:
    """The loops that are told how far to go."""

    executor: Executor
    notifier: NotifierLoop

    def stop(self) -> None:
        """Hand over to others."""
        self.executor.stop()
        self.notifier.stop()


@dataclass(frozen=True, slots=True)
class Loops:
    """Everything that runs; `acting` makes what acts in a mode."""

    nodes: Sequence[NodeLoops]
    engine: Engine
    acting: Callable[[Mode], Acting]


class Simulation:
    """A world with an autoheal in it. `step()` is one step of the engine."""

    def __init__(self, world: World, loops: Loops, scenario: Scenario, step_ms: int) -> None:
        self.world = world
        self.mode = Mode.LIVE if scenario.live_at_ms <= 0 else Mode.DRY_RUN
        self._loops = loops
        self._acting = loops.acting(self.mode)
        self._start_ms = world.now_ms
        self._due = sorted(scenario.happenings, key=lambda happening: happening.at_ms)
        self._step_ms = step_ms
        self._steps = 0
        self._changes = 0

    @property
    def elapsed_ms(self) -> int:
        """Simulated time since the beginning, in whole steps."""
        return self._steps * self._step_ms

    def go_live(self) -> None:
        """Others take over, whose decisions are carried out."""
        self.mode = Mode.LIVE
        self._acting.stop()
        self._acting = self._loops.acting(self.mode)

    def step(self) -> list[Happening]:
        """Let one step pass, then run every loop once; what happened in the world."""
        self._steps += 1
        happened = []
        end_ms = self._start_ms + self.elapsed_ms
        while self.world.now_ms < end_ms:
            happened += self._happen()
            self.world.advance_to(min(end_ms, self.world.now_ms + self.world.quantum_ms))
            self._listen()
        for node in self._loops.nodes:
            if node.machine.is_up:
                self._run(node.collector.tick)
        acting = self._acting
        for tick in (self._loops.engine.tick, acting.executor.tick, acting.notifier.tick):
            self._run(tick)
        return happened

    def _happen(self) -> list[Happening]:
        """What is due now is done."""
        now_ms = self.world.now_ms - self._start_ms
        happened = []
        while self._due and self._due[0].at_ms <= now_ms:
            happened.append(self._due.pop(0))
            happened[-1].act(self.world)
        return happened

    def _listen(self) -> None:
        """Events are told at once, and the inventory soon after something changed."""
        is_changed = self._changes != self.world.swarm.changes
        self._changes = self.world.swarm.changes
        for node in self._loops.nodes:
            if not node.machine.is_up:
                continue
            node.collector.hear()
            if is_changed:
                node.publisher.poke()
            if node.publisher.seconds_until_due() == 0:
                node.publisher.tick()

    def _run(self, tick: Callable[[], None]) -> None:
        tick()
        self.world.clock.advance_to(self.world.now_ms + 1)
