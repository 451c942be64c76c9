"""What is written, and the rule that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import pytest

from autoheal.actions import ACTIONS, Escalate, RaiseMemory, Restart, ScaleDown, ScaleUp
from autoheal.core.rule import (
    Aggregate,
    Combinator,
    Combined,
    Comparison,
    Condition,
    EventCondition,
    Limit,
    Match,
    MetricCondition,
    Risk,
    Rule,
    RuleSet,
    leaves,
)
from autoheal.model import ActionKind, Mode
from autoheal.rulefile import RuleFileError, parse
from autoheal.rulefile.conditions import LEAVES_MAX, LEVELS_MAX
from autoheal.units import Size

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MIB = 2**20

PLAIN = """
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 2m, above: 80}
    then: {action: scale_up, max: 10}
"""


def read(text: str) -> RuleSet:
    return parse({"x.yaml": text.encode()})


def only(text: str) -> Rule:
    (rule,) = read(text).rules
    return replace(rule, hash="")


def when(text: str) -> Condition:
    """The condition that this becomes, in a rule that any condition may stand in."""
    return only(f"rules: [{{name: a, when: {text}, then: {{action: escalate}}}}]").when


def complaints(text: str) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        read(text)
    return [mistake.what for mistake in caught.value.mistakes]


def test_what_is_left_out_has_its_default() -> None:
    assert only(PLAIN) == Rule(
        name="cpu-high",
        hash="",
        when=MetricCondition(
            metric="cpu_percent",
            over_ms=2 * MINUTE,
            comparison=Comparison.ABOVE,
            threshold=80.0,
            over_tasks=Aggregate.MEAN,
            over_time=Aggregate.MEAN,
        ),
        then=ScaleUp(max=10, by=1),
        match=Match("*"),
        for_ms=0,
        cooldown_ms=0,
        priority=0,
        mode=Mode.LIVE,
        limit=None,
        clears_within_ms=0,
        otherwise=None,
        allow_risk=(),
        keep_firing_ms=0,
        schedule=None,
    )


def test_every_key_reaches_the_rule() -> None:
    text = """
version: 1
rules:
  - name: 0-idle
    match: {service: "web-[ab]?_*"}
    when:
      metric: memory_bytes
      over: 1h30m
      at_most: -1.5e6
      over_tasks: max
      over_time: min
    for: 90s
    then: {action: scale_down, by: 2, min: 3}
    cooldown: 1d
    priority: -7
    mode: dry-run
"""
    assert only(text) == Rule(
        name="0-idle",
        hash="",
        when=MetricCondition(
            metric="memory_bytes",
            over_ms=90 * MINUTE,
            comparison=Comparison.AT_MOST,
            threshold=-1_500_000.0,
            over_tasks=Aggregate.MAX,
            over_time=Aggregate.MIN,
        ),
        then=ScaleDown(min=3, by=2),
        match=Match("web-[ab]?_*"),
        for_ms=90_000,
        cooldown_ms=24 * 60 * MINUTE,
        priority=-7,
        mode=Mode.DRY_RUN,
    )


def test_an_event_and_an_escalation() -> None:
    text = """
rules:
  - name: oom
    when: {event: oom_killed, over: 24h, at_least: 1}
    then: {severity: critical, action: escalate}
"""
    rule = only(text)
    assert rule.when == EventCondition("oom_killed", 24 * 60 * MINUTE, Comparison.AT_LEAST, 1.0)
    assert rule.then == Escalate(severity="critical")


def test_every_key_of_a_repair_reaches_the_rule() -> None:
    text = """
rules:
  - name: oom
    when: {event: oom_killed, over: 10m, at_least: 1}
    then: {action: raise_memory, max: 2GiB, factor: 1.5, add: 64MiB}
    limit: {times: 3, per: 24h}
    clears_within: 5m
    otherwise: {action: escalate, severity: critical}
    allow_risk: [single, volume]
"""
    assert only(text) == Rule(
        name="oom",
        hash="",
        when=EventCondition("oom_killed", 10 * MINUTE, Comparison.AT_LEAST, 1.0),
        then=RaiseMemory(max=Size(2048 * MIB), factor=1.5, add=Size(64 * MIB)),
        limit=Limit(times=3, per_ms=24 * HOUR),
        clears_within_ms=5 * MINUTE,
        otherwise=Escalate(severity="critical"),
        allow_risk=(Risk.VOLUME, Risk.SINGLE),
    )


OOM = "{event: oom_killed, over: 10m, at_least: 1}"
FAILED = "{event: task_failed, over: 5m, above: 3}"
HOT = "{metric: cpu_percent, over: 2m, above: 80}"
KILLED = EventCondition("oom_killed", 10 * MINUTE, Comparison.AT_LEAST, 1.0)
CRASHED = EventCondition("task_failed", 5 * MINUTE, Comparison.ABOVE, 3.0)
BUSY = MetricCondition("cpu_percent", 2 * MINUTE, Comparison.ABOVE, 80.0)
NOT_KILLED = replace(KILLED, comparison=Comparison.BELOW)
NOT_CRASHED = replace(CRASHED, comparison=Comparison.AT_MOST)
NOT_BUSY = replace(BUSY, comparison=Comparison.AT_MOST)

COMBINED = {
    f"{{all: [{OOM}, {HOT}]}}": Combined(Combinator.ALL, (KILLED, BUSY)),
    f"{{any: [{HOT}, {OOM}]}}": Combined(Combinator.ANY, (BUSY, KILLED)),
    f"{{all: [{HOT}]}}": Combined(Combinator.ALL, (BUSY,)),
    f"{{not: {HOT}}}": NOT_BUSY,
    f"{{not: {{not: {HOT}}}}}": BUSY,
    f"{{not: {{all: [{OOM}, {HOT}]}}}}": Combined(Combinator.ANY, (NOT_KILLED, NOT_BUSY)),
    f"{{not: {{any: [{OOM}, {{not: {HOT}}}]}}}}": Combined(Combinator.ALL, (NOT_KILLED, BUSY)),
    f"{{all: [{HOT}, {{any: [{OOM}, {{not: {FAILED}}}]}}]}}": Combined(
        Combinator.ALL, (BUSY, Combined(Combinator.ANY, (KILLED, NOT_CRASHED)))
    ),
}


@pytest.mark.parametrize(("text", "condition"), COMBINED.items(), ids=COMBINED)
def test_conditions_combine_and_a_negation_ends_in_the_comparisons(
    text: str, condition: Condition
) -> None:
    assert when(text) == condition


@pytest.mark.parametrize("kind", ["all", "any", "not"])
def test_conditions_nest_this_deep_and_no_deeper(kind: str) -> None:
    text = HOT
    for _ in range(LEVELS_MAX):
        text = f"{{not: {text}}}" if kind == "not" else f"{{{kind}: [{text}]}}"
    assert list(leaves(when(text))) == [NOT_BUSY if kind == "not" else BUSY]
    deeper = f"{{name: a, when: {{not: {text}}}, then: {{action: escalate}}}}"
    (what,) = complaints(f"rules: [{deeper}]")
    assert what.endswith(": conditions are nested too deeply")


def test_a_rule_has_this_many_conditions_and_no_more() -> None:
    text = "rules: [{name: a, when: {any: [%s]}, then: {action: escalate}}]"
    assert read(text % ", ".join([HOT] * LEAVES_MAX)).rules
    (what,) = complaints(text % ", ".join([HOT] * (LEAVES_MAX + 1)))
    assert what == f"rules[0].when: {LEAVES_MAX + 1} conditions are too many"


def test_a_slope_over_time() -> None:
    condition = when("{metric: memory_bytes, over: 1h, above: 0, over_time: slope}")
    assert isinstance(condition, MetricCondition)
    assert condition.over_time is Aggregate.SLOPE
    assert condition.over_tasks is Aggregate.MEAN


@pytest.mark.parametrize("name", ["mean", "max", "min", "p50", "p90", "p95", "p99"])
def test_tasks_become_one_figure_by_any_aggregate_that_needs_no_order(name: str) -> None:
    condition = when(f"{{metric: cpu_percent, over: 2m, above: 80, over_tasks: {name}}}")
    assert condition == replace(BUSY, over_tasks=Aggregate(name))


@pytest.mark.parametrize("name", [name for name in Aggregate if name != Aggregate.FORECAST])
def test_slots_become_one_figure_by_any_aggregate(name: Aggregate) -> None:
    condition = when(f"{{metric: cpu_percent, over: 2m, above: 80, over_time: {name}}}")
    assert condition == replace(BUSY, over_time=name)


@pytest.mark.parametrize(("written", "ahead_ms"), [("1s", 1_000), ("10m", 600_000), ("24h", DAY)])
def test_a_forecast_looks_ahead(written: str, ahead_ms: int) -> None:
    text = f"{{metric: cpu_percent, over: 2m, above: 80, over_time: forecast, ahead: {written}}}"
    assert when(text) == replace(BUSY, over_time=Aggregate.FORECAST, ahead_ms=ahead_ms)


@pytest.mark.parametrize(("written", "ms"), [("0s", 0), ("5m", 5 * MINUTE), ("30d", 30 * DAY)])
def test_an_escalation_can_fire_on(written: str, ms: int) -> None:
    text = PLAIN.replace("scale_up, max: 10", "escalate") + f"    keep_firing_for: {written}\n"
    assert only(text).keep_firing_ms == ms


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        ("137", (137, 137)),
        ('"137"', (137, 137)),
        ('"1-125"', (1, 125)),
        ("1-125", (1, 125)),
        ("7-7", (7, 7)),
        ("0", (0, 0)),
        ("255", (255, 255)),
        ("0-255", (0, 255)),
    ],
)
def test_an_exit_code_is_a_range(written: str, codes: tuple[int, int]) -> None:
    text = f"{{event: task_failed, over: 5m, above: 3, exit_code: {written}}}"
    assert when(text) == replace(CRASHED, exit_codes=codes)


@pytest.mark.parametrize("reason", ["image", "placement", "other"])
def test_a_rejection_has_a_reason(reason: str) -> None:
    condition = when(f"{{event: task_rejected, over: 5m, at_least: 1, reason: {reason}}}")
    assert isinstance(condition, EventCondition)
    assert condition.reason == reason


RAISE = "rules: [{name: a, when: %s, then: {action: raise_memory, max: 1GiB}}]"
LOW_OOM = "{event: oom_killed, over: 10m, below: 1}"


@pytest.mark.parametrize(
    "text",
    [
        OOM,
        OOM.replace("at_least: 1", "above: 0"),
        f"{{all: [{HOT}, {OOM}]}}",
        f"{{any: [{OOM}, {{all: [{HOT}, {OOM}]}}]}}",
        f"{{all: [{HOT}, {{any: [{OOM}, {OOM}]}}]}}",
        f"{{not: {LOW_OOM}}}",
        f"{{not: {{any: [{HOT}, {LOW_OOM}]}}}}",
    ],
)
def test_memory_is_raised_where_there_was_a_kill(text: str) -> None:
    assert read(RAISE % text).rules


@pytest.mark.parametrize("parameters", ["factor: 1, add: 1B", "factor: 1.01, add: 0B", "factor: 1"])
def test_memory_is_raised_by_a_factor_or_by_an_addition(parameters: str) -> None:
    assert read((RAISE % OOM).replace("max:", f"{parameters}, max:")).rules


@pytest.mark.parametrize("comparison", ["above: 0", "above: 0.5", "at_least: 0.1", "at_least: 1"])
def test_events_are_asked_for_by_a_threshold_that_none_do_not_reach(comparison: str) -> None:
    key, threshold = comparison.split(": ")
    condition = EventCondition("died", MINUTE, Comparison(key), float(threshold))
    assert when(f"{{event: died, over: 1m, {comparison}}}") == condition


@pytest.mark.parametrize("comparison", ["below: 0", "below: 1000", "at_most: 0", "at_most: -1"])
def test_few_events_may_be_asked_for_by_any_threshold(comparison: str) -> None:
    key, threshold = comparison.split(": ")
    condition = EventCondition("died", MINUTE, Comparison(key), float(threshold))
    assert when(f"{{event: died, over: 1m, {comparison}}}") == condition


@pytest.mark.parametrize(
    "text",
    [
        HOT,
        FAILED,
        LOW_OOM,
        f"{{not: {OOM}}}",
        f"{{any: [{HOT}, {OOM}]}}",
        f"{{all: [{HOT}, {{any: [{OOM}, {FAILED}]}}]}}",
        f"{{not: {{all: [{HOT}, {LOW_OOM}]}}}}",
    ],
)
def test_memory_is_not_raised_where_there_may_have_been_no_kill(text: str) -> None:
    what = "rules[0].when: this can hold where nothing was killed for memory"
    assert complaints(RAISE % text) == [what]


@pytest.mark.parametrize("then", ["{action: scale_up, max: 9}", "{action: scale_down, min: 2}"])
def test_scaling_takes_a_limit_an_otherwise_and_the_risks_of_scaling(then: str) -> None:
    rule = only(
        f"rules: [{{name: a, when: {HOT}, then: {then}, limit: {{times: 100, per: 1m}},"
        " otherwise: {action: escalate}, allow_risk: [no_restart, volume]}]"
    )
    assert rule.limit == Limit(100, MINUTE)
    assert rule.otherwise == Escalate(severity="warning")
    assert rule.allow_risk == (Risk.VOLUME, Risk.NO_RESTART)


def test_a_restart_takes_every_risk_that_it_names() -> None:
    rule = only(
        f"rules: [{{name: a, when: {OOM}, then: {{action: restart}}, clears_within: 24h,"
        " limit: {times: 1, per: 30d}, allow_risk: [no_restart, unpinned, single, volume]}]"
    )
    assert rule.then == Restart()
    assert rule.clears_within_ms == 24 * HOUR
    assert rule.limit == Limit(1, 30 * 24 * HOUR)
    assert rule.allow_risk == tuple(Risk)


@pytest.mark.parametrize("comparison", list(Comparison))
def test_each_comparison(comparison: Comparison) -> None:
    rule = only(PLAIN.replace("above", comparison.value))
    assert rule.when == MetricCondition("cpu_percent", 2 * MINUTE, comparison, 80.0)


@pytest.mark.parametrize(
    ("written", "threshold"),
    [("0", 0.0), ("-3", -3.0), ("+7", 7.0), ("010", 10.0), (".5", 0.5), ("8.", 8.0), ("1E+2", 100)],
)
def test_numbers_are_those_of_the_core_schema(written: str, threshold: float) -> None:
    rule = only(PLAIN.replace("80", written))
    assert rule.when == replace(BUSY, threshold=threshold)


@pytest.mark.parametrize("written", ["1_0", "0o17", "0x50", "1:30", "1e", "-", "1 0"])
def test_what_only_other_yaml_reads_as_a_number_is_none(written: str) -> None:
    with pytest.raises(RuleFileError, match=f'"{written}" is not a number'):
        read(PLAIN.replace("80", written))


def test_words_that_other_yaml_reads_as_something_else_stay_words() -> None:
    names = ["on", "off", "yes", "no", "n", "y"]
    text = "rules:" + "".join(
        PLAIN.replace("\nrules:", "").replace("cpu-high", name) for name in names
    )
    assert [rule.name for rule in read(text).rules] == sorted(names)


def test_quoted_text_is_text_whatever_it_looks_like() -> None:
    assert only(PLAIN.replace("cpu-high", '"42"')).name == "42"
    assert only(PLAIN.replace("cpu-high", "'true'")).name == "true"


def test_bounds_themselves_are_allowed() -> None:
    text = PLAIN.replace("2m", "24h").replace("max: 10", "max: 10000, by: 1")
    rule = only(text + "    for: 30d\n    cooldown: 0s\n    priority: 1000\n")
    assert rule.window_ms == 24 * 60 * MINUTE
    assert rule.for_ms == 30 * 24 * 60 * MINUTE
    assert rule.then == ScaleUp(max=10_000)
    assert rule.priority == 1000
    assert only(PLAIN.replace("2m", "1ms").replace("max: 10", "max: 1")).window_ms == 1


ROOM = Size(MIB)


@dataclass(frozen=True, slots=True)
class Invented(Escalate):
    example: ClassVar[str] = "{action: escalate, factor: 1.5, times: 3}"
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "share": (0.25, 0.75),
        "room": (MIB, 3 * MIB),
    }

    factor: float = field(kw_only=True)
    times: int = field(default_factory=int)
    manner: Literal["gently", "at once"] = "gently"
    share: float = 0.5
    room: Size = ROOM
    space: Size = ROOM


@pytest.fixture
def _invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, ActionKind.ESCALATE, Invented)


def invented(parameters: str) -> str:
    return PLAIN.replace("action: scale_up, max: 10", f"action: escalate, {parameters}")


@pytest.mark.usefixtures("_invented")
def test_an_actions_keys_are_its_fields() -> None:
    rule = only(invented("factor: 2, times: 3, manner: at once, room: 2MiB, space: 1GiB"))
    assert rule.then == Invented(
        factor=2.0, times=3, manner="at once", room=Size(2 * MIB), space=Size(1024 * MIB)
    )
    assert isinstance(rule.then, Invented)
    assert isinstance(rule.then.factor, float)
    assert only(invented("factor: .5")).then == Invented(factor=0.5, times=0)
    assert complaints(invented("manner: slowly")) == [
        "rules[0].then: missing key 'factor'",
        "rules[0].then.manner: unknown manner slowly",
    ]


@pytest.mark.usefixtures("_invented")
@pytest.mark.parametrize(
    ("key", "least", "most", "outside"),
    [
        ("share", "0.25", "0.75", ["0.2499", "0.7501", "-1"]),
        ("room", "1MiB", "3MiB", ["1023KiB", "3.1MiB", "0B"]),
        ("space", "0B", "1024TiB", []),
        ("times", "1", "10000", ["0", "10001"]),
    ],
)
def test_an_actions_values_lie_within_bounds(
    key: str, least: str, most: str, outside: list[str]
) -> None:
    for value in (least, most):
        assert read(invented(f"factor: 1, {key}: {value}")).rules
    for value in outside:
        what = f"rules[0].then.{key}: {value} is out of range"
        assert complaints(invented(f"factor: 1, {key}: {value}")) == [what]


def test_rules_come_by_name_whatever_their_file() -> None:
    texts = {
        "a.yaml": PLAIN.replace("cpu-high", "m").encode(),
        "b.yaml": (PLAIN + PLAIN.replace("\nrules:\n", "").replace("cpu-high", "a")).encode(),
    }
    assert [rule.name for rule in parse(texts).rules] == ["a", "cpu-high", "m"]


def test_a_file_may_hold_no_rule_yet() -> None:
    assert read("rules: []").rules == ()


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert parse({"x.yaml": b"\xef\xbb\xbf" + PLAIN.encode()}) == read(PLAIN)
