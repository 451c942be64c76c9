"""The JSON Schema (draft 2020-12) of rule files, so that editors know the language.

Keys, words and bounds are the reader's own. What a schema cannot tell is left to `check`: what is
said in two places (a name that is taken, a source that nobody defined, a `max` below its `min`),
how long a duration or how large a size is, and how deep conditions nest. It refuses nothing that
`check` accepts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_type_hints

from autoheal.actions import ACTIONS
from autoheal.actions.track import DOWN, UP, Direction
from autoheal.core.rule import Aggregate, Risk
from autoheal.metrics import EVENTS, METRICS, REJECTIONS
from autoheal.model import ActionKind, Mode
from autoheal.rulefile import conditions, language, matching, schedules, sources, tracking
from autoheal.rulefile.actions import ACTION_WORDS, ESCALATE, TRACK, action_shape, parameters
from autoheal.rulefile.fields import COUNT_MAX, QUANTITY_CHARACTERS_MAX, Shape
from autoheal.units import Size, format_duration, format_size

Schema = dict[str, Any]

# As autoheal.units reads them.
_DURATION = "^([0-9]+(ms|s|m|h|d))+$"
_SIZE = r"^[0-9]+(\.[0-9]+)?\s?([KMGT]i?B|B)$"


def text() -> str:
    """The schema as people and editors read it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def document() -> Schema:
    """The schema of a whole file."""
    shape = language.FILE_SHAPE
    properties = {
        "version": {"const": int(language.VERSION), "description": "The version of this language."},
        "sources": _sources(),
        "rules": {"type": "array", "items": _ref("rule")},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Autoheal rules",
        **_map(shape, properties),
        "anyOf": [{"required": ["rules"]}, {"required": ["sources"]}],
        "$defs": {
            "rule": _rule(),
            "condition": {"oneOf": [_ref(kind) for kind in conditions.KINDS]},
            **_conditions(),
            "action": {"oneOf": [_ref(word) for word in ACTION_WORDS]},
            **{word: _action(word) for word in ACTION_WORDS},
            "up": _direction(UP),
            "down": _direction(DOWN),
            "schedule": _schedule(),
            "period": _period(),
        },
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _map(shape: Shape, properties: dict[str, Schema]) -> Schema:
    """A map of this shape. Raises KeyError for a key that is not described."""
    required = {"required": list(shape.required)} if shape.required else {}
    return {
        "type": "object",
        "properties": {key: properties[key] for key in shape.keys},
        **required,
        "additionalProperties": False,
    }


def _words(choices: Iterable[str], description: str = "") -> Schema:
    return {"enum": list(choices), **({"description": description} if description else {})}


def _text(pattern: re.Pattern[str], description: str) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern.pattern})$", "description": description}


def _duration(description: str, most_ms: int, least_ms: int = 0) -> Schema:
    bounds = f"at most {format_duration(most_ms)}"
    if least_ms > 1:
        bounds = f"from {format_duration(least_ms)} to {format_duration(most_ms)}"
    return {
        "type": "string",
        "pattern": _DURATION,
        "maxLength": QUANTITY_CHARACTERS_MAX,
        "description": f"{description}: {bounds}, such as 90s, 2m or 1h30m.",
    }


def _whole(least: int, most: int, description: str = "") -> Schema:
    words = {"description": description} if description else {}
    return {"type": "integer", "minimum": least, "maximum": most, **words}


def _number(least: float = -math.inf, most: float = math.inf) -> Schema:
    bounds = {"minimum": least, "maximum": most}
    return {
        "type": "number",
        **{key: bound for key, bound in bounds.items() if math.isfinite(bound)},
    }


def _items(items: Schema, most: int | None = None) -> Schema:
    return {
        "type": "array",
        "items": items,
        "minItems": 1,
        **({} if most is None else {"maxItems": most}),
    }


def _one_of(keys: Sequence[str]) -> list[Schema]:
    return [{"required": [key]} for key in keys]


def _rule() -> Schema:
    properties = {
        "name": _text(language.NAME, "What it is called; no two rules have the same name."),
        "match": _match(),
        "schedule": _ref("schedule"),
        "when": _ref("condition"),
        "for": _duration("How long the condition must hold without a break", language.WAIT_MS_MAX),
        "keep_firing_for": _duration(
            "How long the condition must not hold before the alarm ends", language.WAIT_MS_MAX
        ),
        "then": _ref("action"),
        "cooldown": _duration(
            "How long to wait since the last action of that sort", language.WAIT_MS_MAX
        ),
        "limit": _limit(),
        "clears_within": _duration(
            "By when a repair must have helped", language.CLEARS_WITHIN_MS_MAX, 1
        ),
        "otherwise": _ref(ESCALATE),
        "allow_risk": {
            "type": "array",
            "items": _words(risk.value for risk in Risk),
            "uniqueItems": True,
            "description": "Which risks this rule takes.",
        },
        "mode": _words([Mode.DRY_RUN.value], "This rule is on trial, and changes nothing."),
        "priority": _whole(
            -language.PRIORITY_MAX,
            language.PRIORITY_MAX,
            "Of rules with the same action for a service, the highest wins.",
        ),
    }
    conditionals = [*_keys_for_some(), _when_but_for_track(), *_risks()]
    return {**_map(language.RULE_SHAPE, properties), "allOf": conditionals}


def _acts(words: Sequence[str]) -> Schema:
    """A rule whose action is one of these."""
    action = {"properties": {"action": {"enum": list(words)}}, "required": ["action"]}
    return {"properties": {"then": action}}


def _keys_for_some() -> list[Schema]:
    return [
        {"if": {"required": [key]}, "then": _acts(language.takers(key))}
        for key in language.KEYS_FOR_SOME
    ]


def _when_but_for_track() -> Schema:
    return {"if": {**_acts([TRACK]), "required": ["then"]}, "else": {"required": ["when"]}}


def _risks() -> list[Schema]:
    """The risks that an action cannot take, for each one that cannot take all."""
    return [
        {
            "if": {**_acts([word]), "required": ["then"]},
            "then": {"properties": {"allow_risk": {"items": _words(language.risks_of(word))}}},
        }
        for word in language.takers("allow_risk")
        if language.risks_of(word) != tuple(Risk)
    ]


def _limit() -> Schema:
    properties = {
        "times": _whole(1, language.LIMIT_TIMES_MAX),
        "per": _duration("In what time", language.WAIT_MS_MAX, language.LIMIT_PER_MS_MIN),
    }
    description = "How many actions of this rule one service gets in what time."
    return {**_map(language.LIMIT_SHAPE, properties), "description": description}


def _match() -> Schema:
    labels = {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{matching.LABEL_NAME.pattern})$"},
        "additionalProperties": _text(matching.LABEL_PATTERN, "A pattern of the label's value."),
        "minProperties": 1,
        "maxProperties": matching.LABELS_MAX,
        "description": "Patterns of the service's labels: each of them must fit.",
    }
    properties = {
        "service": _text(matching.NAME_PATTERN, 'A pattern of service names, such as "web-*".'),
        "stack": _text(matching.NAME_PATTERN, "A pattern of stack names."),
        "labels": labels,
    }
    shape = matching.MATCH_SHAPE
    description = "Which services the rule looks at; all, if left out."
    return {**_map(shape, properties), "minProperties": 1, "description": description}


def _conditions() -> dict[str, Schema]:
    condition = _ref("condition")
    some = _items(condition)
    return {
        "metric": _metric(),
        "event": _event(),
        "source": _source_condition(),
        "all": {**_map(conditions.ALL_SHAPE, {"all": some}), "description": "Each one holds."},
        "any": {**_map(conditions.ANY_SHAPE, {"any": some}), "description": "One of them holds."},
        "not": {**_map(conditions.NOT_SHAPE, {"not": condition}), "description": "It does not."},
    }


def _looking_back() -> dict[str, Schema]:
    """What every condition on figures has."""
    return {
        "over": _duration("How far back it looks", conditions.WINDOW_MS_MAX, 1),
        **{key: _number() for key in conditions.COMPARISONS},
        "over_time": _words(conditions.OVER_TIME_WORDS, "How the values over time become one."),
        "ahead": _duration(
            "How far ahead of now a forecast looks",
            conditions.AHEAD_MS_MAX,
            conditions.AHEAD_MS_MIN,
        ),
    }


def _compared(shape: Shape, properties: dict[str, Schema], *conditionals: Schema) -> Schema:
    more = {"allOf": list(conditionals)} if conditionals else {}
    return {**_map(shape, properties), "oneOf": _one_of(conditions.COMPARISONS), **more}


def _ahead_of_forecasts() -> Schema:
    over_time = {"over_time": {"const": Aggregate.FORECAST.value}}
    return {
        "if": {"properties": over_time, "required": ["over_time"]},
        "then": {"required": ["ahead"]},
        "else": {"properties": {"ahead": False}},
    }


def _metric() -> Schema:
    properties = {
        **_looking_back(),
        "metric": _described((metric.name, metric.help) for metric in METRICS),
        "over_tasks": _words(conditions.OVER_TASKS_WORDS, "How the tasks' values become one."),
    }
    of_service = [metric.name for metric in METRICS if metric.of_service]
    no_tasks = {
        "if": {"properties": {"metric": {"enum": of_service}}},
        "then": {"properties": {"over_tasks": False}},
    }
    return _compared(conditions.METRIC_SHAPE, properties, _ahead_of_forecasts(), no_tasks)


def _source_condition() -> Schema:
    properties = {**_looking_back(), "source": _text(sources.NAME, "A name under sources.")}
    return _compared(conditions.SOURCE_SHAPE, {**properties, "per": _per()}, _ahead_of_forecasts())


def _per() -> Schema:
    return _words(sources.PER_CHOICES, "Whether it is divided by the number of tasks.")


def _event() -> Schema:
    codes = {"type": "string", "pattern": f"^(?:{conditions.EXIT_CODES.pattern})$"}
    properties = {
        **_looking_back(),
        "event": _described((event.name, event.help) for event in EVENTS),
        "exit_code": {"anyOf": [_whole(0, conditions.EXIT_CODE_MAX), codes]},
        "reason": _words(REJECTIONS),
    }
    filters = [
        {
            "if": {"required": [key]},
            "then": {"properties": {"event": {"enum": _filtered_by(key)}}},
        }
        for key in ("exit_code", "reason")
    ]
    return _compared(conditions.EVENT_SHAPE, properties, *filters)


def _filtered_by(key: str) -> list[str]:
    return [event.name for event in EVENTS if event.filter == key]


def _described(rows: Iterable[tuple[str, str]]) -> Schema:
    return {"oneOf": [{"const": name, "description": help_} for name, help_ in rows]}


def _action(word: str) -> Schema:
    if word == TRACK:
        return _track()
    action = ACTIONS[ActionKind(word)]
    types = get_type_hints(action)
    properties = {
        field.name: {
            **_parameter(types[field.name], action.bounds.get(field.name)),
            **_default(types[field.name], field.default),
        }
        for field in parameters(action)
    }
    return _map(action_shape(word), {"action": {"const": word}, **properties})


def _parameter(
    kind: Any,  # noqa: ANN401  # any annotation
    bounds: tuple[float, float] | None,
) -> Schema:
    """One parameter of an action, as its reader takes it by its annotation."""
    if kind is Size:
        return {"type": "string", "pattern": _SIZE, "maxLength": QUANTITY_CHARACTERS_MAX}
    if kind is int:
        return _whole(1, COUNT_MAX)
    if kind is float:
        return _number(*(bounds or (-math.inf, math.inf)))
    return _words(get_args(kind))


def _default(kind: object, value: object) -> Schema:
    if isinstance(value, int) and kind is Size:
        return {"default": format_size(value)}
    return {"default": value} if isinstance(value, int | float | str) else {}


def _track() -> Schema:
    metric = _map(
        tracking.METRIC_TARGET_SHAPE,
        {
            "metric": _words(tracking.METRIC_WORDS),
            "over": _duration("How far back it looks", conditions.WINDOW_MS_MAX, 1),
            "target": _goal(),
        },
    )
    source = _map(
        tracking.SOURCE_TARGET_SHAPE,
        {
            "source": _text(sources.NAME, "A name under sources."),
            "per": _per(),
            "over": _duration("How far back it looks", conditions.WINDOW_MS_MAX, 1),
            "target": _goal(),
        },
    )
    properties = {
        "action": {"const": TRACK},
        "targets": _items({"oneOf": [metric, source]}, tracking.TARGETS_MAX),
        "min": _whole(1, COUNT_MAX, "The fewest tasks."),
        "max": _whole(1, COUNT_MAX, "The most tasks."),
        "up": _ref("up"),
        "down": _ref("down"),
    }
    return _map(tracking.TRACK_SHAPE, properties)


def _goal() -> Schema:
    return {"type": "number", "exclusiveMinimum": 0, "description": "Where the figure is to be."}


def _direction(default: Direction) -> Schema:
    tolerance = {**_number(0, tracking.TOLERANCE_MAX), "default": default.tolerance}
    properties = {
        "policies": _items(_policy(), tracking.POLICIES_MAX),
        "select": {**_words(tracking.SELECT_WORDS), "default": default.select.value},
        "stabilization": {
            **_duration("Of how long the calmest proposal counts", tracking.STABILIZATION_MS_MAX),
            "default": format_duration(default.stabilization_ms),
        },
        "tolerance": {**tolerance, "description": "What share of the target is near enough."},
    }
    return _map(tracking.DIRECTION_SHAPE, properties)


def _policy() -> Schema:
    properties = {
        "tasks": _whole(1, COUNT_MAX),
        "percent": _number(tracking.PERCENT_MIN, tracking.PERCENT_MAX),
        "per": _duration("In what time", tracking.POLICY_PER_MS_MAX, tracking.POLICY_PER_MS_MIN),
    }
    return {**_map(tracking.POLICY_SHAPE, properties), "oneOf": _one_of(tracking.AMOUNTS)}


def _schedule() -> Schema:
    periods = _items(_ref("period"), schedules.PERIODS_MAX)
    within = {**periods, "description": "In force in any of these."}
    outside = {**periods, "description": "In force outside of all these."}
    zone = {"type": "string", "description": "Whose clocks count, such as Europe/Berlin; UTC."}
    properties = {**_parts_of_a_period(), "within": within, "outside": outside, "zone": zone}
    alone = [_one_of(schedules.PERIOD_SHAPE.keys), *([each] for each in _one_of(schedules.LISTS))]
    return {
        **_map(schedules.SCHEDULE_SHAPE, properties),
        "oneOf": [{"anyOf": each} for each in alone],
        "description": "When the rule is in force; always, if left out.",
    }


def _period() -> Schema:
    return {**_map(schedules.PERIOD_SHAPE, _parts_of_a_period()), "minProperties": 1}


def _parts_of_a_period() -> dict[str, Schema]:
    day = "|".join(schedules.DAYS)
    days = {"type": "string", "pattern": f"^({day})(-({day}))?$"}
    hours = _text(schedules.HOURS, 'From and to, such as "08:00-18:00" or "22:00-06:00".')
    return {"days": {"anyOf": [days, _items(days)]}, "hours": hours}


def _sources() -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^(?:{sources.NAME.pattern})$"},
        "additionalProperties": {"oneOf": [_source(kind) for kind in sources.SHAPES]},
        "minProperties": 1,
        "maxProperties": sources.SOURCES_MAX,
        "description": "Figures from elsewhere, each with a name that rules can use.",
    }


def _source(kind: str) -> Schema:
    shape = sources.SHAPES[kind]
    file = _text(sources.FILE, "A file that holds it.")
    times = {
        "every": _duration("How often it is read", sources.EVERY_MS_MAX, sources.EVERY_MS_MIN),
        "timeout": _duration(
            "How long reading may take", sources.TIMEOUT_MS_MAX, sources.TIMEOUT_MS_MIN
        ),
        "stale_after": _duration(
            "How long a value counts", sources.STALE_AFTER_MS_MAX, sources.STALE_AFTER_MS_MIN
        ),
    }
    properties = {
        kind: _url(sources.SCHEMES[kind]),
        "query": _text(sources.QUERY, "What to ask, in PromQL."),
        "list": _text(sources.KEY, "The list whose length it is."),
        "stream": _text(sources.KEY, "The stream whose length it is."),
        "path": _text(sources.JSON_PATH, 'Where the number is, such as "queues[0].length".'),
        **times,
        "password_file": file,
        "token_file": file,
    }
    alternatives = {"oneOf": _one_of(sources.REDIS_KEYS)} if kind == "redis" else {}
    both = {"not": {"required": ["password_file", "token_file"]}}
    return {**_map(shape, properties), **alternatives, **both}


def _url(schemes: Sequence[str]) -> Schema:
    return {
        "type": "string",
        "pattern": f"^({'|'.join(schemes)})://[!-~]+$",
        "maxLength": sources.URL_CHARACTERS_MAX,
        "description": "Where it is; no password in it.",
    }
