"""What the second half of docs/rules.md says of files, where nothing else tests it."""

from __future__ import annotations

import pytest

from autoheal.rulefile import RuleFileError, parse

RULE = """
rules:
  - name: high
    schedule: {days: [mon, tue], hours: "08:00-18:00"}
    when: {metric: cpu_percent, over: 2m, above: 80}
    then: {action: scale_up, max: 10}
"""
SOURCE = '{redis: "redis://queue:6379/0", list: jobs}'
LIMITED = """
rules:
  - name: hung
    when: {metric: pids, over: 2m, above: 80}
    then: {action: restart}
    limit: {times: %s, per: %s}
    clears_within: %s
"""


def accepted(text: str) -> bool:
    try:
        parse({"x.yaml": text.encode()})
    except RuleFileError:
        return False
    return True


def hash_of(text: str) -> str:
    return parse({"x.yaml": text.encode()}).hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2m", "120s"),
        ("max: 10", "max: 10, by: 1"),
        ("[mon, tue]", "mon-tue"),
        ("[mon, tue]", "[tue, mon]"),
        ("over: 2m", "over_time: mean, over: 2m"),
        ("rules:", f"sources: {{unused: {SOURCE}}}\nrules:"),
    ],
)
def test_another_way_to_say_the_same_is_the_same_rule_set(old: str, new: str) -> None:
    assert old in RULE
    assert hash_of(RULE.replace(old, new)) == hash_of(RULE)


def test_another_meaning_is_another_rule_set() -> None:
    assert hash_of(RULE.replace("2m", "121s")) != hash_of(RULE)
    assert hash_of(RULE.replace("[mon, tue]", "[mon, wed]")) != hash_of(RULE)


@pytest.mark.parametrize(
    ("times", "per", "clears", "is_read"),
    [
        ("1", "1m", "1ms", True),
        ("100", "30d", "24h", True),
        ("0", "1m", "5m", False),
        ("101", "1m", "5m", False),
        ("1", "59999ms", "5m", False),
        ("1", "2592000001ms", "5m", False),
        ("1", "1m", "86400001ms", False),
    ],
)
def test_a_limit_lies_within_its_bounds(
    times: str, per: str, clears: str, *, is_read: bool
) -> None:
    assert accepted(LIMITED % (times, per, clears)) is is_read


@pytest.mark.parametrize(
    ("name", "is_read"), [("a-1", True), ("a" * 63, True), ("a" * 64, False), ("a_1", False)]
)
def test_a_source_has_a_name_of_lower_case_digits_and_dashes(name: str, *, is_read: bool) -> None:
    assert accepted(f"sources: {{{name}: {SOURCE}}}\nrules: []") is is_read


@pytest.mark.parametrize(
    ("source", "is_read"),
    [
        ('{redis: "redis://q", list: a}', True),
        ('{redis: "rediss://q:6380/1", stream: a}', True),
        ('{redis: "redis://q/1/2", list: a}', False),
        ('{redis: "https://q", list: a}', False),
        ('{json: "https://q/stats", path: a}', True),
        ('{json: "http://q/stats?x=1", path: "a[0].b"}', True),
        ('{json: "redis://q/stats", path: a}', False),
        ('{prometheus: "https://user@q", query: up, password_file: /run/p}', True),
        ('{prometheus: "https://user@q", query: up, password_file: run/p}', False),
        ('{prometheus: "https://user:secret@q", query: up}', False),
        ('{prometheus: "http://q", query: up, timeout: 2s, every: 2s}', True),
        ('{prometheus: "http://q", query: up, timeout: 2001ms, every: 2s}', False),
        ('{prometheus: "http://q", query: up, every: 59999ms, stale_after: 1m}', True),
        ('{prometheus: "http://q", query: up, every: 1m, stale_after: 1m}', False),
    ],
)
def test_a_source_is_read_or_refused_as_documented(source: str, *, is_read: bool) -> None:
    assert accepted(f"sources: {{a: {source}}}\nrules: []") is is_read


@pytest.mark.parametrize(
    ("when", "is_read"),
    [
        ("{event: oom_killed, over: 5m, above: 0}", True),
        ("{not: {event: oom_killed, over: 5m, at_least: 1}}", False),
        ("{not: {event: oom_killed, over: 5m, below: 1}}", True),
        ("{not: {not: {event: oom_killed, over: 5m, at_least: 1}}}", True),
    ],
)
def test_under_a_not_a_kill_is_asked_for_by_the_opposite(when: str, *, is_read: bool) -> None:
    then = "then: {action: raise_memory, max: 1GiB}"
    assert accepted(f"rules: [{{name: a, when: {when}, {then}}}]") is is_read
