"""Rules as the engine evaluates them: durations in ms, everything named, nothing left to parse."""

from __future__ import annotations

import dataclasses
import fnmatch
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from autoheal.actions import Action, Escalate
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

    @property
    def opposite(self) -> Comparison:
        """The comparison that holds exactly where this one does not."""
        return _OPPOSITES[self]


_OPERATORS: dict[Comparison, Callable[[Any, float], Any]] = {
    Comparison.ABOVE: operator.gt,
    Comparison.BELOW: operator.lt,
    Comparison.AT_LEAST: operator.ge,
    Comparison.AT_MOST: operator.le,
}
_OPPOSITES = {
    Comparison.ABOVE: Comparison.AT_MOST,
    Comparison.AT_MOST: Comparison.ABOVE,
    Comparison.BELOW: Comparison.AT_LEAST,
    Comparison.AT_LEAST: Comparison.BELOW,
}


class Aggregate(StrEnum):
    """How many figures become one. All but SLOPE are monotone: a higher input never lowers them.

    SLOPE, over time only, is the least-squares slope of the slots, per minute.
    """

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    SLOPE = "slope"


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
    """How many events of a kind in the last `over_ms`, compared.

    `exit_codes` narrows task_failed to a range, both ends included; `reason` task_rejected to one
    of REJECTIONS ("" is any).
    """

    event: str
    over_ms: int
    comparison: Comparison
    threshold: float
    exit_codes: tuple[int, int] | None = None
    reason: str = ""


class Combinator(StrEnum):
    """How conditions become one, in the three-valued logic of Kleene: NO_DATA is 'unknown'."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Combined:
    """Several conditions as one; at least one. `not` is no combinator, see `negated`."""

    combinator: Combinator
    conditions: tuple[Condition, ...]


Leaf = MetricCondition | EventCondition
Condition = Leaf | Combined


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The conditions that look at figures, from left to right."""
    if isinstance(condition, Combined):
        for each in condition.conditions:
            yield from leaves(each)
    else:
        yield condition


def negated(condition: Condition) -> Condition:
    """The condition that is TRUE where this one is FALSE, and the other way round.

    The negation is pushed down to the comparisons (De Morgan), so that missing data is filled in
    against the rule that asks, not against the condition inside its `not`.
    """
    if isinstance(condition, Combined):
        other = Combinator.ANY if condition.combinator is Combinator.ALL else Combinator.ALL
        return Combined(other, tuple(negated(each) for each in condition.conditions))
    return dataclasses.replace(condition, comparison=condition.comparison.opposite)


class Risk(StrEnum):
    """What a rule must ask for before autoheal replaces or adds tasks in spite of it.

    VOLUME: one replica that writes to a volume. SINGLE: one replica, stopped before its successor
    starts, whose task is healthy. UNPINNED: an image without a digest, so that new tasks may run
    other code. NO_RESTART: Swarm was told never to restart it, as for jobs and cron services.
    """

    VOLUME = "volume"
    SINGLE = "single"
    UNPINNED = "unpinned"
    NO_RESTART = "no_restart"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many actions of one rule on one service in so long, durable ones of our own."""

    times: int
    per_ms: int


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
    too closely (see guards). An action that did not clear the condition within `clears_within_ms`
    after it settled was ineffective (0: it is not judged by the condition). `otherwise` is what is
    done when the action could not be, or did not help. `mode` DRY_RUN keeps this rule from acting.
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
    limit: Limit | None = None
    clears_within_ms: int = 0
    otherwise: Escalate | None = None
    allow_risk: tuple[Risk, ...] = ()

    @property
    def window_ms(self) -> int:
        """How far back the rule looks."""
        return max(leaf.over_ms for leaf in leaves(self.when))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force, sorted by name; `hash` is the digest of what they mean."""

    hash: str
    rules: tuple[Rule, ...]

    @property
    def metric_conditions(self) -> tuple[MetricCondition, ...]:
        """Every metric condition of every rule, once, in the order of the rules."""
        found = (leaf for rule in self.rules for leaf in leaves(rule.when))
        return tuple(dict.fromkeys(each for each in found if isinstance(each, MetricCondition)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that some rule needs, sorted."""
        return tuple(sorted({each.metric for each in self.metric_conditions}))

    @property
    def longest_window_ms(self) -> int:
        """How far back any rule looks over metrics."""
        return max((each.over_ms for each in self.metric_conditions), default=0)

    @property
    def longest_event_window_ms(self) -> int:
        """How far back any rule looks over events."""
        found = (leaf for rule in self.rules for leaf in leaves(rule.when))
        return max((each.over_ms for each in found if isinstance(each, EventCondition)), default=0)
