"""What is written under `action: track`, and the action that it becomes."""

from dataclasses import replace

import pytest

from autoheal.actions import Escalate
from autoheal.actions.track import DOWN, UP, Direction, Policy, Select, Target, Track
from autoheal.core.rule import Combinator, Combined, Limit, Risk, Rule
from autoheal.rulefile import parse
from autoheal.rulefile.actions import TRACK, word_of
from autoheal.rulefile.tracking import METRIC_WORDS

MINUTE = 60_000
TEXT = """
sources:
  jobs: {redis: "redis://queue", list: jobs}
rules:
  - name: a
    then: {action: track, targets: [%s], min: 2, max: 20%s}
"""
CPU = "{metric: cpu_percent, over: 1m, target: 70}"


def rule(targets: str = CPU, more: str = "", keys: str = "") -> Rule:
    (read,) = parse({"x.yaml": (TEXT % (targets, more) + keys).encode()}).rules
    return read


def track(targets: str = CPU, more: str = "") -> Track:
    then: object = rule(targets, more).then
    assert isinstance(then, Track)
    return then


def test_what_is_left_out_is_as_kubernetes_has_it() -> None:
    assert track() == Track((Target(70.0, MINUTE, metric="cpu_percent"),), 2, 20)
    assert track().up == Direction(0, (Policy(15_000, tasks=4), Policy(15_000, percent=100.0)))
    assert track().down == Direction(300_000, (Policy(15_000, percent=100.0),))
    assert (UP.select, UP.tolerance) == (DOWN.select, DOWN.tolerance) == (Select.MAX, 0.1)


def test_a_rule_that_tracks_has_no_condition() -> None:
    assert rule().when == Combined(Combinator.ALL, ())
    assert word_of(rule().then) == TRACK


TARGETS = {
    "{source: jobs, target: 50}": Target(50.0, MINUTE, source="jobs"),
    "{source: jobs, per: service, target: 50}": Target(50.0, MINUTE, source="jobs"),
    "{source: jobs, per: task, target: .5, over: 30s}": Target(
        0.5, 30_000, source="jobs", per_task=True
    ),
    "{metric: memory_bytes, over: 24h, target: 1e9}": Target(
        1e9, 24 * 60 * MINUTE, metric="memory_bytes"
    ),
}


@pytest.mark.parametrize(("text", "target"), TARGETS.items(), ids=TARGETS)
def test_a_target_is_of_a_metric_or_of_a_source(text: str, target: Target) -> None:
    assert track(text).targets == (target,)


def test_targets_keep_their_order() -> None:
    both = track(f"{{source: jobs, target: 50}}, {CPU}").targets
    assert [target.metric or target.source for target in both] == ["jobs", "cpu_percent"]


def test_one_source_can_be_a_target_as_a_whole_and_per_task() -> None:
    text = "{source: jobs, target: 50}, {source: jobs, per: task, target: 5}"
    assert [target.per_task for target in track(text).targets] == [False, True]


@pytest.mark.parametrize("name", METRIC_WORDS)
def test_every_metric_of_tasks_can_be_a_target(name: str) -> None:
    assert track(CPU.replace("cpu_percent", name)).targets[0].metric == name


DIRECTIONS = {
    "{}": UP,
    "{stabilization: 0s}": UP,
    "{stabilization: 1h}": replace(UP, stabilization_ms=60 * MINUTE),
    "{tolerance: 0}": replace(UP, tolerance=0.0),
    "{tolerance: 1}": replace(UP, tolerance=1.0),
    "{select: min}": replace(UP, select=Select.MIN),
    "{select: disabled}": replace(UP, select=Select.DISABLED),
    "{policies: [{tasks: 1, per: 1s}]}": replace(UP, policies=(Policy(1000, tasks=1),)),
    "{policies: [{percent: 1.5, per: 30m}, {per: 1m, tasks: 10000}], select: max}": replace(
        UP, policies=(Policy(30 * MINUTE, percent=1.5), Policy(MINUTE, tasks=10_000))
    ),
}


@pytest.mark.parametrize(("text", "direction"), DIRECTIONS.items(), ids=DIRECTIONS)
def test_a_direction_differs_from_its_default_in_what_it_says(
    text: str, direction: Direction
) -> None:
    assert track(more=f", up: {text}") == replace(track(), up=direction)


def test_down_has_defaults_of_its_own() -> None:
    assert track(more=", down: {tolerance: 0.2}").down == replace(DOWN, tolerance=0.2)


def test_bounds_may_be_equal() -> None:
    assert parse({"x.yaml": (TEXT % (CPU, "")).replace("min: 2", "min: 20").encode()}).rules


def test_tracking_takes_a_limit_an_otherwise_and_the_risks_of_scaling() -> None:
    keys = "    limit: {times: 5, per: 1h}\n    otherwise: {action: escalate}\n"
    read = rule(keys=keys + "    allow_risk: [no_restart, volume]\n")
    assert read.limit == Limit(5, 60 * MINUTE)
    assert read.otherwise == Escalate()
    assert read.allow_risk == (Risk.VOLUME, Risk.NO_RESTART)
