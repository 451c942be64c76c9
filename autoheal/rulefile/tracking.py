"""The parameters of `action: track`: targets, bounds, and how replicas may move either way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from autoheal.actions.track import DOWN, UP, Direction, Policy, Select, Target, Track
from autoheal.metrics import METRICS
from autoheal.rulefile.conditions import WINDOW_MS_MAX
from autoheal.rulefile.fields import COUNT_MAX, Fields, Shape, Spot, open_items, open_map
from autoheal.rulefile.kinds import Kinds
from autoheal.rulefile.mistakes import one_of
from autoheal.rulefile.sources import SourceNames, read_per_task, source_name
from autoheal.rulefile.tree import Scalar

TARGETS_MAX = 10
POLICIES_MAX = 10
SOURCE_OVER_MS = 60_000
POLICY_PER_MS_MIN = 1_000
POLICY_PER_MS_MAX = 1_800_000
STABILIZATION_MS_MAX = 3_600_000
PERCENT_MIN = 1.0
PERCENT_MAX = 1_000.0
TOLERANCE_MAX = 1.0

_TARGET = "{metric: cpu_percent, over: 1m, target: 70}"
_POLICY = "{tasks: 4, per: 15s}"
TRACK_SHAPE = Shape(
    ("action", "targets", "min", "max", "up", "down"),
    ("action", "targets", "min", "max"),
    f"{{action: track, targets: [{_TARGET}], min: 2, max: 20}}",
)
METRIC_TARGET_SHAPE = Shape(("metric", "over", "target"), ("metric", "over", "target"), _TARGET)
SOURCE_TARGET_SHAPE = Shape(
    ("source", "per", "over", "target"),
    ("source", "target"),
    "{source: jobs, per: task, target: 50}",
)
DIRECTION_SHAPE = Shape(
    ("policies", "select", "stabilization", "tolerance"), (), f"{{policies: [{_POLICY}]}}"
)
POLICY_SHAPE = Shape(("tasks", "percent", "per"), ("per",), _POLICY)
AMOUNTS = ("tasks", "percent")
SELECT_WORDS = tuple(select.value for select in Select)
# A target for tasks: what they all share says nothing of how many there should be.
METRIC_WORDS = tuple(metric.name for metric in METRICS if not metric.of_service)
_SERVICE_METRICS = frozenset(metric.name for metric in METRICS if metric.of_service)
_TARGET_KINDS = Kinds("target", ("metric", "source"), _TARGET, {})


def read_track(fields: Fields, sources: SourceNames) -> Track:
    """The action whose map has these keys."""
    least, most = (fields.whole(key, least=1, most=COUNT_MAX) for key in ("min", "max"))
    spot = fields.spot("max")
    if spot is not None and 0 < most < least:
        spot.note(f"{most} is below the min of {least}", "the other way round?")
    return Track(
        targets=_targets(fields.spot("targets"), sources),
        min=least,
        max=most,
        up=_direction(fields.spot("up"), UP),
        down=_direction(fields.spot("down"), DOWN),
    )


def _targets(spot: Spot | None, sources: SourceNames) -> tuple[Target, ...]:
    if spot is None:
        return ()
    found: list[Target] = []
    for each in open_items(spot, "targets", _TARGET, TARGETS_MAX):
        target = _target(each, sources)
        if target is None:
            continue
        figure = dataclasses.replace(target, target=0.0, over_ms=0)
        if figure in (dataclasses.replace(other, target=0.0, over_ms=0) for other in found):
            each.note(f"{target.metric or target.source} is named twice", "remove it")
        found.append(target)
    return tuple(found)


def _target(spot: Spot, sources: SourceNames) -> Target | None:
    """One target; None, and noted, if it cannot be told of what."""
    kind = _TARGET_KINDS.of(spot)
    if kind is None:
        return None
    shape, build = _TARGETS[kind]
    fields = open_map(spot, shape)
    target = build(fields, sources) if fields else None
    return target if target and (target.metric or target.source) else None


def _metric(fields: Fields, _: SourceNames) -> Target:
    spot = fields.spot("metric")
    if spot and isinstance(spot.node, Scalar) and spot.node.text in _SERVICE_METRICS:
        what = f"{spot.node.text} is one figure per service"
        fields.refuse("metric", what, one_of(METRIC_WORDS))
    name = fields.word("metric", "metric", METRIC_WORDS)
    return Target(_goal(fields), _over(fields), metric=name or "")


def _source(fields: Fields, sources: SourceNames) -> Target:
    over_ms = _over(fields) if fields.spot("over") else SOURCE_OVER_MS
    name = source_name(fields.spot("source"), sources)
    return Target(_goal(fields), over_ms, source=name, per_task=read_per_task(fields))


_TARGETS: dict[str, tuple[Shape, Callable[[Fields, SourceNames], Target]]] = {
    "metric": (METRIC_TARGET_SHAPE, _metric),
    "source": (SOURCE_TARGET_SHAPE, _source),
}


def _over(fields: Fields) -> int:
    return fields.duration("over", least_ms=1, most_ms=WINDOW_MS_MAX)


def _goal(fields: Fields) -> float:
    noted = fields.noted
    value = fields.number("target")
    spot = fields.spot("target")
    if spot is not None and fields.noted == noted and value <= 0:
        spot.note(f"{value:g} is no target", "more than 0: the figure is divided by it")
    return value


def _direction(spot: Spot | None, default: Direction) -> Direction:
    fields = open_map(spot, DIRECTION_SHAPE) if spot else None
    if fields is None:
        return default
    given: dict[str, Any] = {}
    if policies := fields.spot("policies"):
        each = open_items(policies, "policies", _POLICY, POLICIES_MAX)
        given["policies"] = tuple(map(_policy, each))
    if fields.spot("stabilization"):
        given["stabilization_ms"] = fields.duration("stabilization", most_ms=STABILIZATION_MS_MAX)
    if fields.spot("tolerance"):
        given["tolerance"] = fields.number("tolerance", least=0.0, most=TOLERANCE_MAX)
    if select := fields.word("select", "choice", SELECT_WORDS):
        given["select"] = Select(select)
    return dataclasses.replace(default, **given)


def _policy(spot: Spot) -> Policy:
    fields = open_map(spot, POLICY_SHAPE)
    if fields is None:
        return Policy(0)
    amount = fields.exactly_one(AMOUNTS, "it does not say how many")
    per_ms = fields.duration("per", least_ms=POLICY_PER_MS_MIN, most_ms=POLICY_PER_MS_MAX)
    if amount == "tasks":
        return Policy(per_ms, tasks=fields.whole("tasks", least=1, most=COUNT_MAX))
    percent = fields.number("percent", least=PERCENT_MIN, most=PERCENT_MAX)
    return Policy(per_ms, percent=percent)
