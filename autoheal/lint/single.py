"""Checks that look at one rule. Each yields what it has to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from autoheal.actions import RaiseMemory, Restart, ScaleDown, ScaleUp
from autoheal.actions.track import Select, Track
from autoheal.core.limits import Limits
from autoheal.core.rule import (
    Aggregate,
    Comparison,
    EventCondition,
    Leaf,
    MetricCondition,
    Rule,
    SourceCondition,
    leaves,
)
from autoheal.lint.conditions import Concern, concern, is_level, needed
from autoheal.lint.finding import Said
from autoheal.metrics import METRIC_BY_NAME, Unit
from autoheal.units import format_duration

MINUTE_MS = 60_000
STEPS_MIN = 3
READS_MIN = 2
DOWN_WINDOW_MS_MIN = 10 * MINUTE_MS
TOLERANCE_MIN = 0.05

_MEMORY = ("memory_bytes", "memory_percent")
# With a reservation and no limit a task may well use more CPU than what it is a percentage of.
_UNCAPPED = ("cpu_percent",)
_OF_MANY = (Aggregate.SLOPE, Aggregate.FORECAST, Aggregate.RATE)

Spans = Mapping[str, int]
"""How often each source is read, in ms, by name."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look for, and the code it goes by."""

    code: str
    look: Callable[[Rule, Spans], Iterator[Said]]


def _memory_scale_up(rule: Rule, _: Spans) -> Iterator[Said]:
    metrics: list[str] = []
    if isinstance(rule.then, Track):
        metrics = [target.metric for target in rule.then.targets if target.metric in _MEMORY]
    elif isinstance(rule.then, ScaleUp) and (found := concern(rule.when, _memory_alone)):
        metrics = [found]
    for metric in metrics:
        yield Said(
            f"adds tasks on {metric}, which they seldom lower: a JVM sits at 90 % of its limit"
            " and a leak fills the new ones too",
            "scale on cpu_percent or on a queue, and escalate on memory",
        )


def _memory_alone(leaf: Leaf) -> Concern[str]:
    """The metric, of one that asks for much memory; False of one that asks for other load."""
    if isinstance(leaf, EventCondition) or not leaf.comparison.wants_high:
        return None
    if isinstance(leaf, SourceCondition):
        return False
    if leaf.metric in _MEMORY:
        return leaf.metric
    return None if METRIC_BY_NAME[leaf.metric].of_service else False


def _memory_scale_down(rule: Rule, _: Spans) -> Iterator[Said]:
    if not isinstance(rule.then, ScaleDown):
        return
    found = needed(rule.when, _is_low_memory)
    if isinstance(found, MetricCondition):
        yield Said(
            f"waits for low {found.metric}, which may never come: a JVM keeps what it once took,"
            " so that idle tasks stay",
            "ask for low cpu_percent alone",
        )


def _is_low_memory(leaf: Leaf) -> bool:
    low = isinstance(leaf, MetricCondition) and not leaf.comparison.wants_high
    return low and isinstance(leaf, MetricCondition) and leaf.metric in _MEMORY and is_level(leaf)


def _no_limit(rule: Rule, _: Spans) -> Iterator[Said]:
    if isinstance(rule.then, Restart | RaiseMemory) and rule.limit is None:
        yield Said(
            "may repair the same service again and again, which hides the fault and uses up the"
            " budget of all services",
            "such as limit: {times: 3, per: 24h}",
        )


def _no_clears_within(rule: Rule, _: Spans) -> Iterator[Said]:
    if isinstance(rule.then, Restart) and not rule.clears_within_ms:
        yield Said(
            "never asks whether the restart helped, so nobody is told if it did not",
            "such as clears_within: 5m",
        )


def _short_cooldown(rule: Rule, _: Spans) -> Iterator[Said]:
    scales = isinstance(rule.then, ScaleUp | ScaleDown)
    if scales and rule.limit is None and rule.cooldown_ms < rule.window_ms:
        over = format_duration(rule.window_ms)
        yield Said(
            f"takes the next step while its window of {over} still shows the load from before"
            " the last one",
            f"cooldown: {over} or more",
        )


def _short_window(rule: Rule, spans: Spans) -> Iterator[Said]:
    step_ms = Limits().step_ms
    for leaf in dict.fromkeys(leaves(rule.when)):
        over = format_duration(leaf.over_ms)
        if isinstance(leaf, MetricCondition) and leaf.over_ms < STEPS_MIN * step_ms:
            least = format_duration(STEPS_MIN * step_ms)
            yield Said(
                f"looks at {leaf.metric} over {over}, which a sample or two decide: one is taken"
                f" every {format_duration(step_ms)}",
                f"over: {least} or more",
            )
        if isinstance(leaf, SourceCondition) and leaf.over_time in _OF_MANY:
            yield from _few_values(leaf, spans.get(leaf.source, 0))


def _few_values(leaf: SourceCondition, every_ms: int) -> Iterator[Said]:
    if leaf.over_ms < READS_MIN * every_ms:
        yield Said(
            f"takes the {leaf.over_time} of {leaf.source} over {format_duration(leaf.over_ms)}, and"
            f" it is read every {format_duration(every_ms)}: one value does not move",
            f"over: {format_duration(READS_MIN * every_ms)} or more",
        )


def _short_down_window(rule: Rule, _: Spans) -> Iterator[Said]:
    watched_ms = rule.window_ms + rule.for_ms
    if isinstance(rule.then, ScaleDown) and watched_ms < DOWN_WINDOW_MS_MIN:
        yield Said(
            f"takes tasks away after {format_duration(watched_ms)}: any lull looks like the end of"
            " the load",
            "over: 15m",
        )


def _pointless_for(rule: Rule, _: Spans) -> Iterator[Said]:
    leaf = rule.when
    if not isinstance(leaf, MetricCondition | SourceCondition):
        return
    unbroken = Aggregate.MIN if leaf.comparison.wants_high else Aggregate.MAX
    if leaf.over_time is unbroken and 0 < rule.for_ms <= leaf.over_ms:
        whole = format_duration(leaf.over_ms + rule.for_ms)
        yield Said(
            f"has a for of {format_duration(rule.for_ms)} after an over of"
            f" {format_duration(leaf.over_ms)} in which the {unbroken} allows no break already",
            f"over: {whole} alone",
        )


def _rate_of_gauge(rule: Rule, _: Spans) -> Iterator[Said]:
    for leaf in dict.fromkeys(leaves(rule.when)):
        if isinstance(leaf, MetricCondition) and leaf.over_time is Aggregate.RATE:
            yield Said(
                f"takes the rate of {leaf.metric}, which is no counter: each fall counts as a start"
                " from 0",
                "over_time: slope",
            )


def _counts_deploys(rule: Rule, _: Spans) -> Iterator[Said]:
    if concern(rule.when, _died_alone):
        yield Said(
            "counts died, which each task that a deploy or a scale-down replaces or stops adds to",
            "task_failed, or all of died and tasks_missing",
        )


def _died_alone(leaf: Leaf) -> Concern[bool]:
    return isinstance(leaf, EventCondition) and leaf.event == "died" and leaf.comparison.wants_high


def _threshold_out_of_reach(rule: Rule, _: Spans) -> Iterator[Said]:
    for leaf in dict.fromkeys(leaves(rule.when)):
        if not isinstance(leaf, MetricCondition) or not is_level(leaf):
            continue
        holds = _always(leaf)
        if holds is not None:
            yield Said(
                f"asks for {leaf.metric} {_words(leaf.comparison)} {leaf.threshold:g}, which"
                f" {'always' if holds else 'never'} holds: {_range(leaf.metric)}",
                "a threshold that it can cross",
            )


def _always(leaf: MetricCondition) -> bool | None:
    """True if every value of the metric satisfies the comparison, False if none does."""
    compare = leaf.comparison.operator
    lowest = bool(compare(0.0, leaf.threshold))
    cap = _cap(leaf.metric)
    highest = leaf.comparison.wants_high if cap is None else bool(compare(cap, leaf.threshold))
    return lowest if lowest is highest else None


def _cap(metric: str) -> float | None:
    return None if metric in _UNCAPPED else METRIC_BY_NAME[metric].cap


def _range(metric: str) -> str:
    cap = _cap(metric)
    return "it is never below 0" if cap is None else f"it goes from 0 to {cap:g}"


def _words(comparison: Comparison) -> str:
    return comparison.value.replace("_", " ")


def _low_tolerance(rule: Rule, _: Spans) -> Iterator[Said]:
    if not isinstance(rule.then, Track):
        return
    for name, way in (("up", rule.then.up), ("down", rule.then.down)):
        if way.select is not Select.DISABLED and way.tolerance < TOLERANCE_MIN:
            yield Said(
                f"has a tolerance of {way.tolerance:g} for {name}, which noise alone exceeds",
                "0.1, as is meant if it is left out",
            )


def _no_room(rule: Rule, _: Spans) -> Iterator[Said]:
    if isinstance(rule.then, Track) and rule.then.min == rule.then.max:
        yield Said(
            f"never changes anything between a min and a max of {rule.then.min}",
            "a max above the min",
        )


def is_percentage(leaf: Leaf) -> bool:
    """Whether the figure is in percent."""
    return isinstance(leaf, MetricCondition) and METRIC_BY_NAME[leaf.metric].unit is Unit.PERCENT


SINGLE = (
    Check("memory-scale-up", _memory_scale_up),
    Check("memory-scale-down", _memory_scale_down),
    Check("no-limit", _no_limit),
    Check("no-clears-within", _no_clears_within),
    Check("short-cooldown", _short_cooldown),
    Check("short-window", _short_window),
    Check("short-down-window", _short_down_window),
    Check("pointless-for", _pointless_for),
    Check("rate-of-gauge", _rate_of_gauge),
    Check("counts-deploys", _counts_deploys),
    Check("out-of-reach", _threshold_out_of_reach),
    Check("narrow-band", _low_tolerance),
    Check("bounds", _no_room),
)
