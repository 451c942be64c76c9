"""The facts and words everything else speaks: Swarm's objects as we see them, decisions, outcomes.

Times are milliseconds of the store's clock unless a name says otherwise; memory is bytes; CPU is
cores. All classes are frozen: a fact does not change, a new one replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

LABEL_ENABLE = "autoheal.enable"
LABEL_ALLOW = "autoheal.allow"
LABEL_DECISION = "autoheal.decision"
LABEL_ROLE = "autoheal.role"
LABEL_STACK = "com.docker.stack.namespace"
OWN_LABELS = "autoheal."
LABEL_WITHDRAWN = OWN_LABELS + "withdrawn"
LABEL_MIN = "autoheal.min"
LABEL_MAX = "autoheal.max"
LABEL_DRY_RUN = "autoheal.dry-run"
# Swarm's words for an update that nobody is carrying out; "" where there never was one.
UPDATE_AT_REST = frozenset({"", "none", "completed", "rollback_completed"})


class Verdict(Enum):
    """What a condition says of one service. NO_DATA is not FALSE: nothing is known."""

    TRUE = "true"
    FALSE = "false"
    NO_DATA = "no-data"


class Mode(StrEnum):
    """How far a decision may go, and how far an executor goes."""

    DRY_RUN = "dry-run"
    LIVE = "live"


class ActionKind(StrEnum):
    """What autoheal can do, in the order of who may block whom (first blocks the rest)."""

    ESCALATE = "escalate"
    SCALE_UP = "scale_up"
    RAISE_MEMORY = "raise_memory"
    RESTART = "restart"
    SCALE_DOWN = "scale_down"


class OutcomeKind(StrEnum):
    """What became of a decision. UNCONFIRMED is not 'failed': it may still be applied."""

    WOULD_APPLY = "WOULD_APPLY"
    REFUSED = "REFUSED"
    APPLIED = "APPLIED"
    NOT_APPLIED = "NOT_APPLIED"
    UNCONFIRMED = "UNCONFIRMED"


class ServiceMode(StrEnum):
    """Swarm's four ways to run a service. Only replicated services are ever scaled."""

    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"


@dataclass(frozen=True, slots=True)
class Service:
    """One Swarm service as the inventory saw it.

    `content` is a digest of the spec without the leaves autoheal may change (replicas, ForceUpdate,
    the memory limit, `autoheal.*` labels): a new digest is a deploy. `index` is the raft index of
    the object, Swarm's compare-and-swap version. `update_state` is Swarm's word, "" for none.
    `pinned` says that the image carries a digest, `stateful` that tasks write to a volume or a bind
    mount. `update_order` and `restart_condition` are Swarm's words with its defaults filled in;
    `constraints` are those of the placement, as written.
    """

    id: str
    name: str
    index: int
    mode: ServiceMode
    replicas: int | None
    content: str
    force_update: int
    cpu_limit: float | None
    cpu_reservation: float | None
    memory_limit: int | None
    update_state: str
    created_at_ms: int
    updated_at_ms: int
    pinned: bool
    stateful: bool
    update_order: str
    restart_condition: str
    constraints: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def stack(self) -> str | None:
        """The stack that deployed it, if one did."""
        return self.labels.get(LABEL_STACK)


@dataclass(frozen=True, slots=True)
class Task:
    """One Swarm task. `state_since_ms` is when it entered `state` (RFC 3339 of its own node).

    `force_update` and `memory_limit` are those of the spec that it was made from. `exit_code` is
    None until its container ended; `error` is what Swarm says is wrong, "" if nothing is.
    """

    id: str
    index: int
    service: str
    node: str
    slot: int
    container: str
    state: str
    desired_state: str
    state_since_ms: int
    force_update: int
    memory_limit: int | None
    exit_code: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Node:
    """One Swarm node; `cores` and `memory` are what its engine declares."""

    id: str
    index: int
    hostname: str
    role: str
    availability: str
    state: str
    cores: float
    memory: int
    leader: bool
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Swarm's objects, whole (a keyframe) or what changed (a difference).

    `clock_ms` is the wall clock of the publishing node at the reading: Swarm's own times are
    wall-clock times, and the store's clock is another. `index` is the highest raft index seen.
    """

    keyframe: bool
    index: int
    clock_ms: int
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()
    nodes: tuple[Node, ...] = ()
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RosterRow:
    """Whose samples a column of a sample batch holds, and the limits that were in force."""

    key: bytes
    container: str
    task: str
    service: str
    cpu_limit: float | None
    memory_limit: int | None


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node's own load: capacity as its kernel tells, use in percent of it; None is missing."""

    cores: float | None
    cpu_percent: float | None
    memory: int | None
    memory_percent: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container at an instant, as its own node saw it.

    `stopped` marks the end of a container that somebody had sent a signal through Docker: Swarm,
    for whatever reason, or a person; False, that it ended by itself. None is not known.
    """

    kind: str
    service: str
    task: str
    container: str
    node: str
    exit_code: int | None = None
    memory_limit: int | None = None
    stopped: bool | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One figure a decision rests on: `what` was compared with `bound` and read `value`."""

    what: str
    value: float
    bound: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the engine wants done, once, to one service, in absolute terms.

    `start` and `target` are replicas for the scaling actions, the memory limit in bytes for
    raise_memory, ForceUpdate for restart; for an escalation 0 is quiet and 1 is firing. `service`
    is the id of the service; an escalation that stands for several services names what they share:
    `node:ID`, `stack:NAME` or `swarm`. `version` is the raft index of the service that the decision
    was made on: the executor applies it to that version or not at all. `id` is a hash of everything
    else.
    """

    id: str
    action: ActionKind
    service: str
    service_name: str
    start: int
    target: int
    version: int
    rule: str
    rule_hash: str
    rule_set: str
    reason: str
    evidence: tuple[Evidence, ...]
    severity: str
    tick: int
    epoch: int
    max_mode: Mode
    decided_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one decision; `reason` in words, `index` the service's version after it.

    `stale` marks a decision that somebody else's change overtook: nobody failed.
    """

    decision: str
    service: str
    kind: OutcomeKind
    reason: str
    mode: Mode
    index: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Intent:
    """Made durable before a mutation: the executor is about to carry out this decision."""

    decision: str
    service: str
    version: int
    executor: str


@dataclass(frozen=True, slots=True)
class TickRecord:
    """All that is needed, beside the streams, to decide a tick again and to compare.

    `since_ms` is where the engine that decided it had begun to read; `rule_set` and `limits` name
    the texts of the rules and the numbers that were in force.
    """

    number: int
    now_ms: int
    since_ms: int
    epoch: int
    rule_set: str
    limits: str
    state_digest: str
    decisions: int


class Judgement(StrEnum):
    """Whether an action helped, told once it had its time; "" in a record means not yet."""

    RECOVERED = "RECOVERED"
    INEFFECTIVE = "INEFFECTIVE"


class IncidentEnd(StrEnum):
    """What an incident came to; OPEN until it is over.

    REMEDIED: an action of ours was applied in it. ESCALATED: people were told, and nothing else.
    CLEARED: neither; the condition cleared by itself.
    """

    OPEN = "open"
    REMEDIED = "remedied"
    ESCALATED = "escalated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Deed:
    """One action taken in an incident; `judgement` is "" until it is judged, and for a dry run."""

    decision: str
    action: str
    rule: str
    outcome: str
    at_ms: int
    judgement: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One service's trouble, from the first evidence to recovery.

    Written anew whenever something in it changes: the last record of an `id` is the valid one.
    `evidence` is what was seen first, `rule` the first rule that fired. Times are None until then.
    """

    id: str
    service: str
    service_name: str
    evidence: str
    opened_ms: int
    rule: str = ""
    detected_ms: int | None = None
    acted_ms: int | None = None
    escalated_ms: int | None = None
    recovered_ms: int | None = None
    end: str = IncidentEnd.OPEN.value
    deeds: tuple[Deed, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What a person tells the engine. `reset` of a rule on a service, or of all its rules ("")."""

    kind: str
    service: str
    rule: str
    by: str


@dataclass(frozen=True, slots=True)
class SourceValue:
    """What an outside source told; None if it could not be had, and then why.

    `definition` is the digest of what was asked, and where: under the same name another question
    has other answers.
    """

    source: str
    value: float | None
    error: str = ""
    definition: str = ""


COMMAND_RESET = "reset"
