"""What can be told of a condition without any figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    Leaf,
    MetricCondition,
    SourceCondition,
)

Figure = MetricCondition | SourceCondition
T = TypeVar("T")
Concern: TypeAlias = T | Literal[False] | None
"""What is wrong; False: nothing is; None: it has nothing to do with the question."""

_STRICT = (Comparison.ABOVE, Comparison.BELOW)
_NOT_LEVELS = (Aggregate.SLOPE, Aggregate.FORECAST, Aggregate.RATE)


def concern(condition: Condition, judge: Callable[[Leaf], Concern[T]]) -> Concern[T]:
    """What is wrong with a condition, if `judge` tells of one that looks at figures.

    In an `all` one that is right keeps the others from doing harm; in an `any` one that is wrong is
    enough.
    """
    if not isinstance(condition, Combined):
        return judge(condition)
    found = [concern(each, judge) for each in condition.conditions]
    is_safe = any(each is False for each in found)
    if is_safe and condition.combinator is Combinator.ALL:
        return False
    return next((each for each in found if each), False if is_safe else None)


def needed(condition: Condition, is_meant: Callable[[Leaf], bool]) -> Leaf | None:
    """A leaf of the kind that is meant, if the condition cannot hold unless one of them does."""
    if not isinstance(condition, Combined):
        return condition if is_meant(condition) else None
    found = [needed(each, is_meant) for each in condition.conditions]
    if condition.combinator is Combinator.ANY and None in found:
        return None
    return next((each for each in found if each), None)


def implies(one: Condition, other: Condition) -> bool:
    """Whether `other` surely holds wherever `one` does.

    Counts of events start anew after a rule's own last action, so they imply nothing for another.
    """
    if isinstance(other, Combined) and other.combinator is Combinator.ALL:
        return all(implies(one, each) for each in other.conditions)
    if isinstance(one, Combined) and one.combinator is Combinator.ANY:
        return all(implies(each, other) for each in one.conditions)
    if isinstance(other, Combined) and any(implies(one, each) for each in other.conditions):
        return True
    if isinstance(one, Combined):
        return any(implies(each, other) for each in one.conditions)
    if isinstance(other, Combined | EventCondition):
        return False
    return _same_look(one, other) and _reaches(one, other)


def _same_look(one: Leaf, other: Figure) -> bool:
    """Whether both compare the same figure in the same direction."""
    if one.comparison.wants_high is not other.comparison.wants_high:
        return False
    return one == dataclasses.replace(other, comparison=one.comparison, threshold=one.threshold)


def _reaches(one: Leaf, other: Leaf) -> bool:
    """Whether a figure that satisfies one comparison satisfies the other, of the same direction."""
    if one.threshold == other.threshold:
        return one.comparison in _STRICT or other.comparison not in _STRICT
    return (one.threshold > other.threshold) is one.comparison.wants_high


def is_level(leaf: Figure) -> bool:
    """Whether it asks how high the figure is, not how it moves."""
    return leaf.over_time not in _NOT_LEVELS


def same_level(one: Figure, other: Figure) -> bool:
    """Whether both ask how high the same figure is, over whatever time."""
    if isinstance(one, MetricCondition) and isinstance(other, MetricCondition):
        same = (one.metric, one.over_tasks) == (other.metric, other.over_tasks)
    elif isinstance(one, SourceCondition) and isinstance(other, SourceCondition):
        same = (one.source, one.per_task) == (other.source, other.per_task)
    else:
        same = False
    return same and is_level(one) and is_level(other)


def can_follow(high: Figure, low: Figure, before: int = 1, after: int = 1) -> bool:
    """Whether one load can satisfy `high` when shared by `before` tasks, and `low` by `after`."""
    at_least, at_most = high.threshold * before, low.threshold * after
    if at_least == at_most:
        return high.comparison not in _STRICT and low.comparison not in _STRICT
    return at_least < at_most
