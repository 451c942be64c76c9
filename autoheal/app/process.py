"""One process of autoheal: what its parts share, before any of them is added."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import context_store
from autoheal.adapters.actuators import Actuator, DryRunActuator, LiveActuator
from autoheal.adapters.clock import SystemClock, boot_id
from autoheal.adapters.docker_api import ReadOnlyDocker, WritableDocker
from autoheal.app.loops import Common
from autoheal.app.stores import Memory
from autoheal.model import Mode
from autoheal.outbox import Outbox
from autoheal.ports import Clock
from autoheal.runner import Runner
from autoheal.settings import Settings
from autoheal.telemetry import Telemetry


@dataclass(frozen=True)
class Process:
    """All parts of one process; `at_end` is what they want done when it ends, in order."""

    common: Common
    runner: Runner
    at_end: list[Callable[[], None]] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings) -> Process:
        """A process that runs nothing yet."""
        clock = SystemClock()
        telemetry = Telemetry(clock)
        holder = f"{socket.gethostname()}-{boot_id()}"
        common = Common(settings, clock, telemetry, holder)
        return cls(common, Runner(clock=clock, telemetry=telemetry))

    @property
    def settings(self) -> Settings:
        """As they were given."""
        return self.common.settings

    @property
    def clock(self) -> Clock:
        """The clock of this machine."""
        return self.common.clock

    @property
    def telemetry(self) -> Telemetry:
        """What this process says of itself."""
        return self.common.telemetry

    def outbox(self, name: str, store: context_store.Store) -> Outbox:
        """A buffer, and a writer of its own, before the store."""
        return Outbox(name, Memory(store, self.clock), self.telemetry)

    def docker(self) -> ReadOnlyDocker:
        """A reader of the local engine, which can do nothing else."""
        return ReadOnlyDocker(self.settings.docker_url, timeout_s=self._docker_timeout_s)

    def actuator(self) -> Actuator:
        """Dry run is a wiring: then there is nothing here that could write."""
        if self.settings.mode is Mode.DRY_RUN:
            return DryRunActuator(self.docker())
        url = self.settings.docker_url
        return LiveActuator(WritableDocker(url, timeout_s=self._docker_timeout_s))

    def wait(
        self, memory: Memory, cursors: Mapping[str, str], streams: frozenset[str], at_most_s: float
    ) -> bool:
        """Wait for news on some of the streams that a loop reads; see Loop.wait."""
        wanted = {stream: cursor for stream, cursor in cursors.items() if stream in streams}
        if not wanted:
            return self.runner.rest(at_most_s)
        return memory.wait(wanted, at_most_s)

    @property
    def _docker_timeout_s(self) -> float:
        return self.settings.docker_timeout_ms / 1000
