"""The composition root: the only place where parts are built and joined.

It alone knows the context store. Dry run is decided here, by what the executor is handed.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import context_store
from autoheal import __version__, records, rulefile, status
from autoheal.adapters.actuators import Actuator, DryRunActuator, LiveActuator
from autoheal.adapters.alertmanager import Alertmanager
from autoheal.adapters.audit import AuditLog
from autoheal.adapters.cgroup import CgroupStats
from autoheal.adapters.clock import SystemClock, boot_id
from autoheal.adapters.containers import TaskContainers, container_pid
from autoheal.adapters.docker_api import ReadOnlyDocker, SwarmRole, WritableDocker, swarm_role
from autoheal.adapters.docker_events import DockerEvents
from autoheal.adapters.exposition import Exposition
from autoheal.adapters.logs import configure
from autoheal.adapters.node import ProcNode
from autoheal.adapters.stats_api import ApiStats, AutoStats
from autoheal.adapters.webhook import Webhook
from autoheal.collector import EVENTS_LOOP, Collector, Sources
from autoheal.core.limits import Limits
from autoheal.engine import Engine, Rulebook
from autoheal.errors import RemoteError, UserError
from autoheal.executor import Executor, Pace
from autoheal.inventory import InventoryPublisher
from autoheal.model import Mode
from autoheal.notifier import Destination, NotifierLoop
from autoheal.outbox import Outbox
from autoheal.ports import Clock, Lease, Reach, Reader, StatsSource, Write
from autoheal.runner import Job, Loop, Runner
from autoheal.settings import Settings, Stats
from autoheal.telemetry import Telemetry

STALE_INVENTORIES = 4
DEFAULT_RULES = (Path("rules"),)
STORE_ADDRESS = "store.url"
AUDIT_FILE = "audit.jsonl"
INVENTORY_LOOK_S = 0.5
EVENTS_STALE_S = 60.0
ENGINE_REST_S = 0.25
NOTIFIER_PERIOD_S = 1.0
EXECUTOR_PERIOD_S = 1.0
HOUSEKEEPING_S = 60.0
# What lets the engine decide before its step is over; samples come with every step anyway.
NEWS = frozenset({records.EVENTS, records.INVENTORY, records.OUTCOMES})
DECIDED = frozenset({records.DECISIONS})

log = logging.getLogger("app")


class Memory:
    """The context store as one writer uses it: every writer has its own boot id.

    (A writer that retries must not be overtaken by another one's higher sequence number.)
    """

    def __init__(self, store: context_store.Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._boot = boot_id()

    def append(self, writes: Sequence[Write]) -> None:
        """See ports.StreamWriter."""
        self._store.append_all([self._append(write) for write in writes])

    def append_under(self, lease: Lease, writes: Sequence[Write]) -> bool:
        """See ports.Store."""
        return self._store.append_under(_lease(lease), [self._append(write) for write in writes])

    def commit(
        self,
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        """See ports.Store."""
        appends = [self._append(write) for write in writes]
        return self._store.commit(_lease(lease), state=state, marker=marker, appends=appends)

    def reader(self, streams: Sequence[str], *, since_ms: int) -> Reader:
        """See ports.Store."""
        return self._store.reader(streams, since_ms=since_ms)

    def wait(self, cursors: Mapping[str, str], timeout_s: float) -> bool:
        """See ports.Store."""
        return self._store.wait(cursors, timeout_s)

    def now_ms(self) -> int:
        """See ports.Store."""
        return self._store.now_ms()

    def state(self) -> dict[str, bytes]:
        """See ports.Store."""
        return self._store.state()

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._store.acquire(name, holder, ttl_s)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """See ports.Leases."""
        return self._store.renew(_lease(lease), ttl_s)

    def release(self, lease: Lease) -> None:
        """See ports.Leases."""
        self._store.release(_lease(lease))

    def epoch(self, name: str) -> int:
        """See ports.Leases."""
        return self._store.epoch(name)

    def holder(self, name: str) -> str | None:
        """See ports.Insight."""
        return self._store.holder(name)

    def reach(self, streams: Sequence[str]) -> Mapping[str, Reach]:
        """See ports.Insight."""
        return self._store.reach(streams)

    def put(self, key: str, value: bytes) -> None:
        """See ports.Store."""
        self._store.put(key, value)

    def get(self, key: str) -> bytes | None:
        """See ports.Store."""
        return self._store.get(key)

    def _append(self, write: Write) -> context_store.Append:
        age_ms = max(0, round((self._clock.monotonic() - write.taken) * 1000))
        stamp = context_store.Stamp(self._boot, write.sequence, age_ms)
        return context_store.Append(write.stream, write.fields, stamp)


def _lease(lease: Lease) -> context_store.Lease:
    return context_store.Lease(lease.name, lease.holder, lease.epoch, lease.deadline)


# settings into parts


def limits_of(settings: Settings) -> Limits:
    """The numbers that hold decisions back."""
    return Limits(
        step_ms=settings.step_ms,
        deploy_hold_ms=settings.deploy_hold_ms,
        operator_hold_ms=settings.operator_hold_ms,
        warm_up_ms=settings.warm_up_ms,
        settle_timeout_ms=settings.settle_timeout_ms,
        decision_expiry_ms=settings.decision_expiry_ms,
        inventory_stale_ms=STALE_INVENTORIES * settings.inventory_interval_ms,
        handover_ms=settings.lease_ttl_ms + 2 * settings.step_ms,
        breaker_failures=settings.breaker_failures,
        breaker_cool_off_ms=settings.breaker_cool_off_ms,
    )


def data_directory(settings: Settings) -> Path:
    """Where the embedded store, the audit file and a generated key lie."""
    if settings.data_directory is not None:
        return settings.data_directory
    if os.geteuid() == 0:
        return Path("/var/lib/autoheal")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "autoheal"


def rulebook(settings: Settings) -> Rulebook:
    """The rules in force. Without a rules/ folder here, the packs that ship."""
    paths = settings.rules
    if paths == DEFAULT_RULES and not paths[0].exists():
        paths = (_shipped_rules(),)
    loaded = rulefile.load(paths)
    return Rulebook(loaded.rules, loaded.texts)


def _shipped_rules() -> Path:
    """In an installed package beside this file; in a checkout at its top."""
    package = Path(__file__).parent
    shipped = package / "shipped" / "rules"
    return shipped if shipped.is_dir() else package.parent / "rules"


def signing_key(settings: Settings) -> bytes:
    """The key that was given; parts in separate processes cannot do without."""
    if settings.signing_key is None:
        raise UserError(
            "no signing key: engine and executor must share one"
            " (set AUTOHEAL_SIGNING_KEY_FILE, or the secret autoheal_signing_key)"
        )
    return settings.signing_key.get_secret_value()


def _own_key(settings: Settings) -> bytes:
    """The key that was given, else one made once and kept: what is in flight outlives a restart."""
    if settings.signing_key is not None:
        return settings.signing_key.get_secret_value()
    path = data_directory(settings) / "signing_key"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        key = secrets.token_hex(32).encode()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(key)
        return key


# the store


def connect(settings: Settings, clock: Clock) -> context_store.Store:
    """The configured store. Raises UserError where it is away or unfit."""
    if settings.store_url is None:
        raise UserError("no store: set AUTOHEAL_STORE_URL (redis://HOST:PORT)")
    password = settings.store_password
    return _connect(settings.store_url, clock, password.get_secret_value() if password else None)


def _connect(url: str, clock: Clock, password: str | None = None) -> context_store.Store:
    try:
        return context_store.Store.connect(url, monotonic=clock.monotonic, password=password)
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        raise UserError(str(error)) from error


@contextmanager
def _store_for_all(settings: Settings, clock: Clock) -> Iterator[context_store.Store]:
    """The configured store, or an embedded one that lives as long as this process."""
    if settings.store_url is not None:
        yield connect(settings, clock)
        return
    server = context_store.EmbeddedServer(
        data_directory(settings) / "store",
        maxmemory_bytes=2 * settings.samples_bytes,
        appendfsync="always" if settings.mode is Mode.LIVE else "everysec",
    )
    address = data_directory(settings) / STORE_ADDRESS
    try:
        url = server.start()
    except (context_store.StoreUnavailable, context_store.StoreRefused) as error:
        raise UserError(str(error)) from error
    try:
        address.write_text(url)
        yield _connect(url, clock)
    finally:
        address.unlink(missing_ok=True)
        server.stop()


def _retention(settings: Settings) -> dict[str, context_store.Retention]:
    recent = context_store.Retention(settings.samples_age_ms)
    decided = context_store.Retention(settings.decisions_age_ms)
    return {
        records.SAMPLES: context_store.Retention(settings.samples_age_ms, settings.samples_bytes),
        records.INVENTORY: recent,
        records.TICKS: recent,
        records.EVENTS: context_store.Retention(settings.events_age_ms),
        records.DECISIONS: decided,
        records.INTENTS: decided,
        records.OUTCOMES: decided,
    }


# the parts


@dataclass(frozen=True)
class _Process:
    """What all parts of one process share. `boot` names this life in leases."""

    settings: Settings
    clock: Clock
    telemetry: Telemetry
    runner: Runner
    boot: str

    @classmethod
    def of(cls, settings: Settings) -> _Process:
        """A process that runs nothing yet."""
        clock = SystemClock()
        telemetry = Telemetry(clock)
        runner = Runner(clock=clock, telemetry=telemetry)
        return cls(settings, clock, telemetry, runner, f"{socket.gethostname()}-{boot_id()}")

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

    @property
    def lease_ttl_s(self) -> float:
        """How long a silent holder keeps a lease."""
        return self.settings.lease_ttl_ms / 1000


def _add_collector(process: _Process, store: context_store.Store, node: str) -> Collector:
    """Samples and events of this node, and the inventory while it leads the Swarm."""
    settings, clock, telemetry = process.settings, process.clock, process.telemetry
    docker = process.docker()
    containers = TaskContainers(docker, clock)
    publisher = InventoryPublisher(
        docker,
        clock,
        process.outbox("inventory", store),
        interval_s=settings.inventory_interval_ms / 1000,
        keyframe_s=settings.keyframe_interval_ms / 1000,
    )

    def changed() -> None:
        containers.poke()
        publisher.poke()

    sources = Sources(
        containers=containers,
        stats=_stats(settings, docker, clock),
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
    return collector


def _to_middle_of_slot(store: context_store.Store, settings: Settings) -> float:
    """Seconds until the middle of a slot, where no jitter moves a sample to its neighbour."""
    try:
        phase_ms = store.now_ms() % settings.step_ms
    except context_store.StoreUnavailable:
        return 0.0
    return ((settings.step_ms // 2 - phase_ms) % settings.step_ms) / 1000


def _stats(settings: Settings, docker: ReadOnlyDocker, clock: Clock) -> StatsSource:
    cgroup = CgroupStats(
        clock,
        cgroup_root=str(settings.cgroup_root),
        proc_root=str(settings.proc_root),
        pid_of=lambda container: container_pid(docker, container),
    )
    api = ApiStats(docker, clock)
    match settings.stats:
        case Stats.CGROUP:
            return cgroup
        case Stats.API:
            return api
        case Stats.AUTO:
            return AutoStats(cgroup, api)


def _add_engine(
    process: _Process, store: context_store.Store, book: Rulebook, key: bytes
) -> Engine:
    """Decisions, and the delivery of escalations."""
    settings = process.settings
    memory = Memory(store, process.clock)
    engine = Engine(
        store=memory,
        rulebook=book,
        limits=limits_of(settings),
        key=key,
        clock=process.clock,
        telemetry=process.telemetry,
        holder=process.boot,
        lease_ttl_s=process.lease_ttl_s,
    )
    process.runner.add_loop(
        Loop(
            "engine",
            engine.tick,
            lambda at_most_s: process.wait(memory, engine.cursors, NEWS, at_most_s),
            settings.step_ms / 1000,
            rest_s=ENGINE_REST_S,
        )
    )
    notifier = NotifierLoop(
        store=Memory(store, process.clock),
        destinations=_destinations(process),
        clock=process.clock,
        telemetry=process.telemetry,
        key=key,
        holder=process.boot,
        mode=settings.mode,
        lease_ttl_s=process.lease_ttl_s,
    )
    process.runner.add_loop(
        Loop(
            "notifier",
            notifier.tick,
            lambda at_most_s: process.wait(memory, notifier.cursors, DECIDED, at_most_s),
            NOTIFIER_PERIOD_S,
        )
    )

    def keep_house() -> None:
        if engine.is_leader:
            store.trim(_retention(settings))

    process.runner.add_job(Job("housekeeping", keep_house, HOUSEKEEPING_S))
    return engine


def _destinations(process: _Process) -> list[Destination]:
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


def _add_executor(
    process: _Process, store: context_store.Store, key: bytes, audit_file: Path | None
) -> None:
    """The only part that may write to Docker, if the mode is live."""
    settings = process.settings
    pace = Pace(lease_ttl_s=process.lease_ttl_s, docker_timeout_s=settings.docker_timeout_ms / 1000)
    if pace.margin_s >= pace.lease_ttl_s:
        raise UserError(
            f"AUTOHEAL_LEASE_TTL ({pace.lease_ttl_s:g}s) must be more than twice"
            f" AUTOHEAL_DOCKER_TIMEOUT ({pace.docker_timeout_s:g}s)"
        )
    memory = Memory(store, process.clock)
    executor = Executor(
        store=memory,
        actuator=process.actuator(),
        audit=AuditLog(audit_file, process.clock),
        clock=process.clock,
        telemetry=process.telemetry,
        key=key,
        holder=process.boot,
        pace=pace,
    )
    process.runner.add_loop(
        Loop(
            "executor",
            executor.tick,
            lambda at_most_s: process.wait(memory, executor.cursors, DECIDED, at_most_s),
            EXECUTOR_PERIOD_S,
        )
    )


# what the commands do


def run_all(settings: Settings) -> None:
    """Everything in one process until SIGTERM or SIGINT."""
    process = _begin(settings)
    book = rulebook(settings)
    role = _role(process)
    _require_manager(process, role)
    _make_private(data_directory(settings))
    with _store_for_all(settings, process.clock) as store:
        key = _own_key(settings)
        collector = _add_collector(process, store, role.node)
        engine = _add_engine(process, store, book, key)
        audit_file = settings.audit_file or data_directory(settings) / AUDIT_FILE
        _add_executor(process, store, key, audit_file)
        ready = [lambda: [] if engine.is_ready else ["engine: no inventory yet"]]
        _serve(process, ready, start=collector.start, stop=[collector.stop, engine.stop])


def run_collector(settings: Settings) -> None:
    """The collector of one node until SIGTERM or SIGINT."""
    process = _begin(settings)
    role = _role(process)
    store = connect(settings, process.clock)
    collector = _add_collector(process, store, role.node)
    _serve(process, [], start=collector.start, stop=[collector.stop])


def run_engine(settings: Settings) -> None:
    """An engine, leading or standing by, until SIGTERM or SIGINT."""
    process = _begin(settings)
    book = rulebook(settings)
    key = signing_key(settings)
    store = connect(settings, process.clock)
    engine = _add_engine(process, store, book, key)
    ready = [lambda: [] if engine.is_ready else ["engine: no inventory yet"]]
    _serve(process, ready, stop=[engine.stop])


def run_executor(settings: Settings) -> None:
    """An executor until SIGTERM or SIGINT."""
    process = _begin(settings)
    key = signing_key(settings)
    _require_manager(process, _role(process))
    store = connect(settings, process.clock)
    _add_executor(process, store, key, settings.audit_file)
    _serve(process, [])


def open_memory(settings: Settings) -> Memory:
    """The configured store, else the one of the `run` that is at work here."""
    clock = SystemClock()
    if settings.store_url is not None:
        return Memory(connect(settings, clock), clock)
    address = data_directory(settings) / STORE_ADDRESS
    try:
        url = address.read_text()
    except OSError as error:
        raise UserError(
            f"no store: {address} tells of no running `autoheal run`"
            " (start one, or set AUTOHEAL_STORE_URL)"
        ) from error
    return Memory(_connect(url, clock), clock)


def read_status(settings: Settings, *, as_json: bool) -> str:
    """What the loop knows and wants, as text."""
    try:
        found = status.gather(open_memory(settings))
    except ConnectionError as error:
        raise UserError(str(error)) from error
    return status.render_json(found) if as_json else status.render(found)


def _begin(settings: Settings) -> _Process:
    configure(settings.log_level, settings.log_format)
    return _Process.of(settings)


def _role(process: _Process) -> SwarmRole:
    """What the local engine is in its Swarm; outside of one there is nothing to do."""
    url = process.settings.docker_url
    try:
        role = swarm_role(process.docker())
    except RemoteError as error:
        raise UserError(
            f"no Docker engine at {url}: {error}"
            " (is it running, and may this user open its socket?)"
        ) from error
    if not role.active:
        raise UserError(f"the engine at {url} is in no Swarm (docker swarm init, or join)")
    return role


def _require_manager(process: _Process, role: SwarmRole) -> None:
    if not role.manager:
        raise UserError(
            f"the engine at {process.settings.docker_url} is not a Swarm manager:"
            " run this on a manager (on workers: autoheal collector)"
        )


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror} (set AUTOHEAL_DATA_DIRECTORY)") from error


def _serve(
    process: _Process,
    ready: Sequence[Callable[[], list[str]]],
    *,
    start: Callable[[], None] = lambda: None,
    stop: Sequence[Callable[[], None]] = (),
) -> None:
    """Run until a signal; then end the loops, in order, and say so."""
    exposition = None
    if process.settings.listen:
        exposition = Exposition(
            process.settings.listen,
            process.telemetry,
            lambda: [reason for reasons in ready for reason in reasons()],
        )
        exposition.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.runner.stop())
    log.info("autoheal %s, mode %s", __version__, process.settings.mode)
    try:
        start()
        process.runner.run()
    finally:
        for each in stop:
            try:
                each()
            except ConnectionError as error:
                log.warning("the store is away at the end: %s", error)
        if exposition is not None:
            exposition.stop()
    log.info("stopped")
