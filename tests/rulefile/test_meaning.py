"""The hash of a rule set names its meaning: no more, no less, and the same in any process."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from autoheal.actions import Escalate
from autoheal.core.rule import Combinator, Combined, RuleSet
from autoheal.metrics import REJECTIONS
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
STUCK = """  - name: stuck
    when:
      all:
        - {event: task_failed, over: 10m, below: 5, exit_code: "1-125"}
        - not: {metric: tasks_missing, over: 2m, below: 1, over_time: min}
    then: {action: restart}
    limit: {times: 3, per: 24h}
    clears_within: 5m
    otherwise: {action: escalate, severity: critical}
    allow_risk: [volume, single]
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


SAME_REPAIR = {
    "a negation said": (
        "not: {metric: tasks_missing, over: 2m, below: 1,",
        "{metric: tasks_missing, over: 2m, at_least: 1,",
    ),
    "a negation of a negation": (
        '- {event: task_failed, over: 10m, below: 5, exit_code: "1-125"}',
        "- not: {not: {event: task_failed, over: 10m, below: 5, exit_code: 1-125}}",
    ),
    "order of risks": ("[volume, single]", "[single, volume]"),
}

OTHER_REPAIR = {
    "combinator": ("all:", "any:"),
    "negation": ("not: {metric", "{metric"),
    "exit codes": ("1-125", "1-126"),
    "no exit codes": (', exit_code: "1-125"', ""),
    "event": ('task_failed, over: 10m, below: 5, exit_code: "1-125"', "died, over: 10m, below: 5"),
    "slope": ("over_time: min", "over_time: slope"),
    "times": ("times: 3", "times: 4"),
    "per": ("per: 24h", "per: 25h"),
    "no limit": ("    limit: {times: 3, per: 24h}\n", ""),
    "clears_within": ("clears_within: 5m", "clears_within: 6m"),
    "no clears_within": ("    clears_within: 5m\n", ""),
    "severity of otherwise": ("severity: critical", "severity: warning"),
    "no otherwise": ("    otherwise: {action: escalate, severity: critical}\n", ""),
    "risks": ("[volume, single]", "[volume]"),
    "no risks": ("    allow_risk: [volume, single]\n", ""),
}


@pytest.mark.parametrize(("old", "new"), SAME_REPAIR.values(), ids=SAME_REPAIR)
def test_the_same_repair_has_the_same_hash(old: str, new: str) -> None:
    assert old in STUCK
    assert read("rules:\n" + STUCK.replace(old, new)) == read("rules:\n" + STUCK)


@pytest.mark.parametrize(("old", "new"), OTHER_REPAIR.values(), ids=OTHER_REPAIR)
def test_another_repair_has_another_hash(old: str, new: str) -> None:
    assert old in STUCK
    changed = read("rules:\n" + STUCK.replace(old, new))
    assert changed.hash != read("rules:\n" + STUCK).hash
    assert changed.rules[0].hash != read("rules:\n" + STUCK).rules[0].hash


WORKERS = """sources:
  jobs: {redis: "redis://queue:6379/0", list: jobs, every: 15s, timeout: 2s, stale_after: 1m}
rules:
  - name: workers
    match: {stack: shop, labels: {tier: "w*", size: "2"}}
    schedule: {days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}
    then:
      action: track
      targets: [{source: jobs, per: task, target: 50, over: 1m}]
      min: 1
      max: 30
      up: {policies: [{tasks: 4, per: 15s}], select: min, stabilization: 0s, tolerance: 0.1}
  - name: busy
    when: {source: jobs, over: 10m, above: 500, over_time: forecast, ahead: 5m}
    then: {action: escalate}
    keep_firing_for: 5m
"""

SAME_WORKERS = {
    "times left out": (", every: 15s, timeout: 2s, stale_after: 1m", ""),
    "order of options": (
        'redis: "redis://queue:6379/0", list: jobs',
        'redis: "redis://queue:6379/0", list: "jobs"',
    ),
    "order of labels": ('{tier: "w*", size: "2"}', '{size: "2", tier: "w*"}'),
    "order of match": (
        'stack: shop, labels: {tier: "w*", size: "2"}',
        ('labels: {tier: "w*", size: "2"}, service: "*", stack: shop'),
    ),
    "days listed": ("days: mon-fri", "days: [fri, thu, mon-wed]"),
    "within": (
        'days: mon-fri, hours: "08:00-18:00"',
        ('within: [{days: mon-fri, hours: "08:00-18:00"}]'),
    ),
    "over left out": ("target: 50, over: 1m", "target: 50"),
    "defaults left out": (", stabilization: 0s, tolerance: 0.1", ""),
    "down as it is": ("      up:", "      down: {}\n      up:"),
    "a source that nobody names": (
        "sources:\n",
        'sources:\n  mails: {json: "http://shop", path: a}\n',
    ),
}

OTHER_WORKERS = {
    "stack": ("stack: shop", "stack: shop-2"),
    "label": ('tier: "w*"', 'tier: "v*"'),
    "no labels": (', labels: {tier: "w*", size: "2"}', ""),
    "days": ("mon-fri", "mon-sat"),
    "hours": ("18:00", "18:01"),
    "zone": ("Europe/Berlin", "Europe/London"),
    "outside": (
        '{days: mon-fri, hours: "08:00-18:00"',
        ('{outside: [{days: mon-fri, hours: "08:00-18:00"}]'),
    ),
    "no schedule": (
        '    schedule: {days: mon-fri, hours: "08:00-18:00", zone: Europe/Berlin}\n',
        "",
    ),
    "per": ("per: task", "per: service"),
    "target": ("target: 50", "target: 51"),
    "over": ("over: 1m", "over: 2m"),
    "min": ("min: 1\n", "min: 2\n"),
    "max": ("max: 30", "max: 31"),
    "tasks": ("tasks: 4", "tasks: 5"),
    "tasks for percent": ("tasks: 4", "percent: 4"),
    "per of a policy": ("per: 15s}", "per: 16s}"),
    "select": ("select: min", "select: disabled"),
    "stabilization": ("stabilization: 0s", "stabilization: 1s"),
    "tolerance": ("tolerance: 0.1", "tolerance: 0.11"),
    "down for up": ("      up:", "      down:"),
}

OTHER_SOURCE = {
    "url": ("6379/0", "6379/1"),
    "key": ("list: jobs", "list: job"),
    "kind": ("list: jobs", "stream: jobs"),
    "every": ("every: 15s", "every: 16s"),
    "timeout": ("timeout: 2s", "timeout: 3s"),
    "stale_after": ("stale_after: 1m", "stale_after: 2m"),
    "name and key": ("jobs", "mails"),
}


@pytest.mark.parametrize(("old", "new"), SAME_WORKERS.values(), ids=SAME_WORKERS)
def test_the_same_tracking_has_the_same_hash(old: str, new: str) -> None:
    assert old in WORKERS
    assert read(WORKERS.replace(old, new)) == read(WORKERS)


@pytest.mark.parametrize(("old", "new"), OTHER_WORKERS.values(), ids=OTHER_WORKERS)
def test_another_tracking_has_another_hash(old: str, new: str) -> None:
    assert old in WORKERS
    changed, plain = read(WORKERS.replace(old, new)), read(WORKERS)
    assert changed.hash != plain.hash
    assert changed.rules[0].hash == plain.rules[0].hash
    assert changed.rules[1].hash != plain.rules[1].hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ahead: 5m", "ahead: 6m"),
        ("forecast, ahead: 5m", "p99"),
        ("firing_for: 5m", "firing_for: 6m"),
    ],
)
def test_another_look_ahead_or_alarm_has_another_hash(old: str, new: str) -> None:
    changed, plain = read(WORKERS.replace(old, new)), read(WORKERS)
    assert changed.rules[0].hash != plain.rules[0].hash
    assert changed.rules[1].hash == plain.rules[1].hash


@pytest.mark.parametrize(("old", "new"), OTHER_SOURCE.values(), ids=OTHER_SOURCE)
def test_another_source_changes_every_rule_that_names_it(old: str, new: str) -> None:
    assert old in WORKERS
    changed, plain = read(WORKERS.replace(old, new) + HIGH), read(WORKERS + HIGH)
    assert changed.hash != plain.hash
    hashes = [
        (one.hash == other.hash) for one, other in zip(changed.rules, plain.rules, strict=True)
    ]
    assert hashes == [False, True, False]


def test_reasons_differ() -> None:
    text = "rules:\n" + OOM.replace("oom_killed", "task_rejected")
    texts = [text, *(text.replace("1}", f"1, reason: {word}}}") for word in REJECTIONS)]
    assert len({read(each).hash for each in texts}) == 4


def test_conditions_of_another_kind_or_order_or_nesting_differ() -> None:
    high, oom = (rule.when for rule in read(TEXT).rules)
    conditions = [
        high,
        oom,
        *(Combined(kind, (high,)) for kind in Combinator),
        *(Combined(kind, (high, oom)) for kind in Combinator),
        *(Combined(kind, (oom, high)) for kind in Combinator),
        *(Combined(kind, (Combined(Combinator.ALL, (high,)), oom)) for kind in Combinator),
        *(Combined(kind, (Combined(Combinator.ALL, (high, oom)),)) for kind in Combinator),
    ]
    rule = read(TEXT).rules[0]
    assert len({rule_set([replace(rule, when=each)]).hash for each in conditions}) == 12


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
