"""An autoheal around a simulated Swarm: the same loops, in simulated time, on a passing store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import context_store
from autoheal.adapters.actuators import Actuator, DryRunActuator, LiveActuator
from autoheal.adapters.audit import AuditLog
from autoheal.app.loops import (
    Common,
    make_engine,
    make_executor,
    make_notifier,
    make_publisher,
)
from autoheal.app.parts import KEY_BYTES
from autoheal.app.stores import Memory, as_lease, connect_to
from autoheal.collector import Collector, Sources
from autoheal.engine import Rulebook
from autoheal.errors import UserError
from autoheal.executor import Executor
from autoheal.model import Mode
from autoheal.notifier import Destination, NotifierLoop
from autoheal.outbox import Outbox
from autoheal.ports import Alert, Clock, Cut, Lease, Reader
from autoheal.settings import Settings
from autoheal.sim.machine import Machine
from autoheal.sim.scenario import Scenario
from autoheal.sim.world import World
from autoheal.simulation import Acting, Loops, NodeLoops, Simulation
from autoheal.telemetry import Telemetry

STORE_BYTES = 512 * 2**20
# Simulated time may stand still for as long as somebody likes to look at it.
LEASE_KEPT_S = 7 * 24 * 3600.0
# Time passes in the world in quanta, five to a step of the engine.
QUANTA = 5


class SimulatedMemory(Memory):
    """The context store in simulated time, which gives the ids and the cuts.

    Leases last in the store for as long as the simulation may; to their holder they end as always.
    """

    def now_ms(self) -> int:
        """See ports.Store."""
        return self._clock.wall_ms()

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """See ports.Store."""
        return _CutReader(self._store.reader(streams, since_ms=since_ms), self._clock)

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._until(super().acquire(name, holder, LEASE_KEPT_S), ttl_s)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._until(super().renew(lease, LEASE_KEPT_S), ttl_s)

    def _until(self, lease: Lease | None, ttl_s: float) -> Lease | None:
        """The lease with its end in simulated time."""
        if lease is None:
            return None
        return replace(as_lease(lease), deadline=self._clock.monotonic() + ttl_s)

    def _entry_id(self) -> str:
        return f"{self._clock.wall_ms()}-*"


@dataclass(frozen=True, slots=True)
class _CutReader:
    """A reader whose cuts are at the simulated now."""

    reader: context_store.Reader
    clock: Clock

    @property
    def cursors(self) -> Mapping[str, str]:
        """See ports.Reader."""
        return self.reader.cursors

    def cut(self) -> Cut:
        """See ports.Reader."""
        return self.reader.cut(self.clock.wall_ms())


class Onlooker:
    """A Notifier: whoever watches a simulation is told by the decision itself."""

    name = "this screen"

    def send(self, alerts: Sequence[Alert]) -> None:
        """See ports.Notifier."""
        del alerts


@contextmanager
def passing_store(clock: Clock) -> Iterator[context_store.Store]:
    """An embedded store of which nothing is left afterwards. Raises UserError."""
    server = context_store.EmbeddedServer(maxmemory_bytes=STORE_BYTES)
    try:
        store = connect_to(_started(server), clock)
        with closing(store):
            yield store
    finally:
        server.stop()


def _started(server: context_store.EmbeddedServer) -> str:
    try:
        return server.start()
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        raise UserError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loops of one simulation share."""

    common: Common
    world: World
    store: context_store.Store
    book: Rulebook
    key: bytes

    def memory(self) -> SimulatedMemory:
        """The store, for one more writer."""
        return SimulatedMemory(self.store, self.world.clock)


def simulation(
    settings: Settings,
    scenario: Scenario,
    world: World,
    store: context_store.Store,
    book: Rulebook,
) -> Simulation:
    """A whole autoheal around this world. Raises UserError where rules and settings disagree."""
    common = Common(settings, world.clock, Telemetry(world.clock), holder="simulated")
    parts = Parts(common, world, store, book, secrets.token_hex(KEY_BYTES).encode())
    loops = Loops(
        nodes=[_node(parts, machine) for machine in world.machines],
        engine=make_engine(common, parts.memory(), book, parts.key),
        acting=lambda mode: Acting(_executor(parts, mode), _notifier(parts, mode)),
    )
    return Simulation(world, loops, scenario, settings.step_ms)


def _node(parts: Parts, machine: Machine) -> NodeLoops:
    common = parts.common
    ports = parts.world.ports_of(machine.hostname)

    def outbox(name: str) -> Outbox:
        return Outbox(f"{name}-{machine.hostname}", parts.memory(), common.telemetry)

    collector = Collector(
        machine.id,
        Sources(containers=ports, stats=ports, node=ports, events=ports),
        common.clock,
        common.telemetry,
        samples=outbox("samples"),
        events=outbox("events"),
    )
    docker = parts.world.docker(machine.hostname)
    return NodeLoops(machine, collector, make_publisher(common, docker, outbox("inventory")))


def _executor(parts: Parts, mode: Mode) -> Executor:
    leader = next(machine for machine in parts.world.machines if machine.is_leader)
    docker = parts.world.docker(leader.hostname)
    actuator: Actuator = DryRunActuator(docker) if mode is Mode.DRY_RUN else LiveActuator(docker)
    audit = AuditLog(None, parts.common.clock)
    return make_executor(parts.common, parts.memory(), actuator, audit, parts.key)


def _notifier(parts: Parts, mode: Mode) -> NotifierLoop:
    destinations = [Destination(Onlooker())]
    return make_notifier(parts.common, parts.memory(), destinations, parts.key, mode)
