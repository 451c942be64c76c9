"""Settings into loops: made alike for a real Swarm and for a simulated one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoheal.adapters.actuators import Actuator
from autoheal.adapters.audit import AuditLog
from autoheal.core.limits import Limits
from autoheal.engine import Engine, Rulebook, reach_ms
from autoheal.errors import UserError
from autoheal.executor import Executor, Pace
from autoheal.inventory import InventoryPublisher
from autoheal.model import Mode
from autoheal.notifier import Destination, NotifierLoop
from autoheal.outbox import Outbox
from autoheal.ports import Clock, Store, SwarmReader
from autoheal.settings import Settings
from autoheal.telemetry import Telemetry
from autoheal.units import format_duration

STALE_INVENTORIES = 4
LEASE_STEPS = 3


@dataclass(frozen=True, slots=True)
class Common:
    """What all loops of one process share. `holder` names this life of it in leases."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    holder: str

    @property
    def lease_ttl_s(self) -> float:
        """How long a silent holder keeps a lease."""
        return self.settings.lease_ttl_ms / 1000


def limits_of(settings: Settings) -> Limits:
    """The numbers that hold decisions back."""
    return Limits(
        step_ms=settings.step_ms,
        deploy_hold_ms=settings.deploy_hold_ms,
        operator_hold_ms=settings.operator_hold_ms,
        node_hold_ms=settings.node_hold_ms,
        warm_up_ms=settings.warm_up_ms,
        group_wait_ms=settings.group_wait_ms,
        settle_timeout_ms=settings.settle_timeout_ms,
        decision_expiry_ms=settings.decision_expiry_ms,
        inventory_stale_ms=STALE_INVENTORIES * settings.inventory_interval_ms,
        handover_ms=settings.lease_ttl_ms + 2 * settings.step_ms,
        breaker_failures=settings.breaker_failures,
        breaker_cool_off_ms=settings.breaker_cool_off_ms,
        actions_at_once=settings.actions_at_once,
        actions_per_hour=settings.actions_per_hour,
        outage_services=settings.outage_services,
        outage_percent=settings.outage_percent,
        outage_window_ms=settings.outage_window_ms,
        saturated_percent=settings.saturated_percent,
        saturated_window_ms=settings.saturated_window_ms,
        stable_ms=settings.stable_after_ms,
        recovery_ms=settings.recovery_after_ms,
    )


def make_publisher(common: Common, reader: SwarmReader, outbox: Outbox) -> InventoryPublisher:
    """What tells of the whole Swarm, on whichever node leads it."""
    return InventoryPublisher(
        reader,
        common.clock,
        outbox,
        interval_s=common.settings.inventory_interval_ms / 1000,
        keyframe_s=common.settings.keyframe_interval_ms / 1000,
    )


def make_engine(common: Common, memory: Store, book: Rulebook, key: bytes) -> Engine:
    """What decides. Raises UserError where settings and rules contradict one another."""
    refuse_contradictions(common.settings, book)
    return Engine(
        store=memory,
        rulebook=book,
        limits=limits_of(common.settings),
        key=key,
        clock=common.clock,
        telemetry=common.telemetry,
        holder=common.holder,
        lease_ttl_s=common.lease_ttl_s,
    )


def make_notifier(
    common: Common, memory: Store, destinations: Sequence[Destination], key: bytes, mode: Mode
) -> NotifierLoop:
    """What tells people."""
    return NotifierLoop(
        store=memory,
        destinations=destinations,
        clock=common.clock,
        telemetry=common.telemetry,
        key=key,
        holder=common.holder,
        mode=mode,
        lease_ttl_s=common.lease_ttl_s,
    )


def make_executor(
    common: Common, memory: Store, actuator: Actuator, audit: AuditLog, key: bytes
) -> Executor:
    """What carries decisions out, as far as its actuator goes. Raises UserError."""
    docker_timeout_s = common.settings.docker_timeout_ms / 1000
    pace = Pace(lease_ttl_s=common.lease_ttl_s, docker_timeout_s=docker_timeout_s)
    if pace.margin_s >= pace.lease_ttl_s:
        raise UserError(
            f"AUTOHEAL_LEASE_TTL ({pace.lease_ttl_s:g}s) must be more than twice"
            f" AUTOHEAL_DOCKER_TIMEOUT ({pace.docker_timeout_s:g}s)"
        )
    return Executor(
        store=memory,
        actuator=actuator,
        audit=audit,
        clock=common.clock,
        telemetry=common.telemetry,
        key=key,
        holder=common.holder,
        pace=pace,
    )


def refuse_contradictions(settings: Settings, book: Rulebook) -> None:
    """Raise UserError where settings and rules contradict one another."""
    step = f"AUTOHEAL_STEP ({format_duration(settings.step_ms)})"
    _require_least(
        "lease_ttl",
        settings.lease_ttl_ms,
        LEASE_STEPS * settings.step_ms,
        f"{LEASE_STEPS} times {step}",
    )
    _require_least("saturated_window", settings.saturated_window_ms, settings.step_ms, step)
    reach = reach_ms(book.rules, limits_of(settings))
    looks = f"{format_duration(reach)} for how far back the rules look"
    _require_least("samples_age", settings.samples_age_ms, reach, looks)
    counted = book.rules.longest_event_window_ms
    counts = f"{format_duration(counted)} for how far back the rules count events"
    _require_least("events_age", settings.events_age_ms, counted, counts)
    if settings.actions_at_once > settings.actions_per_hour:
        raise UserError(
            f"AUTOHEAL_ACTIONS_AT_ONCE ({settings.actions_at_once}) must not be more than"
            f" AUTOHEAL_ACTIONS_PER_HOUR ({settings.actions_per_hour})"
        )


def _require_least(name: str, value_ms: int, least_ms: int, words: str) -> None:
    """Refuse a duration that another one makes too short; `words` say what it must be at least."""
    if value_ms < least_ms:
        given = f"AUTOHEAL_{name.upper()} ({format_duration(value_ms)})"
        raise UserError(f"{given} must be at least {words}")
