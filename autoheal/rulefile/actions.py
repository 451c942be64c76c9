"""The `then` of a rule, and its `otherwise`.

An action's keys are the fields of its dataclass (`int`, at least 1; `float`; `Size`; `Literal`
words; within its `bounds`): a new action needs no change here. Only `track`, whose parameters are
maps and lists, has a reader of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast, get_args, get_type_hints

from autoheal.actions import ACTIONS, Action, Escalate, RaiseMemory
from autoheal.actions.track import Track
from autoheal.model import ActionKind
from autoheal.rulefile.fields import COUNT_MAX, Fields, Shape, Spot, open_map, word
from autoheal.rulefile.mistakes import nearest, one_of
from autoheal.rulefile.sources import SourceNames
from autoheal.rulefile.tracking import TRACK_SHAPE, read_track
from autoheal.rulefile.tree import Map, Scalar, described
from autoheal.units import Size

TRACK = "track"
ESCALATE = ActionKind.ESCALATE.value
ACTION_WORDS = tuple(dict.fromkeys((*(kind.value for kind in ACTIONS), TRACK)))
_SCALE_UP = ACTIONS[ActionKind.SCALE_UP].example


def read_action(spot: Spot | None, sources: SourceNames) -> Action | None:
    """The action at this spot; None, and noted, if it cannot be told which it is."""
    return _read(spot, ACTION_WORDS, _SCALE_UP, sources) if spot else None


def read_otherwise(spot: Spot | None) -> Escalate | None:
    """The escalation at this spot: what failed is left to people. None if the key is absent."""
    example = ACTIONS[ActionKind.ESCALATE].example
    action = _read(spot, (ESCALATE,), example, SourceNames((), complete=True)) if spot else None
    return action if isinstance(action, Escalate) else None


def word_of(action: Action) -> str:
    """What stands under `action` for this one."""
    return TRACK if isinstance(action, Track) else action.kind.value


def _read(spot: Spot, choices: Sequence[str], example: str, sources: SourceNames) -> Action | None:
    name = _name(spot, choices, example)
    fields = open_map(spot, action_shape(name)) if name else None
    if name is None or fields is None:
        return None
    if name == TRACK:
        return read_track(fields, sources)
    noted = fields.noted
    action = _build(ACTIONS[ActionKind(name)], fields)
    if fields.noted == noted and _raises_nothing(action):
        spot.note("this never raises the limit", "give a factor above 1, or an add above 0B")
    return action


def _raises_nothing(action: Action) -> bool:
    return isinstance(action, RaiseMemory) and action.factor == 1 and action.add == 0


def _name(spot: Spot, choices: Sequence[str], example: str) -> str | None:
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


def _named(spot: Spot, choices: Sequence[str]) -> str | None:
    text = spot.node.text if isinstance(spot.node, Scalar) else ""
    if text in ACTION_WORDS and text not in choices:
        spot.note(f"{text} cannot stand here", one_of(choices))
        return None
    return word(spot, "action", choices) or nearest(text, choices)


def action_shape(name: str) -> Shape:
    """The keys that an action's parameters make; those without a default are required."""
    if name == TRACK:
        return TRACK_SHAPE
    action = ACTIONS[ActionKind(name)]
    keys = ("action", *(field.name for field in parameters(action)))
    return Shape(keys, ("action", *_required(action)), action.example)


def _required(action: type[Action]) -> list[str]:
    missing = dataclasses.MISSING
    return [
        field.name
        for field in parameters(action)
        if field.default is missing and field.default_factory is missing
    ]


def parameters(action: type[Action]) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of an action that a rule can give."""
    # That each action is a dataclass, its base class cannot say.
    return dataclasses.fields(cast("Any", action))


def _build(action: type[Action], fields: Fields) -> Action:
    types = get_type_hints(action)
    required = _required(action)
    values = {
        field.name: _value(fields, field.name, types[field.name], action.bounds.get(field.name))
        for field in parameters(action)
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
