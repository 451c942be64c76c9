"""A world of one clock: a store, a Swarm and an audit trail that can fail at any step.

Every operation of every fake passes `Steps.point` right before and right after its effect. A test
counts the points, and has something happen at the k-th: the process dies there, or another one
runs in the meantime. All state is in the world; a process has nothing but a `Process` handle.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from autoheal import records
from autoheal.actions import ACTIONS
from autoheal.adapters.actuators import DryRunActuator, LiveActuator
from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.executor import Executor, Pace
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_ENABLE,
    ActionKind,
    Decision,
    Evidence,
    Intent,
    Mode,
    Outcome,
    OutcomeKind,
)
from autoheal.ports import JsonObject, Write
from autoheal.records import DECISIONS, INTENTS, OUTCOMES
from autoheal.telemetry import Telemetry
from autoheal.units import MIB

KEY = b"k" * 32
START_MS = 1_700_000_000_000
VERSION = 100
SERVICE = "websvc"
STRANGER = "writes nonsense"
LEAVES = tuple({each.leaf.path: each.leaf for each in ACTIONS.values() if each.leaf}.values())
# What each action that changes a service does to the one of `rich_spec`.
CHANGES = {
    ActionKind.SCALE_UP: (2, 3),
    ActionKind.SCALE_DOWN: (2, 1),
    ActionKind.RESTART: (4, 5),
    ActionKind.RAISE_MEMORY: (64 * MIB, 164 * MIB),
}


class Crash(BaseException):
    """The process is gone. No `except Exception` may hold it up."""


class Steps:
    """The points at which something can happen to the process."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self._at: int | None = None
        self._what: Callable[[], None] = _die
        self._named: dict[str, Callable[[], None]] = {}

    def at(self, number: int, what: Callable[[], None] | None = None) -> None:
        """Have something happen at the `number`-th point from here: by default, the end."""
        self.passed = []
        self._at, self._what = number, what or _die

    def never(self) -> None:
        """Whoever has passed all points lives on."""
        self._at = None

    def once(self, name: str, what: Callable[[], object]) -> None:
        """Have something happen the next time that a point of this name is passed."""
        self._named[name] = lambda: _ignore(what())

    def point(self, name: str) -> None:
        self.passed.append(name)
        self._named.pop(name, _nothing)()
        if self._at == len(self.passed) - 1:
            self._at = None
            self._what()


def _die() -> None:
    raise Crash


def _nothing() -> None:
    pass


def _ignore(_: object) -> None:
    pass


class FakeClock:
    """Both clocks, moved by hand; shared by the processes and the store."""

    def __init__(self) -> None:
        self.ms = START_MS

    def monotonic(self) -> float:
        return (self.ms - START_MS) / 1000

    def wall_ms(self) -> int:
        return self.ms

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@dataclass(frozen=True)
class FakeEntry:
    stream: str
    id: str
    ms: int
    at_ms: int
    boot: str
    sequence: int
    fields: Mapping[str, bytes]


@dataclass(frozen=True)
class FakeCut:
    now_ms: int
    run_id: str
    entries: Sequence[FakeEntry]


@dataclass(frozen=True)
class FakeLease:
    name: str
    holder: str
    epoch: int
    deadline: float


class Loss(Enum):
    """What becomes of one append."""

    REQUEST = "lost before it was done"
    REPLY = "done, and the reply lost"


@dataclass
class StoreData:
    """What the server keeps."""

    clock: FakeClock
    entries: list[FakeEntry] = field(default_factory=list)
    leases: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    losses: list[Loss | None] = field(default_factory=list)
    away: bool = False

    def of(self, stream: str) -> list[FakeEntry]:
        """The entries as a reader sees them: repetitions count once."""
        heard: dict[str, int] = {}
        found = []
        for entry in self.entries:
            if entry.boot == STRANGER:
                continue
            if entry.stream == stream and entry.sequence > heard.get(entry.boot, 0):
                heard[entry.boot] = entry.sequence
                found.append(entry)
        return found

    def intents(self) -> list[Intent]:
        return [records.unpack_intent(entry.fields) for entry in self.of(INTENTS)]

    def outcomes(self) -> list[Outcome]:
        return [records.unpack_outcome(entry.fields) for entry in self.of(OUTCOMES)]

    def add(self, boot: str, write: Write) -> None:
        ms = self.clock.ms
        number = sum(1 for entry in self.entries if entry.ms == ms)
        age_ms = round((self.clock.monotonic() - write.taken) * 1000)
        self.entries.append(
            FakeEntry(
                write.stream,
                f"{ms}-{number}",
                ms,
                ms - age_ms,
                boot,
                write.sequence,
                dict(write.fields),
            )
        )


class FakeReader:
    def __init__(self, store: FakeStore, streams: Sequence[str], since_ms: int) -> None:
        self._store = store
        self._streams = tuple(streams)
        self._since_ms = since_ms
        self._next = 0
        self._heard: dict[tuple[str, str], int] = {}
        self.cursors: Mapping[str, str] = dict.fromkeys(streams, f"{since_ms}-0")

    def cut(self) -> FakeCut:
        with self._store.operation("cut"):
            data = self._store.data
            now_ms = data.clock.ms
            complete = [entry for entry in data.entries if entry.ms < now_ms]
            found = [entry for entry in complete[self._next :] if self._is_news(entry)]
            self._next = len(complete)
            for entry in found:
                self.cursors = {**self.cursors, entry.stream: entry.id}
            return FakeCut(now_ms, "run", found)

    def _is_news(self, entry: FakeEntry) -> bool:
        if entry.stream not in self._streams or entry.ms < self._since_ms:
            return False
        writer = (entry.stream, entry.boot)
        is_new = entry.sequence > self._heard.get(writer, 0)
        self._heard[writer] = max(entry.sequence, self._heard.get(writer, 0))
        return is_new


class FakeStore:
    """One process's way to the store: its boot id names it as a writer.

    What neither the executor nor the notifier calls is not implemented, and says so.
    """

    def __init__(self, data: StoreData, steps: Steps, boot: str) -> None:
        self.data = data
        self._steps = steps
        self._boot = boot

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        self._steps.point(f"before {name}")
        if self.data.away:
            raise ConnectionError("the store is away")
        yield
        self._steps.point(f"after {name}")

    def append(self, writes: Sequence[Write]) -> None:
        raise NotImplementedError

    def append_under(self, lease: Any, writes: Sequence[Write]) -> bool:  # noqa: ANN401  # ports.Lease
        with self.operation(f"append {', '.join(write.stream for write in writes)}"):
            loss = self.data.losses.pop(0) if self.data.losses else None
            if loss is Loss.REQUEST:
                raise ConnectionError("the request was lost")
            if self.data.epochs.get(lease.name) != lease.epoch:
                return False
            for write in writes:
                self.data.add(self._boot, write)
            if loss is Loss.REPLY:
                raise ConnectionError("the reply was lost")
        return True

    def reader(self, streams: Sequence[str], *, since_ms: int) -> FakeReader:
        return FakeReader(self, streams, since_ms)

    def wait(self, cursors: Mapping[str, str], timeout_s: float) -> bool:
        raise NotImplementedError

    def now_ms(self) -> int:
        with self.operation("now_ms"):
            return self.data.clock.ms

    def acquire(self, name: str, holder: str, ttl_s: float) -> FakeLease | None:
        with self.operation("acquire"):
            found = self.data.leases.get(name)
            if found is not None and found[0] != holder and self.data.clock.ms < found[2]:
                return None
            epoch = self.data.epochs.get(name, 0) + 1
            self.data.epochs[name] = epoch
            return self._granted(name, holder, epoch, ttl_s)

    def renew(self, lease: Any, ttl_s: float) -> FakeLease | None:  # noqa: ANN401  # ports.Lease
        with self.operation("renew"):
            found = self.data.leases.get(lease.name)
            if found is None or self.data.clock.ms >= found[2]:
                return None
            if found[:2] != (lease.holder, lease.epoch):
                return None
            return self._granted(lease.name, lease.holder, lease.epoch, ttl_s)

    def release(self, lease: Any) -> None:  # noqa: ANN401  # ports.Lease
        with self.operation("release"):
            found = self.data.leases.get(lease.name)
            if found is not None and found[:2] == (lease.holder, lease.epoch):
                del self.data.leases[lease.name]

    def epoch(self, name: str) -> int:
        with self.operation("epoch"):
            return self.data.epochs.get(name, 0)

    def state(self) -> dict[str, bytes]:
        raise NotImplementedError

    def commit(
        self,
        lease: Any,  # noqa: ANN401  # ports.Lease
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        raise NotImplementedError

    def put(self, key: str, value: bytes) -> None:
        raise NotImplementedError

    def get(self, key: str) -> bytes | None:
        raise NotImplementedError

    def _granted(self, name: str, holder: str, epoch: int, ttl_s: float) -> FakeLease:
        clock = self.data.clock
        self.data.leases[name] = (holder, epoch, clock.ms + round(ttl_s * 1000))
        return FakeLease(name, holder, epoch, clock.monotonic() + ttl_s)


class Fault(Enum):
    """What goes wrong with one POST."""

    LOST_REQUEST = "no answer, not applied"
    LOST_REPLY = "no answer, applied"
    NO_LEADER_LOST = "500 node lost leader status, not applied"
    NO_LEADER_APPLIED = "500 node lost leader status, applied"
    NO_LEADER_LATER = "500 node lost leader status, applied at the thaw, if its version still holds"
    REPEATED = "a proxy sends it twice and passes on the second answer"
    DECLINED = "400, not applied"


# How often Swarm gets to see the write before the answer is sent; once if not named.
APPLICATIONS: Mapping[Fault | None, int] = {
    Fault.LOST_REQUEST: 0,
    Fault.NO_LEADER_LOST: 0,
    Fault.NO_LEADER_LATER: 0,
    Fault.REPEATED: 2,
    Fault.DECLINED: 0,
}


@dataclass(frozen=True)
class Commit:
    """One write that Swarm accepted."""

    service: str
    version: int
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def moved(self) -> list[str]:
        """The leaves that it changed, by their paths."""
        return [leaf.path for leaf in LEAVES if leaf.read(self.before) != leaf.read(self.after)]


@dataclass
class SwarmData:
    """What the managers agree on."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)
    posts: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    frozen: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    faults: list[Fault | None] = field(default_factory=list)
    reads: list[Exception | dict[str, Any] | None] = field(default_factory=list)

    def create(self, service: str, spec: dict[str, Any], version: int = VERSION) -> None:
        self.services[service] = {
            "ID": service,
            "Version": {"Index": version},
            "Spec": copy.deepcopy(spec),
        }

    def update(self, service: str, version: int, spec: JsonObject) -> None:
        """Swarm's compare-and-swap."""
        found = self.services.get(service)
        if found is None:
            raise RemoteRefused(404, f"service {service} not found")
        index = found["Version"]["Index"]
        if version != index:
            raise RemoteRefused(500, "rpc error: code = Unknown desc = update out of sequence")
        before, after = found["Spec"], copy.deepcopy(dict(spec))
        self.commits.append(Commit(service, version, before, after))
        self.services[service] = {
            "ID": service,
            "Version": {"Index": index + 3},
            "Spec": after,
            "PreviousSpec": before,
        }

    def edit(self, service: str, change: Callable[[dict[str, Any]], None]) -> None:
        """An operator's update."""
        spec = copy.deepcopy(self.services[service]["Spec"])
        change(spec)
        self.update(service, self.services[service]["Version"]["Index"], spec)
        self.commits.pop()

    def thaw(self) -> None:
        """Frozen managers wake and commit what they had been sent, where it still fits."""
        while self.frozen:
            service, version, spec = self.frozen.pop(0)
            found = self.services.get(service)
            if found is not None and found["Version"]["Index"] == version:
                self.update(service, version, spec)


class FakeSwarm:
    """One process's way to Docker."""

    def __init__(self, data: SwarmData, steps: Steps) -> None:
        self.data = data
        self._steps = steps

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401  # JSON
        assert not parameters
        self._steps.point("before GET")
        planned = self.data.reads.pop(0) if self.data.reads else None
        if isinstance(planned, Exception):
            raise planned
        if planned is not None:
            return planned
        service = path.removeprefix("/services/")
        if service not in self.data.services:
            raise RemoteRefused(404, f"service {service} not found")
        found = copy.deepcopy(self.data.services[service])
        self._steps.point("after GET")
        return found

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        self._steps.point("before POST")
        fault = self.data.faults.pop(0) if self.data.faults else None
        self.data.posts.append((service, version, copy.deepcopy(dict(spec))))
        self._post(fault, service, version, spec)
        self._steps.point("after POST")

    def _post(self, fault: Fault | None, service: str, version: int, spec: JsonObject) -> None:
        for _ in range(APPLICATIONS.get(fault, 1)):
            self.data.update(service, version, spec)
        if fault in {Fault.LOST_REQUEST, Fault.LOST_REPLY}:
            raise RemoteUnreachable("read timed out")
        if fault is Fault.NO_LEADER_LATER:
            self.data.frozen.append((service, version, copy.deepcopy(dict(spec))))
        if fault is Fault.DECLINED:
            raise RemoteRefused(400, "invalid: the spec is not one")
        if fault not in {None, Fault.REPEATED}:
            raise RemoteRefused(500, "rpc error: code = Unavailable desc = node lost leader status")


@dataclass
class AuditData:
    """The lines on disk."""

    lines: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    full: bool = False

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.lines]


class FakeAudit:
    def __init__(self, data: AuditData, steps: Steps) -> None:
        self._data = data
        self._steps = steps

    def record(self, what: str, body: Mapping[str, object]) -> None:
        self._steps.point(f"before audit {what}")
        if self._data.full:
            raise OSError(28, "No space left on device")
        self._data.lines.append((what, body))
        self._steps.point(f"after audit {what}")


# what the tests speak of


def rich_spec(replicas_now: int = 2, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A spec with something of everything, as GET /services/{id} sends it."""
    return {
        "Name": "web",
        "Labels": {
            "com.docker.stack.namespace": "shop",
            LABEL_ENABLE: "true",
            LABEL_ALLOW: "scale_up,scale_down,restart,raise_memory",
            **(labels or {}),
        },
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "shop/web:7@sha256:" + "ab" * 32,
                "Labels": {"autoheal.inner": "untouched"},
                "Env": ["A=1", "B=x,y", "EMPTY="],
                "Init": False,
                "Mounts": [{"Type": "volume", "Source": "data", "Target": "/data"}],
                "StopGracePeriod": 10_000_000_000,
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000},
                "DNSConfig": {},
                "Isolation": "default",
            },
            "Resources": {
                "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 64 * MIB},
                "Reservations": {},
            },
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000, "MaxAttempts": 0},
            "Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]},
            "Networks": [{"Target": "n1", "Aliases": ["web"]}],
            "ForceUpdate": 4,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": replicas_now}},
        "UpdateConfig": {"Parallelism": 1, "FailureAction": "pause", "MaxFailureRatio": 0.5},
        "RollbackConfig": None,
        "EndpointSpec": {"Mode": "dnsrr", "Ports": None},
    }


def replicas(spec: Mapping[str, Any]) -> int:
    found: int = spec["Mode"]["Replicated"]["Replicas"]
    return found


def set_replicas(count: int) -> Callable[[dict[str, Any]], None]:
    """An operator's change."""
    return lambda spec: spec["Mode"]["Replicated"].update(Replicas=count)


def a_decision(**changes: Any) -> Decision:  # noqa: ANN401  # any field of a decision
    decision = Decision(
        id="",
        action=ActionKind.SCALE_UP,
        service=SERVICE,
        service_name="web",
        start=2,
        target=3,
        version=VERSION,
        rule="cpu-high",
        rule_hash="rh",
        rule_set="rs",
        reason="cpu_percent over 2m is 91, above 80",
        evidence=(Evidence("cpu_percent", 91.0, "above 80"),),
        severity="warning",
        tick=7,
        epoch=1,
        max_mode=Mode.LIVE,
        decided_at_ms=START_MS,
        expires_at_ms=START_MS + 60_000,
    )
    return records.identified(replace(decision, **changes))


def a_decision_to(action: ActionKind, **changes: Any) -> Decision:  # noqa: ANN401  # as a_decision
    """A decision that is right for the service as `rich_spec` has it."""
    start, target = CHANGES[action]
    return a_decision(action=action, start=start, target=target, **changes)


@dataclass
class World:
    """Everything that outlives a process."""

    clock: FakeClock = field(default_factory=FakeClock)
    steps: Steps = field(default_factory=Steps)
    swarm: SwarmData = field(default_factory=SwarmData)
    audit: AuditData = field(default_factory=AuditData)
    store: StoreData = field(init=False)
    lives: int = 0
    engine_sequence: int = 0

    def __post_init__(self) -> None:
        self.store = StoreData(self.clock)
        self.store.epochs["engine"] = 1
        self.swarm.create(SERVICE, rich_spec())

    def boot(self) -> str:
        """A name for one more process."""
        self.lives += 1
        return f"life-{self.lives}"

    def decide(self, decision: Decision, key: bytes = KEY) -> Decision:
        """The engine writes a decision; a moment later it can be read."""
        self.write(DECISIONS, records.pack_decision(decision, key))
        return decision

    def write(self, stream: str, fields: Mapping[str, bytes], boot: str = "engine") -> None:
        self.engine_sequence += 1
        self.store.add(boot, Write(stream, fields, self.engine_sequence, self.clock.monotonic()))
        self.clock.advance(0.001)

    @property
    def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.swarm.services[SERVICE]["Spec"]
        return found

    @property
    def index(self) -> int:
        found: int = self.swarm.services[SERVICE]["Version"]["Index"]
        return found

    def carries(self, decision: Decision) -> bool:
        labels: Mapping[str, str] = self.spec["Labels"]
        return labels.get(LABEL_DECISION) == decision.id

    @property
    def acts(self) -> list[Commit]:
        """The accepted writes that changed a leaf; the others changed nothing but labels."""
        return [commit for commit in self.swarm.commits if commit.moved]

    def outcomes_of(self, decision: Decision) -> list[Outcome]:
        return [found for found in self.store.outcomes() if found.decision == decision.id]

    def final_outcomes_of(self, decision: Decision) -> list[Outcome]:
        found = self.outcomes_of(decision)
        return [outcome for outcome in found if outcome.kind is not OutcomeKind.UNCONFIRMED]

    def the_outcome_of(self, decision: Decision) -> Outcome:
        (outcome,) = self.final_outcomes_of(decision)
        return outcome

    def executor(
        self, mode: Mode = Mode.LIVE, *, key: bytes = KEY, pace: Pace | None = None
    ) -> Executor:
        """A new process, with nothing in its memory."""
        boot = self.boot()
        swarm = FakeSwarm(self.swarm, self.steps)
        return Executor(
            store=FakeStore(self.store, self.steps, boot),
            actuator=LiveActuator(swarm) if mode is Mode.LIVE else DryRunActuator(swarm),
            audit=FakeAudit(self.audit, self.steps),
            clock=self.clock,
            telemetry=Telemetry(self.clock),
            key=key,
            holder=boot,
            pace=pace,
        )

    def run(self, executor: Executor, seconds: int = 10) -> None:
        """Let it tick once a second; it goes on after the errors that its runner survives."""
        for _ in range(seconds):
            with suppress(OSError):
                executor.tick()
            self.clock.advance(1)
