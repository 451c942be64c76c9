"""A store, a world written into it, and engines that are stepped on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import builders
from autoheal import records, rulefile
from autoheal.adapters.clock import SystemClock
from autoheal.app import stores
from autoheal.core.limits import Limits
from autoheal.core.state import ServiceState, unpack
from autoheal.engine import Engine, Rulebook
from autoheal.model import Command, Incident
from autoheal.ports import Lease, Write
from autoheal.telemetry import Telemetry
from store.servers import TcpServer

KEY = b"k" * 32
STEP_MS = 1_000
WINDOW_S = 4
RULES = {
    "rules.yaml": b"""
rules:
  - name: cpu-high
    when: {metric: cpu_cores, over: 4s, above: 0.5}
    then: {action: scale_up, by: 1, max: 5}
"""
}
# What is told of a kill for memory, and for how long: that of one window.
PAGE = {
    "rules.yaml": b"""
rules:
  - name: oom
    when: {event: oom_killed, over: 4s, at_least: 1}
    then: {action: escalate, severity: critical}
"""
}
LIMITS = Limits(
    step_ms=STEP_MS,
    deploy_hold_ms=0,
    operator_hold_ms=0,
    node_hold_ms=0,
    warm_up_ms=0,
    group_wait_ms=0,
    saturated_window_ms=WINDOW_S * 1_000,
    recovery_ms=3_000,
    inventory_stale_ms=600_000,
    handover_ms=600_000,
)


class Clock(SystemClock):
    """The real clock, which a test can put forward."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Memory(stores.Memory):
    """The real store, with faults on order."""

    lose_commit_replies = 0

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        done = super().commit(lease, state=state, marker=marker, writes=writes)
        if self.lose_commit_replies:
            self.lose_commit_replies -= 1
            raise ConnectionError("the reply was lost")
        return done


@dataclass
class Scene:
    """A store, a world written into it, and engines on it."""

    server: TcpServer
    clock: Clock
    sequence: int = 0

    def memory(self) -> Memory:
        return Memory(stores.connect_to(self.server.url, self.clock), self.clock)

    def engine(
        self,
        name: str,
        memory: stores.Memory | None = None,
        rules: Mapping[str, bytes] = RULES,
    ) -> Engine:
        return Engine(
            store=memory or self.memory(),
            rulebook=Rulebook(rulefile.parse(rules), rules),
            limits=LIMITS,
            key=KEY,
            clock=self.clock,
            telemetry=Telemetry(self.clock),
            holder=name,
            lease_ttl_s=30.0,
        )

    def write(self, stream: str, fields: Mapping[str, bytes], *, age_s: float = 0.0) -> None:
        self.sequence += 1
        taken = self.clock.monotonic() - age_s
        self.writer.append([Write(stream, fields, self.sequence, taken)])

    def publish(self, *, cores: float = 0.9, seen_s: int = WINDOW_S + 2) -> None:
        """One busy service, seen for the whole window."""
        wall = self.clock.wall_ms()
        an_hour_ago = wall - builders.HOUR
        service = builders.service(
            replicas=1, created_at_ms=an_hour_ago, updated_at_ms=an_hour_ago, labels=builders.ARMED
        )
        task = builders.task(since_ms=an_hour_ago)
        inventory = builders.inventory(
            services=[service],
            tasks=[task],
            nodes=[builders.node()],
            keyframe=True,
            clock_ms=wall,
        )
        self.write(records.INVENTORY, records.pack_inventory(inventory))
        for age_s in range(seen_s, -1, -1):
            self.sample(cores, age_s=age_s)

    def sample(self, cores: float = 0.9, *, age_s: float = 0.0) -> None:
        """The service's task is seen once."""
        sampled = builders.batch({"web.1": [cores]}, roster=[builders.roster_row()])
        self.write(records.SAMPLES, records.pack_samples(sampled), age_s=age_s)

    def decide(self, engine: Engine) -> None:
        """Tick until something is decided; a machine may stand still, so samples go on."""
        sampled_at = time.monotonic()

        def decided() -> object:
            nonlocal sampled_at
            if time.monotonic() - sampled_at >= STEP_MS / 1000:
                sampled_at = time.monotonic()
                self.sample()
            return self.entries(records.DECISIONS)

        tick_until(engine, decided)

    def kill_for_memory(self) -> None:
        """The kernel kills a process of the service."""
        self.write(records.EVENTS, records.pack_event(builders.event("oom_killed")))

    def reset(self, rule: str = "") -> None:
        """Somebody lets the rule act on the service again."""
        command = Command("reset", "web", rule, "ann@host")
        self.write(records.COMMANDS, records.pack_command(command))

    def __post_init__(self) -> None:
        self.writer = self.memory()

    def entries(self, stream: str) -> Sequence[Mapping[str, bytes]]:
        found = self.memory().reader((stream,), since_ms=0).cut().entries
        return [entry.fields for entry in found]

    def incidents(self) -> list[Incident]:
        return [records.unpack_incident(fields) for fields in self.entries(records.INCIDENTS)]

    def web(self) -> ServiceState:
        """What is remembered of the service."""
        return unpack(self.memory().state()).services["web"]

    def ticks(self) -> list[int]:
        return [records.unpack_tick(fields).number for fields in self.entries(records.TICKS)]


def tick_until(engine: Engine, condition: Callable[[], object], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        engine.tick()
        time.sleep(0.01)
