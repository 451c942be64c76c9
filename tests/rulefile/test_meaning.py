"""The hash of a rule set names its meaning: no more, no less, and the same in any process."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from autoheal.actions import Escalate
from autoheal.core.rule import RuleSet
from autoheal.model import ActionKind
from autoheal.rulefile import load, parse
from autoheal.rulefile.meaning import rule_set

HIGH = """  - name: cpu-high
    match: {service: "web-*"}
    when: {metric: cpu_percent, over: 2m, above: 80, over_tasks: max}
    for: 1m
    then: {action: scale_up, by: 1, max: 10}
    cooldown: 3m
    priority: 5
    mode: dry-run
"""
OOM = """  - name: oom
    when: {event: oom_killed, over: 10m, at_least: 1}
    then: {action: escalate, severity: critical}
"""
TEXT = "rules:\n" + HIGH + OOM


def read(*texts: str) -> RuleSet:
    return parse({f"{number}.yaml": text.encode() for number, text in enumerate(texts)})


SAME = {
    "order of rules": ("rules:\n" + OOM + HIGH,),
    "spread over files": ("rules:\n" + HIGH, "rules:\n" + OOM),
    "spread over files, other order": ("rules:\n" + OOM, "rules:\n" + HIGH),
    "comments": ("# why\n" + TEXT.replace("    for", "    # how long\n    for"),),
    "version said": ("version: 1\n" + TEXT,),
    "quotes": (TEXT.replace("cpu_percent", "'cpu_percent'").replace("name: oom", 'name: "oom"'),),
    "layout": (TEXT.replace("{event: oom_killed,", "{event:    oom_killed,\n      "),),
    "line ends": (TEXT.replace("\n", "\r\n"),),
    "unit of a duration": (TEXT.replace("2m", "120s").replace("10m", "600000ms"),),
    "form of a number": (TEXT.replace("80", "8.0e1").replace("at_least: 1}", "at_least: 1.0}"),),
    "a default said": (TEXT.replace("80,", "80, over_time: mean,"),),
    "a default left out": (TEXT.replace("by: 1, ", ""),),
    "order of keys": (TEXT.replace("over: 2m, above: 80", "above: 80, over: 2m"),),
}

OTHER = {
    "name": ("cpu-high", "cpu-higher"),
    "match": ("web-*", "web-?"),
    "no match": ('    match: {service: "web-*"}\n', ""),
    "metric": ("cpu_percent", "memory_percent"),
    "over": ("2m", "121s"),
    "comparison": ("above", "at_least"),
    "threshold": ("80", "80.001"),
    "over_tasks": ("over_tasks: max", "over_tasks: min"),
    "over_tasks for over_time": ("over_tasks: max", "over_time: max"),
    "for": ("for: 1m", "for: 2m"),
    "action": ("scale_up, by: 1, max: 10", "scale_down, by: 1, min: 10"),
    "by": ("by: 1", "by: 2"),
    "max": ("max: 10", "max: 11"),
    "cooldown": ("cooldown: 3m", "cooldown: 4m"),
    "priority": ("priority: 5", "priority: -5"),
    "mode": ("    mode: dry-run\n", ""),
}


@pytest.mark.parametrize("texts", SAME.values(), ids=SAME)
def test_the_same_meaning_has_the_same_hash(texts: tuple[str, ...]) -> None:
    assert texts != (TEXT,)
    assert read(*texts) == read(TEXT)


@pytest.mark.parametrize(("old", "new"), OTHER.values(), ids=OTHER)
def test_another_meaning_has_another_hash_and_leaves_the_other_rule_its_own(
    old: str, new: str
) -> None:
    high, oom = read(TEXT).rules
    assert old in HIGH
    changed = read("rules:\n" + HIGH.replace(old, new) + OOM)
    assert changed.hash != read(TEXT).hash
    assert changed.rules[0].hash != high.hash
    assert changed.rules[1].hash == oom.hash


def test_a_rule_more_or_less_is_another_set() -> None:
    hashes = {read(*texts).hash for texts in [(TEXT,), ("rules:\n" + HIGH,), ("rules: []",)]}
    assert len(hashes) == 3


def test_minus_nothing_is_nothing() -> None:
    assert read(TEXT.replace("80", "-0.0")).hash == read(TEXT.replace("80", "0")).hash


@dataclass(frozen=True, slots=True)
class Twin(Escalate):
    kind: ClassVar[ActionKind] = ActionKind.SCALE_UP


def test_actions_with_the_same_parameters_differ() -> None:
    rule = read(TEXT).rules[1]
    one, other = (rule_set([replace(rule, then=then)]) for then in (Escalate(), Twin()))
    assert one.hash != other.hash
    assert one.rules[0].hash != other.rules[0].hash


def test_severities_differ() -> None:
    severity = [TEXT.replace("critical", word) for word in ("critical", "warning", "info")]
    assert len({read(text).hash for text in severity}) == 3


def test_the_hash_is_the_same_in_any_process(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(TEXT)
    program = (
        "import sys, pathlib; from autoheal.rulefile import load;"
        "rules = load([pathlib.Path(sys.argv[1])]).rules;"
        "print(hash('x'), rules.hash, *[rule.hash for rule in rules.rules])"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program, str(file)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    here = load([file]).rules
    assert answers[0][0] != answers[1][0]  # the seeds did differ
    assert answers[0][1:] == answers[1][1:] == [here.hash, *[rule.hash for rule in here.rules]]
