"""Rules as the engine evaluates them: durations in ms, everything named, nothing left to parse."""

from __future__ import annotations

import bisect
import dataclasses
import fnmatch
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from autoheal.actions import Action, Escalate
from autoheal.actions.track import Target, Track
from autoheal.model import Mode, Service
from autoheal.records import canonical, digest

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
DAYS_IN_WEEK = 7
# 1 January 1970 was a Thursday; Monday is 0.
EPOCH_WEEKDAY = 3


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
    """How many figures become one.

    MEAN, MAX, MIN and the percentiles are monotone (a higher input never lowers them) and go over
    tasks or time. The others go over time only: LAST is the newest slot; SLOPE the least-squares
    slope, per minute; FORECAST the value of that straight line some time ahead, as PromQL's
    predict_linear; RATE the average rise per second of a figure that only grows, a fall counting as
    a new start from 0, as PromQL's rate.
    """

    MEAN = "mean"
    MAX = "max"
    MIN = "min"
    P50 = "p50"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"
    LAST = "last"
    SLOPE = "slope"
    FORECAST = "forecast"
    RATE = "rate"

    @property
    def quantile(self) -> float | None:
        """The share of figures that lie below a percentile; None for what is none."""
        return int(self.value[1:]) / 100 if self.value[1:].isdecimal() else None


OVER_TASKS = (
    Aggregate.MEAN,
    Aggregate.MAX,
    Aggregate.MIN,
    Aggregate.P50,
    Aggregate.P90,
    Aggregate.P95,
    Aggregate.P99,
)


@dataclass(frozen=True, slots=True)
class MetricCondition:
    """A metric, aggregated over ready tasks per slot, then over `over_ms`, compared.

    `ahead_ms` is how far ahead FORECAST looks; 0 for the others.
    """

    metric: str
    over_ms: int
    comparison: Comparison
    threshold: float
    over_tasks: Aggregate = Aggregate.MEAN
    over_time: Aggregate = Aggregate.MEAN
    ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class SourceCondition:
    """The figure of an outside source, aggregated over `over_ms`, compared.

    `per_task` divides each slot's figure by the service's tasks that ran then.
    """

    source: str
    over_ms: int
    comparison: Comparison
    threshold: float
    over_time: Aggregate = Aggregate.MEAN
    ahead_ms: int = 0
    per_task: bool = False


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


Leaf = MetricCondition | SourceCondition | EventCondition
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
    """Which services a rule looks at: all of these must hold. Case counts, as in Docker.

    `service` and `stack` are globs, `labels` pairs of a name and a glob for its value, sorted by
    name; None and () ask for nothing.
    """

    service: str = "*"
    stack: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def holds(self, service: Service) -> bool:
        """Whether this service is meant."""
        if not fnmatch.fnmatchcase(service.name, self.service):
            return False
        if self.stack is not None and not fnmatch.fnmatchcase(service.stack or "", self.stack):
            return False
        return all(
            name in service.labels and fnmatch.fnmatchcase(service.labels[name], value)
            for name, value in self.labels
        )


@dataclass(frozen=True, slots=True)
class Zone:
    """A time zone: what is to be added to UTC, in ms, from each of these times on (UTC, ms).

    The rule file's reader lays out the changes of the years to come, so that no data of the machine
    that decides can make a difference.
    """

    name: str
    changes: tuple[tuple[int, int], ...]

    def local_ms(self, now_ms: int) -> int:
        """Local time, as if it were UTC."""
        place = bisect.bisect_right(self.changes, now_ms, key=operator.itemgetter(0))
        return now_ms + self.changes[max(0, place - 1)][1]


@dataclass(frozen=True, slots=True)
class Period:
    """Part of a week: on these days (0 is Monday), from a minute of the day to another.

    Where `to_minute` is not later than `from_minute` it ends on the day after.
    """

    days: tuple[int, ...]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a rule is in force: within any of the periods, or, `is_outside`, outside all of them."""

    zone: Zone
    periods: tuple[Period, ...]
    is_outside: bool = False

    def holds(self, now_ms: int) -> bool:
        """Whether the rule is in force now."""
        days, ms = divmod(self.zone.local_ms(now_ms), DAY_MS)
        minute = ms // MINUTE_MS
        weekday = (days + EPOCH_WEEKDAY) % DAYS_IN_WEEK
        inside = any(_is_within(period, weekday, minute) for period in self.periods)
        return inside is not self.is_outside


def _is_within(period: Period, weekday: int, minute: int) -> bool:
    yesterday = (weekday - 1) % DAYS_IN_WEEK
    if period.from_minute < period.to_minute:
        return weekday in period.days and period.from_minute <= minute < period.to_minute
    begun = weekday in period.days and minute >= period.from_minute
    return begun or (yesterday in period.days and minute < period.to_minute)


@dataclass(frozen=True, slots=True)
class Source:
    """A figure from elsewhere, read every `every_ms`; a value counts for `stale_after_ms`.

    `kind` says how it is read (an adapter's word), `options` with what, by name: strings, sorted.
    Secrets are not in it: an option may name a file that holds one.
    """

    name: str
    kind: str
    options: tuple[tuple[str, str], ...]
    every_ms: int
    timeout_ms: int
    stale_after_ms: int

    @property
    def definition(self) -> str:
        """A digest of what is asked, and where; how often makes no difference."""
        return digest(canonical([self.kind, self.options]))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `hash` names its meaning: it changes when anything in the rule changes.

    `cooldown_ms` counts from the last action on the service that the rule's action must not follow
    too closely (see guards). An action that did not clear the condition within `clears_within_ms`
    after it settled was ineffective (0: it is not judged by the condition). `otherwise` is what is
    done when the action could not be, or did not help. `mode` DRY_RUN keeps this rule from acting.
    An alarm of the rule goes on until its condition has been FALSE for `keep_firing_ms`. Outside
    its `schedule` the rule is not in force.
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
    keep_firing_ms: int = 0
    schedule: Schedule | None = None

    @property
    def window_ms(self) -> int:
        """How far back the rule looks."""
        return max((leaf.over_ms for leaf in leaves(self.when)), default=0)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules in force and the sources they name, sorted by name.

    `hash` is the digest of what they mean.
    """

    hash: str
    rules: tuple[Rule, ...]
    sources: tuple[Source, ...] = ()

    @property
    def metric_conditions(self) -> tuple[MetricCondition, ...]:
        """Every metric condition of every rule, once, in the order of the rules."""
        found = (leaf for rule in self.rules for leaf in leaves(rule.when))
        return tuple(dict.fromkeys(each for each in found if isinstance(each, MetricCondition)))

    @property
    def source_conditions(self) -> tuple[SourceCondition, ...]:
        """Every source condition of every rule, once, in the order of the rules."""
        found = (leaf for rule in self.rules for leaf in leaves(rule.when))
        return tuple(dict.fromkeys(each for each in found if isinstance(each, SourceCondition)))

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every target that some rule tracks, once, in the order of the rules."""
        found = (rule.then.targets for rule in self.rules if isinstance(rule.then, Track))
        return tuple(dict.fromkeys(target for targets in found for target in targets))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that some rule needs, sorted."""
        tracked = {each.metric for each in self.targets if each.metric}
        return tuple(sorted({each.metric for each in self.metric_conditions} | tracked))

    @property
    def longest_window_ms(self) -> int:
        """How far back any rule looks over metrics and sources."""
        looks = [each.over_ms for each in self.metric_conditions]
        looks += [each.over_ms for each in self.source_conditions]
        looks += [each.over_ms for each in self.targets]
        return max(looks, default=0)

    @property
    def longest_source_window_ms(self) -> int:
        """How far back what sources told may count.

        The oldest slot may show a value that a source told as long before as one counts.
        """
        stale_ms = {source.name: source.stale_after_ms for source in self.sources}
        looks = [(each.source, each.over_ms) for each in self.source_conditions]
        looks += [(each.source, each.over_ms) for each in self.targets if each.source]
        return max((over_ms + stale_ms.get(name, 0) for name, over_ms in looks), default=0)

    @property
    def longest_event_window_ms(self) -> int:
        """How far back any rule looks over events."""
        found = (leaf for rule in self.rules for leaf in leaves(rule.when))
        return max((each.over_ms for each in found if isinstance(each, EventCondition)), default=0)
