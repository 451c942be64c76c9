"""What a rule file can say: its maps, their keys, and the rule that each becomes.

A condition is a map whose first key is its kind (`_CONDITIONS`). An action's keys are the fields of
its dataclass (`int`, at least 1; `float`; `Literal` words): a new action needs no change here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, cast, get_args, get_type_hints

from autoheal.actions import ACTIONS, Action, Escalate
from autoheal.core.rule import (
    Aggregate,
    Comparison,
    Condition,
    EventCondition,
    Match,
    MetricCondition,
    Rule,
)
from autoheal.metrics import EVENT_BY_NAME, METRIC_BY_NAME
from autoheal.model import ActionKind, Mode
from autoheal.rulefile.fields import Fields, Shape, Spot, open_map, word
from autoheal.rulefile.mistakes import Notes, nearest, one_of, shown
from autoheal.rulefile.tree import Items, Kind, Map, Node, Scalar, described, read_tree

VERSION = "1"
WINDOW_MS_MAX = 24 * 3_600_000
WAIT_MS_MAX = 30 * 24 * 3_600_000
COUNT_MAX = 10_000
PRIORITY_MAX = 1_000

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_SERVICE = re.compile(r"[A-Za-z0-9_.*?\[\]!-]{1,128}")

_METRIC = "{metric: cpu_percent, over: 2m, above: 80}"
_EVENT = "{event: oom_killed, over: 10m, at_least: 1}"
_SCALE_UP = ACTIONS[ActionKind.SCALE_UP].example
_ACTIONS = tuple(kind.value for kind in ACTIONS)
_COMPARISONS = tuple(comparison.value for comparison in Comparison)
_AGGREGATES = tuple(aggregate.value for aggregate in Aggregate)

_FILE_SHAPE = Shape(("version", "rules"), ("rules",), "{version: 1, rules: [...]}")
_RULE_SHAPE = Shape(
    ("name", "match", "when", "for", "then", "cooldown", "priority", "mode"),
    ("name", "when", "then"),
    "{name: cpu-high, when: {...}, then: {...}}",
)
_MATCH_SHAPE = Shape(("service",), ("service",), '{service: "web-*"}')
_METRIC_SHAPE = Shape(
    ("metric", "over", *_COMPARISONS, "over_tasks", "over_time"), ("metric", "over"), _METRIC
)
_EVENT_SHAPE = Shape(("event", "over", *_COMPARISONS), ("event", "over"), _EVENT)


class Reader:
    """Reads rule files one after the other; a name may occur once in all of them."""

    def __init__(self, notes: Notes) -> None:
        self.rules: list[Rule] = []
        self._notes = notes
        self._places: dict[str, str] = {}

    def read(self, file: str, text: bytes) -> None:
        """Add the rules of one file."""
        root = read_tree(file, text, self._notes)
        if root is None:
            return
        spot = Spot(file, "", root, self._notes)
        if isinstance(root, Scalar) and root.kind is Kind.NOTHING:
            spot.note("the file is empty", "begin with rules:")
        elif _is_known_version(spot) and (fields := open_map(spot, _FILE_SHAPE)):
            self._read_rules(fields.spot("rules"))

    def _read_rules(self, spot: Spot | None) -> None:
        if spot is None:
            return
        if not isinstance(spot.node, Items):
            spot.note(f"{described(spot.node)} is not a list", "begin each rule with a dash")
            return
        for number, node in enumerate(spot.node.nodes):
            self._read_rule(Spot(spot.file, f"{spot.path}[{number}]", node, self._notes))

    def _read_rule(self, spot: Spot) -> None:
        fields = open_map(spot, _RULE_SHAPE)
        if fields is None:
            return
        rule = _rule(fields)
        name = fields.spot("name")
        if name is not None and rule.name:
            self._register(rule.name, name)
        self.rules.append(rule)

    def _register(self, name: str, spot: Spot) -> None:
        if name in self._places:
            spot.note(f"the name {name} is taken", f"by {self._places[name]}")
        else:
            self._places[name] = f"{spot.file}:{spot.node.line}:{spot.node.column}"


def _is_known_version(spot: Spot) -> bool:
    """Whether the file is written in this language: if not, nothing else in it can be judged."""
    for key, value in spot.node.entries if isinstance(spot.node, Map) else ():
        if key.text == "version" and not _is_version(value):
            hint = f"this autoheal reads version: {VERSION}"
            spot.below("version", value).note(f"{described(value)} is not a known version", hint)
            return False
    return True


def _is_version(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind is Kind.WHOLE and node.text == VERSION


def _rule(fields: Fields) -> Rule:
    hint = "lower case, digits and dashes, 63 at most, such as cpu-high"
    mode = fields.word("mode", "mode", [Mode.DRY_RUN.value])
    return Rule(
        name=fields.text("name", "a name", _NAME, hint),
        hash="",  # a rule is named by its meaning once all of it is known
        match=_match(fields.spot("match")),
        when=_condition(fields.spot("when")),
        for_ms=fields.duration("for", most_ms=WAIT_MS_MAX),
        then=_action(fields.spot("then")),
        cooldown_ms=fields.duration("cooldown", most_ms=WAIT_MS_MAX),
        priority=fields.whole("priority", least=-PRIORITY_MAX, most=PRIORITY_MAX),
        mode=Mode(mode or Mode.LIVE),
    )


def _match(spot: Spot | None) -> Match:
    fields = open_map(spot, _MATCH_SHAPE) if spot else None
    if fields is None:
        return Match()
    return Match(fields.text("service", "a pattern of service names", _SERVICE, 'such as "web-*"'))


def _condition(spot: Spot | None) -> Condition:
    kind = _condition_kind(spot) if spot else None
    if spot is None or kind is None:
        return _NO_CONDITION
    shape, build = _CONDITIONS[kind]
    fields = open_map(spot, shape)
    return build(fields) if fields else _NO_CONDITION


def _condition_kind(spot: Spot) -> str | None:
    """The kind of condition that is meant; None, and noted, if that cannot be told."""
    node = spot.node
    if not isinstance(node, Map) or not node.entries:
        if not isinstance(node, Map) or node.complete:
            spot.note(f"{described(node)} is not a condition", f"such as {_METRIC}")
        return None
    kinds = tuple(_CONDITIONS)
    keys = [key for key, _ in node.entries]
    for key in keys:
        if key.text in kinds:
            if key is not keys[0]:
                spot.at(key).note(f"'{key.text}' is the kind of condition", "write it first")
            return key.text
    # A misspelt kind is read as the one that was meant; it is noted as an unknown key.
    guess = next(filter(None, (nearest(key.text, kinds) for key in keys)), None)
    if guess is None and node.complete:
        spot.at(keys[0]).note(f"unknown condition {shown(keys[0].text)}", one_of(kinds))
    return guess


def _metric(fields: Fields) -> Condition:
    comparison, threshold = _comparison(fields)
    return MetricCondition(
        metric=fields.word("metric", "metric", METRIC_BY_NAME) or "",
        over_ms=fields.duration("over", least_ms=1, most_ms=WINDOW_MS_MAX),
        comparison=comparison,
        threshold=threshold,
        over_tasks=_aggregate(fields, "over_tasks"),
        over_time=_aggregate(fields, "over_time"),
    )


def _event(fields: Fields) -> Condition:
    comparison, threshold = _comparison(fields)
    return EventCondition(
        event=fields.word("event", "event", EVENT_BY_NAME) or "",
        over_ms=fields.duration("over", least_ms=1, most_ms=WINDOW_MS_MAX),
        comparison=comparison,
        threshold=threshold,
    )


_CONDITIONS: dict[str, tuple[Shape, Callable[[Fields], Condition]]] = {
    "metric": (_METRIC_SHAPE, _metric),
    "event": (_EVENT_SHAPE, _event),
}
_NO_CONDITION = EventCondition("", 0, Comparison.ABOVE, 0.0)


def _comparison(fields: Fields) -> tuple[Comparison, float]:
    key = fields.exactly_one(_COMPARISONS)
    return (Comparison(key), fields.number(key)) if key else (Comparison.ABOVE, 0.0)


def _aggregate(fields: Fields, key: str) -> Aggregate:
    return Aggregate(fields.word(key, "aggregate", _AGGREGATES) or Aggregate.MEAN)


def _action(spot: Spot | None) -> Action:
    kind = _action_kind(spot) if spot else None
    if spot is None or kind is None:
        return _NO_ACTION
    fields = open_map(spot, _shape(ACTIONS[kind]))
    return _build(ACTIONS[kind], fields) if fields else _NO_ACTION


def _shape(action: type[Action]) -> Shape:
    """The keys that an action's parameters make; those without a default are required."""
    parameters = _parameters(action)
    keys = ("action", *(field.name for field in parameters))
    return Shape(keys, ("action", *_required(action)), action.example)


def _required(action: type[Action]) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in _parameters(action)
        if field.default is missing and field.default_factory is missing
    ]


def _parameters(action: type[Action]) -> tuple[dataclasses.Field[Any], ...]:
    # That each action is a dataclass, its base class cannot say.
    return dataclasses.fields(cast("Any", action))


def _build(action: type[Action], fields: Fields) -> Action:
    types = get_type_hints(action)
    required = _required(action)
    values = {
        field.name: _value(fields, field.name, types[field.name])
        for field in _parameters(action)
        if field.name in required or fields.spot(field.name)
    }
    return cast("Callable[..., Action]", action)(**values)


def _action_kind(spot: Spot) -> ActionKind | None:
    """The action that is meant; None, and noted, if that cannot be told."""
    node = spot.node
    if not isinstance(node, Map):
        spot.note(f"{described(node)} is not an action", f"such as {_SCALE_UP}")
        return None
    for key, value in node.entries:
        # A misspelt `action` is read as such; it is noted as an unknown key.
        if nearest(key.text, ["action"]):
            return _named_action(spot.below("action", value))
    if node.complete:
        spot.note("missing key 'action'", one_of(_ACTIONS))
    return None


def _named_action(spot: Spot) -> ActionKind | None:
    name = word(spot, "action", _ACTIONS)
    if name is None and isinstance(spot.node, Scalar):
        name = nearest(spot.node.text, _ACTIONS)
    return ActionKind(name) if name else None


_NO_ACTION = Escalate()


def _value(fields: Fields, name: str, kind: Any) -> object:  # noqa: ANN401  # any annotation
    """The value of one parameter of an action, read as its field is annotated."""
    if kind is int:
        return fields.whole(name, least=1, most=COUNT_MAX)
    if kind is float:
        return fields.number(name)
    return fields.word(name, name, get_args(kind))
