"""Settings into parts: what each loop is handed, and when it runs.

Dry run is decided here, by what the executor is handed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import context_store
from autoheal import records
from autoheal.adapters.alertmanager import Alertmanager
from autoheal.adapters.audit import AuditLog
from autoheal.adapters.cgroup import CgroupStats
from autoheal.adapters.containers import TaskContainers, container_pid
from autoheal.adapters.docker_api import ReadOnlyDocker
from autoheal.adapters.docker_events import DockerEvents
from autoheal.adapters.node import ProcNode
from autoheal.adapters.stats_api import ApiStats, AutoStats
from autoheal.adapters.webhook import Webhook
from autoheal.app.loops import (
    make_engine,
    make_executor,
    make_notifier,
    make_publisher,
)
from autoheal.app.process import Process
from autoheal.app.rules import add_reload, add_sources
from autoheal.app.stores import Memory, data_directory, retention
from autoheal.collector import EVENTS_LOOP, Collector, Sources
from autoheal.engine import LEASE, Engine, Rulebook
from autoheal.errors import UserError
from autoheal.notifier import Destination
from autoheal.ports import StatsSource
from autoheal.runner import Job, Loop
from autoheal.settings import Settings, Stats

KEY_BYTES = 32
REST_S = 0.05
INVENTORY_LOOK_S = 0.5
EVENTS_STALE_S = 60.0
ENGINE_REST_S = 0.25
NOTIFIER_PERIOD_S = 1.0
EXECUTOR_PERIOD_S = 1.0
HOUSEKEEPING_S = 60.0
# What lets the engine decide before its step is over; samples come with every step anyway.
NEWS = frozenset({records.EVENTS, records.INVENTORY, records.OUTCOMES, records.COMMANDS})
DECIDED = frozenset({records.DECISIONS})


def signing_key(settings: Settings) -> bytes:
    """The key that was given; parts in separate processes cannot do without."""
    if settings.signing_key is None:
        raise UserError(
            "no signing key: engine and executor must share one"
            " (set AUTOHEAL_SIGNING_KEY_FILE, or the secret autoheal_signing_key)"
        )
    return settings.signing_key.get_secret_value()


def own_key(settings: Settings) -> bytes:
    """The key that was given, else one made once and kept: what is in flight outlives a restart."""
    if settings.signing_key is not None:
        return settings.signing_key.get_secret_value()
    path = data_directory(settings) / "signing_key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_hex(KEY_BYTES).encode()
        # Whole or not at all: an empty file would be taken for the key at the next start.
        part = path.with_suffix(".part")
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(key)
        part.rename(path)
        return key


def add_collector(process: Process, store: context_store.Store, node: str) -> Collector:
    """Samples and events of this node, and the inventory while it leads the Swarm."""
    settings, clock, telemetry = process.settings, process.clock, process.telemetry
    docker = process.docker()
    containers = TaskContainers(docker, clock)
    publisher = make_publisher(process.common, docker, process.outbox("inventory", store))

    def changed() -> None:
        containers.poke()
        publisher.poke()

    sources = Sources(
        containers=containers,
        stats=_stats(process, docker),
        node=ProcNode(str(settings.node_root / "proc")),
        events=DockerEvents(docker, clock, node, on_change=changed),
    )
    collector = Collector(
        node,
        sources,
        clock,
        telemetry,
        samples=process.outbox("samples", store),
        events=process.outbox("events", store),
    )
    step_s = settings.step_ms / 1000
    process.runner.add_job(
        Job("collector", collector.tick, step_s, lambda: _to_middle_of_slot(store, settings))
    )

    def due(at_most_s: float) -> bool:
        process.runner.rest(min(at_most_s, INVENTORY_LOOK_S))
        return publisher.seconds_until_due() == 0

    interval_s = settings.inventory_interval_ms / 1000
    process.runner.add_loop(Loop("inventory", publisher.tick, due, interval_s))
    telemetry.expect(EVENTS_LOOP, EVENTS_STALE_S)
    process.at_end.append(collector.stop)
    return collector


def _to_middle_of_slot(store: context_store.Store, settings: Settings) -> float:
    """Seconds until the middle of a slot, where no jitter moves a sample to its neighbour."""
    try:
        phase_ms = store.now_ms() % settings.step_ms
    except context_store.StoreUnavailable:
        return 0.0
    return ((settings.step_ms // 2 - phase_ms) % settings.step_ms) / 1000


def _stats(process: Process, docker: ReadOnlyDocker) -> StatsSource:
    settings, clock = process.settings, process.clock
    cgroup = CgroupStats(
        clock,
        cgroup_root=str(settings.cgroup_root),
        proc_root=str(settings.proc_root),
        pid_of=lambda container: container_pid(docker, container),
    )
    api = ApiStats(docker, clock)
    process.at_end.append(api.close)
    match settings.stats:
        case Stats.CGROUP:
            return cgroup
        case Stats.API:
            return api
        case Stats.AUTO:
            return AutoStats(cgroup, api)


def add_engine(process: Process, store: context_store.Store, book: Rulebook, key: bytes) -> Engine:
    """Decisions, the figures from elsewhere that they rest on, and the delivery of escalations."""
    settings = process.settings
    memory = Memory(store, process.clock)
    engine = make_engine(process.common, memory, book, key)
    process.runner.add_loop(
        Loop(
            "engine",
            engine.tick,
            lambda at_most_s: process.wait(memory, engine.cursors, NEWS, at_most_s),
            settings.step_ms / 1000,
            rest_s=ENGINE_REST_S,
        )
    )
    add_reload(process, engine, add_sources(process, store, book), book)
    notifier = make_notifier(
        process.common,
        Memory(store, process.clock),
        _destinations(process),
        key,
        settings.mode,
    )
    process.runner.add_loop(
        Loop(
            "notifier",
            notifier.tick,
            lambda at_most_s: process.wait(memory, notifier.cursors, DECIDED, at_most_s),
            NOTIFIER_PERIOD_S,
            rest_s=REST_S,
        )
    )

    def keep_house() -> None:
        # A full store lets nobody lead: then anybody must make room.
        if engine.is_leader or store.holder(LEASE) is None:
            store.trim(retention(settings))

    process.runner.add_job(Job("housekeeping", keep_house, HOUSEKEEPING_S))
    process.at_end.extend([engine.stop, notifier.stop])
    return engine


def _destinations(process: Process) -> list[Destination]:
    settings = process.settings
    resend_s = settings.resend_interval_ms / 1000
    destinations = []
    if settings.alertmanager_url is not None:
        told = Alertmanager(
            settings.alertmanager_url, clock=process.clock, mode=settings.mode, resend_s=resend_s
        )
        destinations.append(Destination(told, resend_s))
    if settings.webhook_url is not None:
        hook = Webhook(settings.webhook_url.get_secret_value(), mode=settings.mode)
        destinations.append(Destination(hook))
    return destinations


def add_executor(
    process: Process, store: context_store.Store, key: bytes, audit_file: Path | None
) -> None:
    """The only part that may write to Docker, if the mode is live."""
    memory = Memory(store, process.clock)
    audit = AuditLog(audit_file, process.clock)
    executor = make_executor(process.common, memory, process.actuator(), audit, key)
    process.runner.add_loop(
        Loop(
            "executor",
            executor.tick,
            lambda at_most_s: process.wait(memory, executor.cursors, DECIDED, at_most_s),
            EXECUTOR_PERIOD_S,
            rest_s=REST_S,
        )
    )
    process.at_end.append(executor.stop)
