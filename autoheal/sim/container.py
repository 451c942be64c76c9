"""One container: it uses CPU and memory, answers its health check, and ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from autoheal.sim.objects import NANO, duration_ms, section
from autoheal.sim.program import Order, Orders, Program, release_of

KILLED = 137
CRASHED = 3
GRACE_MS = 10_000
# Docker's defaults for a health check that does not say.
CHECK_INTERVAL_MS = 30_000
CHECK_RETRIES = 3
# What a program burns where no limit stops it.
BURN_CORES = 1.0
# A child that needs more memory than there is tries again.
JOB_EVERY_MS = 2_000


class Health(Enum):
    """What Docker says of a container with a health check; NONE for one without."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class Sign(Enum):
    """What a container tells of itself; its end tells itself by `exit_code`."""

    OOM_KILLED = "oom_killed"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Limits:
    """CPU in cores, memory in bytes; None is no limit."""

    cpu: float | None
    memory: int | None

    @classmethod
    def of(cls, template: Mapping[str, Any]) -> Limits:
        """The limits in a task template."""
        limits = section(template, "Resources", "Limits")
        nano, memory = limits.get("NanoCPUs"), limits.get("MemoryBytes")
        return cls(nano / NANO if nano else None, memory or None)


class Container:
    """The process of one task; `exit_code` is None while it lives.

    `cpu_seconds` and `throttled_seconds` only rise.
    """

    def __init__(
        self, name: str, template: Mapping[str, Any], program: Program, orders: Orders, now_ms: int
    ) -> None:
        self.id = name
        self.limits = Limits.of(template)
        self.program = program
        self.memory = program.memory
        self.cpu_seconds = 0.0
        self.throttled_seconds = 0.0
        self.exit_code: int | None = None
        self.is_stopped = False
        self._orders = orders
        self._started_ms = now_ms
        self._is_broken = release_of(template) in program.broken
        self._ends_at_ms: int | None = None
        self._leaked = 0.0
        self._next_job_ms = 0
        self._grace_ms = duration_ms(
            section(template, "ContainerSpec"), "StopGracePeriod", GRACE_MS
        )
        self._begin_checks(section(template, "ContainerSpec", "Healthcheck"))

    def _begin_checks(self, check: Mapping[str, Any]) -> None:
        has_check = bool(check.get("Test")) and check["Test"] != ["NONE"]
        self.health = Health.STARTING if has_check else Health.NONE
        self._interval_ms = duration_ms(check, "Interval", 0) or CHECK_INTERVAL_MS
        self._retries = check.get("Retries") or CHECK_RETRIES
        self._forgiven_until_ms = self._started_ms + duration_ms(check, "StartPeriod", 0)
        self._next_check_ms = self._started_ms + self._interval_ms
        self._failures = 0

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.exit_code is None

    def serves(self, now_ms: int) -> bool:
        """Whether it takes its share of the load."""
        return (
            self.is_alive
            and not self.is_stopped
            and now_ms - self._started_ms >= self.program.start_up_ms
            and not self._orders.holds(Order.IDLE, self.id)
        )

    def wants_cores(self, now_ms: int, share: float) -> float:
        """The CPU it would use, could it have all that it asks for; `share` is its part."""
        if not self.is_alive:
            return 0.0
        if now_ms - self._started_ms < self.program.start_up_ms:
            return self.program.start_up_cores
        if self._orders.holds(Order.BURN, self.id):
            return self.limits.cpu or BURN_CORES
        return share if self.serves(now_ms) else 0.0

    def allowed_cores(self, wanted: float) -> float:
        """What its limit leaves of it."""
        return wanted if self.limits.cpu is None else min(wanted, self.limits.cpu)

    def live(self, now_ms: int, elapsed_ms: int, wanted: float, used: float) -> list[Sign]:
        """Pass time: use CPU, hold memory, be checked; what it tells of itself."""
        if not self.is_alive:
            return []
        seconds = elapsed_ms / 1000
        self.cpu_seconds += used * seconds
        if wanted > self.allowed_cores(wanted):
            # The kernel counts periods in which it stopped the container, not what was lacking.
            self.throttled_seconds += seconds
        told = self._hold_memory(now_ms, seconds, used)
        if self.is_alive:
            self._follow_orders(now_ms)
        return told + self._be_checked(now_ms)

    def stop(self, now_ms: int) -> None:
        """Send it TERM; what ignores it is killed after the grace period."""
        if self.is_alive and not self.is_stopped:
            self.is_stopped = True
            obeys = self.program.exit_on_term is not None
            self._ends_at_ms = now_ms + (self.program.stop_ms if obeys else self._grace_ms)

    def kill(self) -> None:
        """Somebody kills it through Docker."""
        self.is_stopped = True
        self.exit_code = KILLED

    def _follow_orders(self, now_ms: int) -> None:
        if self._ends_at_ms is not None and now_ms >= self._ends_at_ms:
            code = self.program.exit_on_term
            self.exit_code = KILLED if code is None else code
        elif self._is_broken or self._orders.holds(Order.CRASH, self.id):
            self.exit_code = CRASHED
        elif self._orders.holds(Order.FINISH, self.id):
            self.exit_code = 0

    def _hold_memory(self, now_ms: int, seconds: float, used: float) -> list[Sign]:
        orders = self._orders
        self._leaked += (orders.amount(Order.LEAK, self.id) or 0) * seconds
        held = self.program.memory + self.program.memory_per_core * used + self._leaked
        self.memory = int(held) + (orders.amount(Order.FILL, self.id) or 0)
        limit = self.limits.memory
        if limit is None:
            return []
        if self.memory > limit:
            self.memory = limit
            self.exit_code = KILLED
            return [Sign.OOM_KILLED]
        needed = orders.amount(Order.JOB, self.id)
        if needed is not None and now_ms >= self._next_job_ms:
            self._next_job_ms = now_ms + JOB_EVERY_MS
            if self.memory + needed > limit:
                return [Sign.OOM_KILLED]
        return []

    def _be_checked(self, now_ms: int) -> list[Sign]:
        if not self.is_alive or self.is_stopped or self.health is Health.NONE:
            return []
        if now_ms < self._next_check_ms:
            return []
        self._next_check_ms = now_ms + self._interval_ms
        if not self._orders.holds(Order.SICK, self.id):
            self._failures = 0
            self.health = Health.HEALTHY
        elif self.health is not Health.STARTING or now_ms >= self._forgiven_until_ms:
            self._failures += 1
        if self._failures < self._retries or self.health is Health.UNHEALTHY:
            return []
        self.health = Health.UNHEALTHY
        return [Sign.UNHEALTHY]
