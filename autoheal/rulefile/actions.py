"""The `then` of a rule, and its `otherwise`.

An action's keys are the fields of its dataclass (`int`, at least 1; `float`; `Size`; `Literal`
words; within its `bounds`): a new action needs no change here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args, get_type_hints

from autoheal.actions import ACTIONS, Action, Escalate, RaiseMemory
from autoheal.model import ActionKind
from autoheal.rulefile.fields import Fields, Shape, Spot, open_map, word
from autoheal.rulefile.mistakes import nearest, one_of
from autoheal.rulefile.tree import Map, Scalar, described
from autoheal.units import Size

COUNT_MAX = 10_000

_SCALE_UP = ACTIONS[ActionKind.SCALE_UP].example
_ESCALATE = ACTIONS[ActionKind.ESCALATE].example
_ACTIONS = tuple(kind.value for kind in ACTIONS)


def read_action(spot: Spot | None) -> Action | None:
    """The action at this spot; None, and noted, if it cannot be told which it is."""
    return _read(spot, _ACTIONS, _SCALE_UP) if spot else None


def read_otherwise(spot: Spot | None) -> Escalate | None:
    """The escalation at this spot: what failed is left to people. None if the key is absent."""
    action = _read(spot, (ActionKind.ESCALATE.value,), _ESCALATE) if spot else None
    return action if isinstance(action, Escalate) else None


def _read(spot: Spot, choices: Sequence[str], example: str) -> Action | None:
    kind = _kind(spot, choices, example)
    fields = open_map(spot, _shape(ACTIONS[kind])) if kind else None
    if kind is None or fields is None:
        return None
    noted = fields.noted
    action = _build(ACTIONS[kind], fields)
    if fields.noted == noted and _raises_nothing(action):
        spot.note("this never raises the limit", "give a factor above 1, or an add above 0B")
    return action


def _raises_nothing(action: Action) -> bool:
    return isinstance(action, RaiseMemory) and action.factor == 1 and action.add == 0


def _kind(spot: Spot, choices: Sequence[str], example: str) -> ActionKind | None:
    """The action that is meant; None, and noted, if that cannot be told."""
    node = spot.node
    if not isinstance(node, Map):
        spot.note(f"{described(node)} is not an action", f"such as {example}")
        return None
    for key, value in node.entries:
        # A misspelt `action` is read as such; it is noted as an unknown key.
        if nearest(key.text, ["action"]):
            return _named(spot.below("action", value), choices)
    if node.complete:
        spot.note("missing key 'action'", one_of(choices))
    return None


def _named(spot: Spot, choices: Sequence[str]) -> ActionKind | None:
    text = spot.node.text if isinstance(spot.node, Scalar) else ""
    if text in _ACTIONS and text not in choices:
        spot.note(f"{text} cannot stand here", one_of(choices))
        return None
    name = word(spot, "action", choices) or nearest(text, choices)
    return ActionKind(name) if name else None


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
        field.name: _value(fields, field.name, types[field.name], action.bounds.get(field.name))
        for field in _parameters(action)
        if field.name in required or fields.spot(field.name)
    }
    return cast("Callable[..., Action]", action)(**values)


def _value(
    fields: Fields,
    name: str,
    kind: Any,  # noqa: ANN401  # any annotation
    bounds: tuple[float, float] | None,
) -> object:
    """The value of one parameter of an action, read as its field is annotated."""
    if kind is Size:
        least, most = bounds or (0, math.inf)
        return fields.size(name, least=least, most=most)
    if kind is int:
        return fields.whole(name, least=1, most=COUNT_MAX)
    if kind is float:
        least, most = bounds or (-math.inf, math.inf)
        return fields.number(name, least=least, most=most)
    return fields.word(name, name, get_args(kind))
