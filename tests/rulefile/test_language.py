"""What is written, and the rule that it becomes."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import pytest

from autoheal.actions import ACTIONS, Escalate, ScaleDown, ScaleUp
from autoheal.core.rule import (
    Aggregate,
    Comparison,
    EventCondition,
    Match,
    MetricCondition,
    Rule,
    RuleSet,
)
from autoheal.model import ActionKind, Mode
from autoheal.rulefile import RuleFileError, parse

MINUTE = 60_000

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


@pytest.mark.parametrize("comparison", list(Comparison))
def test_each_comparison(comparison: Comparison) -> None:
    when = only(PLAIN.replace("above", comparison.value)).when
    assert when.comparison is comparison


@pytest.mark.parametrize(
    ("written", "threshold"),
    [("0", 0.0), ("-3", -3.0), ("+7", 7.0), ("010", 10.0), (".5", 0.5), ("8.", 8.0), ("1E+2", 100)],
)
def test_numbers_are_those_of_the_core_schema(written: str, threshold: float) -> None:
    assert only(PLAIN.replace("80", written)).when.threshold == threshold


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
    assert rule.when.over_ms == 24 * 60 * MINUTE
    assert rule.for_ms == 30 * 24 * 60 * MINUTE
    assert rule.then == ScaleUp(max=10_000)
    assert rule.priority == 1000
    assert only(PLAIN.replace("2m", "1ms").replace("max: 10", "max: 1")).when.over_ms == 1


@dataclass(frozen=True, slots=True)
class Invented(Escalate):
    example: ClassVar[str] = "{action: escalate, factor: 1.5, times: 3}"

    factor: float = field(kw_only=True)
    times: int = field(default_factory=int)
    manner: Literal["gently", "at once"] = "gently"


def test_an_actions_keys_are_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, ActionKind.ESCALATE, Invented)
    given = "action: escalate, factor: 2, times: 3, manner: at once"
    rule = only(PLAIN.replace("action: scale_up, max: 10", given))
    assert rule.then == Invented(factor=2.0, times=3, manner="at once")
    assert isinstance(rule.then, Invented)
    assert isinstance(rule.then.factor, float)
    least = only(PLAIN.replace("action: scale_up, max: 10", "action: escalate, factor: .5"))
    assert least.then == Invented(factor=0.5, times=0)
    with pytest.raises(RuleFileError) as caught:
        read(PLAIN.replace("action: scale_up, max: 10", "action: escalate, manner: slowly"))
    assert [mistake.what for mistake in caught.value.mistakes] == [
        "rules[0].then: missing key 'factor'",
        "rules[0].then.manner: unknown manner slowly",
    ]


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
