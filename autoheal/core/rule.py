"""Rules as the engine evaluates them: durations in ms, everything named, nothing left to parse."""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from autoheal.actions import Action
from autoheal.model import Mode


class Comparison(StrEnum):
    """How a figure is compared with a threshold."""

    ABOVE = "above"
    BELOW = "below"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"

    @property
    def wants_high(self) -> bool:
        """Whether a higher figure is nearer to TRUE."""
        return self in (Comparison.ABOVE, Comparison.AT_LEAST)

    @property
    def operator(self) -> Callable[[Any, float], Any]:
        """The comparison itself, for a figure or for an array of them."""
        return _OPERATORS[self]


_OPERATORS: dict[Comparison, Callable[[Any, float], Any]] = {
    Comparison.ABOVE: operator.gt,
    Comparison.BELOW: operator.lt,
    Comparison.AT_LEAST: operator.ge,
    Comparison.AT_MOST: operator.le,
}


class Aggregate(StrEnum):
    """How many figures become one. Each is monotone: raising an input never lowers the result."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class MetricCondition:
    """A metric, aggregated over ready tasks per slot, then over `over_ms`, compared."""

    metric: str
    over_ms: int
    comparison: Comparison
    threshold: float
    over_tasks: Aggregate = Aggregate.MEAN
    over_time: Aggregate = Aggregate.MEAN


@dataclass(frozen=True, slots=True)
class EventCondition:
    """How many events of a kind in the last `over_ms`, compared."""

    event: str
    over_ms: int
    comparison: Comparison
    threshold: float


Condition = MetricCondition | EventCondition


@dataclass(frozen=True, slots=True)
class Match:
    """Which services a rule looks at: a glob on the service name, `*` for all."""

    service: str = "*"

    def holds(self, name: str) -> bool:
        """Whether the service of this name is meant. Case counts, as in Docker."""
        return fnmatch.fnmatchcase(name, self.service)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `hash` names its meaning: it changes when anything in the rule changes.

    `cooldown_ms` counts from the last action on the service that the rule's action must not follow
    too closely (see guards). `mode` DRY_RUN keeps this rule from ever acting.
    """

    name: str
    hash: str
    when: Condition
    then: Action
    match: Match = Match()
    for_ms: int = 0
    cooldown_ms: int = 0
    priority: int = 0
    mode: Mode = Mode.LIVE


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force, sorted by name; `hash` is the digest of what they mean."""

    hash: str
    rules: tuple[Rule, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that some rule needs, sorted."""
        return tuple(
            sorted({r.when.metric for r in self.rules if isinstance(r.when, MetricCondition)})
        )

    @property
    def longest_window_ms(self) -> int:
        """How far back any rule looks over metrics."""
        return max(
            (r.when.over_ms for r in self.rules if isinstance(r.when, MetricCondition)), default=0
        )

    @property
    def longest_event_window_ms(self) -> int:
        """How far back any rule looks over events."""
        return max(
            (r.when.over_ms for r in self.rules if isinstance(r.when, EventCondition)), default=0
        )
