"""An autoheal around a simulated Swarm: the same loops, in simulated time, on a passing store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import context_store
from autoheal.adapters.actuators import Actuator, DryRunActuator, LiveActuator
from autoheal.adapters.audit import AuditLog
from autoheal.app.parts import KEY_BYTES, limits_of
from autoheal.app.stores import Memory
from autoheal.collector import Collector, Sources
from autoheal.demo.scenario import Scenario
from autoheal.demo.simulation import Loops, NodeLoops, Simulation
from autoheal.engine import Engine, Rulebook
from autoheal.errors import UserError
from autoheal.executor import Executor, Pace
from autoheal.inventory import InventoryPublisher
from autoheal.model import Mode
from autoheal.notifier import Destination, NotifierLoop
from autoheal.outbox import Outbox
from autoheal.ports import Alert, Clock, Cut, Lease, Reader, Write
from autoheal.settings import Settings
from autoheal.sim.machine import Machine
from autoheal.sim.world import World
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

    def __init__(self, store: context_store.Store, clock: Clock) -> None:
        super().__init__(store, clock)
        self._simulated = store
        self._time = clock

    def now_ms(self) -> int:
        """See ports.Store."""
        return self._time.wall_ms()

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """See ports.Store."""
        return _CutReader(self._simulated.reader(streams, since_ms=since_ms), self._time)

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        lease = self._simulated.acquire(name, holder, LEASE_KEPT_S)
        return None if lease is None else replace(lease, deadline=self._time.monotonic() + ttl_s)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        renewed = super().renew(lease, LEASE_KEPT_S)
        if not isinstance(renewed, context_store.Lease):
            return None
        return replace(renewed, deadline=self._time.monotonic() + ttl_s)

    def _append(self, write: Write) -> context_store.Append:
        return replace(super()._append(write), id=f"{self._time.wall_ms()}-*")


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
        store = context_store.Store.connect(server.start(), monotonic=clock.monotonic)
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        server.stop()
        raise UserError(str(error)) from error
    try:
        yield store
    finally:
        store.close()
        server.stop()


@dataclass(frozen=True)
class Parts:
    """What the loops of one simulation share."""

    settings: Settings
    world: World
    store: context_store.Store
    book: Rulebook
    telemetry: Telemetry
    key: bytes

    def memory(self) -> SimulatedMemory:
        """The store, for one more writer."""
        return SimulatedMemory(self.store, self.world.clock)

    @property
    def lease_ttl_s(self) -> float:
        """How long a silent holder keeps a lease, in simulated time."""
        return self.settings.lease_ttl_ms / 1000


def simulation(
    settings: Settings,
    scenario: Scenario,
    world: World,
    store: context_store.Store,
    book: Rulebook,
) -> Simulation:
    """A whole autoheal around this world."""
    parts = Parts(
        settings=settings,
        world=world,
        store=store,
        book=book,
        telemetry=Telemetry(world.clock),
        key=secrets.token_hex(KEY_BYTES).encode(),
    )
    loops = Loops(
        nodes=[_node(parts, machine) for machine in world.machines],
        engine=_engine(parts),
        notifier=_notifier(parts),
        executor=lambda mode: _executor(parts, mode),
    )
    return Simulation(world, loops, scenario.happenings, settings.step_ms)


def _node(parts: Parts, machine: Machine) -> NodeLoops:
    clock, telemetry = parts.world.clock, parts.telemetry
    ports = parts.world.node(machine.hostname)

    def outbox(name: str) -> Outbox:
        return Outbox(f"{name}-{machine.hostname}", parts.memory(), telemetry)

    collector = Collector(
        machine.id,
        Sources(containers=ports, stats=ports, node=ports, events=ports),
        clock,
        telemetry,
        samples=outbox("samples"),
        events=outbox("events"),
    )
    publisher = InventoryPublisher(
        parts.world.docker(machine.hostname),
        clock,
        outbox("inventory"),
        interval_s=parts.settings.inventory_interval_ms / 1000,
        keyframe_s=parts.settings.keyframe_interval_ms / 1000,
    )
    return NodeLoops(machine, collector, publisher)


def _engine(parts: Parts) -> Engine:
    return Engine(
        store=parts.memory(),
        rulebook=parts.book,
        limits=limits_of(parts.settings),
        key=parts.key,
        clock=parts.world.clock,
        telemetry=parts.telemetry,
        holder="engine",
        lease_ttl_s=parts.lease_ttl_s,
    )


def _notifier(parts: Parts) -> NotifierLoop:
    return NotifierLoop(
        store=parts.memory(),
        destinations=[Destination(Onlooker())],
        clock=parts.world.clock,
        telemetry=parts.telemetry,
        key=parts.key,
        holder="notifier",
        mode=Mode.LIVE,
        lease_ttl_s=parts.lease_ttl_s,
    )


def _executor(parts: Parts, mode: Mode) -> Executor:
    leader = next(machine for machine in parts.world.machines if machine.is_leader)
    docker = parts.world.docker(leader.hostname)
    actuator: Actuator = DryRunActuator(docker) if mode is Mode.DRY_RUN else LiveActuator(docker)
    return Executor(
        store=parts.memory(),
        actuator=actuator,
        audit=AuditLog(None, parts.world.clock),
        clock=parts.world.clock,
        telemetry=parts.telemetry,
        key=parts.key,
        holder=f"executor-{mode.value}",
        pace=Pace(
            lease_ttl_s=parts.lease_ttl_s,
            docker_timeout_s=parts.settings.docker_timeout_ms / 1000,
        ),
    )
