"""track: as many tasks as keep a figure at its target, as Kubernetes' HPA has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Proposal, Subject, Unable
from autoheal.actions.replicas import REPLICAS
from autoheal.model import ActionKind

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and where it is to be: of a metric, the mean over tasks; or of a source.

    Exactly one of `metric` and `source` is not "". A source's figure is that of the whole service,
    or, `per_task`, is divided among its tasks.
    """

    target: float
    over_ms: int
    metric: str = ""
    source: str = ""
    per_task: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so many `tasks`, or so many `percent`, in `per_ms`; the other one is None."""

    per_ms: int
    tasks: int | None = None
    percent: float | None = None


class Select(StrEnum):
    """Which of several policies counts; DISABLED forbids the direction."""

    MAX = "max"
    MIN = "min"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Direction:
    """How replicas may move one way. `tolerance` is a share: 0.1 is ten percent."""

    stabilization_ms: int
    policies: tuple[Policy, ...]
    select: Select = Select.MAX
    tolerance: float = 0.1


# HPA's defaults (autoscaling/v2).
UP = Direction(0, (Policy(15_000, tasks=4), Policy(15_000, percent=100.0)))
DOWN = Direction(5 * MINUTE_MS, (Policy(15_000, percent=100.0),))


@dataclass(frozen=True, slots=True)
class Track(Action):
    """Follow the targets between `min` and `max` replicas; of several targets the highest wins.

    How many replicas that takes is worked out where the figures are, and handed in by the subject:
    only then is it known whether this is a scale_up or a scale_down.
    """

    leaf: ClassVar[Leaf | None] = REPLICAS
    example: ClassVar[str] = (
        "{action: track, targets: [{metric: cpu_percent, over: 1m, target: 70}], min: 2, max: 20}"
    )

    targets: tuple[Target, ...]
    min: int
    max: int
    up: Direction = UP
    down: Direction = DOWN

    @classmethod
    def kinds(cls) -> tuple[ActionKind, ...]:
        """Up or down."""
        return ActionKind.SCALE_UP, ActionKind.SCALE_DOWN

    def plan(self, subject: Subject) -> Plan | Unable:
        """What tracking came to. That nothing is wanted passes by itself."""
        tracked = subject.tracked
        return (
            Unable("its targets ask for no change", lasting=False)
            if tracked is None
            else tracked.plan
        )

    def propose(self, subject: Subject) -> Proposal | None:
        """What tracking came to, with the direction that it has."""
        return subject.tracked
