"""One rule test as it is played: times in ms of the simulated clock, nothing left to parse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from autoheal.core.limits import Limits
from autoheal.core.rule import RuleSet
from autoheal.model import ActionKind, Mode, Node, OutcomeKind, Service
from autoheal.ruletest.series import Series

# The number that stands for every place of a service.
EVERY = 0
# The age of what is old enough for every hold and every window.
LONG_MS = 30 * 24 * 3_600_000


class Happens(StrEnum):
    """What can happen in a test: to a task, a service or a node."""

    OOM_KILLED = "oom_killed"
    DIED = "died"
    UNHEALTHY = "unhealthy"
    REJECTED = "rejected"
    STARTED = "started"
    CHANGE = "change"
    DEPLOY = "deploy"
    RESET = "reset"
    NODE_DOWN = "node_down"
    NODE_DRAINED = "node_drained"
    NODE_UP = "node_up"


OF_TASKS = (
    Happens.OOM_KILLED,
    Happens.DIED,
    Happens.UNHEALTHY,
    Happens.REJECTED,
    Happens.STARTED,
)
OF_SERVICES = (Happens.CHANGE, Happens.DEPLOY, Happens.RESET)
OF_NODES = (Happens.NODE_DOWN, Happens.NODE_DRAINED, Happens.NODE_UP)
ENDING = (Happens.DIED, Happens.UNHEALTHY, Happens.REJECTED)


class Replacement(StrEnum):
    """What Swarm puts in the place of a task that ended."""

    RUNNING = "running"
    STARTING = "starting"
    PENDING = "pending"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """A numbered slot of a service, in which one task after the other runs."""

    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.service}.{self.number}"


@dataclass(frozen=True, slots=True)
class TaskSetup:
    """The task in a place when the test begins, and what every task there shows.

    `node` is "" where none has been found for it, None where the test does not say.
    """

    since_ms: int
    is_ready: bool = True
    node: str | None = None
    series: Mapping[str, Series] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """A node and its own load, in percent."""

    node: Node
    cpu_percent: Series
    memory_percent: Series


@dataclass(frozen=True, slots=True)
class RulePast:
    """What a rule has done on a service: since when it is TRUE, when it acted, when quarantined.

    For target tracking also what it recommended, and by how much it scaled, each with its time.
    """

    active_ms: int | None = None
    is_firing: bool = False
    acted_ms: tuple[int, ...] = ()
    quarantined_ms: int | None = None
    recommendations: tuple[tuple[int, int], ...] = ()
    scaled: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """What autoheal remembers of a service when the test begins."""

    up_ms: int | None = None
    down_ms: int | None = None
    rolled_ms: int | None = None
    operated_ms: int | None = None
    rules: Mapping[str, RulePast] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happens at a time to a task's place, a service or a node, by its name.

    `changes` are fields of model.Service; `rule` is the one that is reset, "" for all.
    """

    at_ms: int
    what: Happens
    subject: str
    exit_code: int = 1
    error: str = ""
    replacement: Replacement | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """A decision that must be made; what is None or "" is not compared.

    `line` is where the test says so.
    """

    line: int
    at_ms: int
    service: str
    action: ActionKind
    rule: str = ""
    start: int | None = None
    target: int | None = None
    because: str = ""
    mode: Mode | None = None
    severity: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedHeld:
    """A rule that must have been held back; what is "" is not compared."""

    line: int
    at_ms: int
    service: str
    rule: str
    guard: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole test. It begins at `zero_ms` and its last tick is at `until_ms`.

    `outcome` is what the executor answers to a decision that may be carried out.
    """

    file: str
    line: int
    name: str
    rules: RuleSet
    limits: Limits
    zero_ms: int
    until_ms: int
    services: Mapping[str, Service]
    tasks: Mapping[Place, TaskSetup]
    nodes: Mapping[str, NodeSetup]
    sources: Mapping[str, Series]
    past: Mapping[str, Past]
    occurrences: tuple[Occurrence, ...]
    outcome: OutcomeKind
    expected: tuple[Expected, ...]
    expected_held: tuple[ExpectedHeld, ...]

    @property
    def asked_ms(self) -> frozenset[int]:
        """The times of the ticks of which it expects something."""
        expected = {each.at_ms for each in self.expected}
        return frozenset(expected | {each.at_ms for each in self.expected_held})

    def setup(self, place: Place) -> TaskSetup:
        """What is said of a place, else of every place of its service, else the usual."""
        everywhere = Place(place.service, EVERY)
        usual = TaskSetup(self.zero_ms - LONG_MS)
        return self.tasks.get(place, self.tasks.get(everywhere, usual))
