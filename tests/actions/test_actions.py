"""What each action would do to a service, and the one leaf of the spec that it changes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import ACTIONS, Escalate, Leaf, Plan, ScaleDown, ScaleUp, Subject, Unable
from autoheal.actions.raise_memory import MEMORY_LIMIT
from autoheal.actions.replicas import REPLICAS
from autoheal.actions.restart import FORCE_UPDATE
from autoheal.model import ActionKind
from autoheal.units import MIB
from builders import service


def subject(replicas: int, *, minimum: int | None = None, maximum: int | None = None) -> Subject:
    return Subject(service(replicas=replicas), replicas, minimum, maximum)


@pytest.mark.parametrize(
    ("current", "by", "maximum", "target"),
    [
        (1, 1, 10, 2),
        (8, 1, 10, 9),
        (9, 1, 10, 10),
        (9, 3, 10, 10),
        (8, 2, 10, 10),
        (1, 9, 10, 10),
        (10, 1, 10, None),
        (11, 1, 10, None),
    ],
)
def test_scale_up_adds_at_most_to_the_maximum(
    current: int, by: int, maximum: int, target: int | None
) -> None:
    plan = ScaleUp(max=maximum, by=by).plan(subject(current))
    assert (plan.target if isinstance(plan, Plan) else None) == target
    if isinstance(plan, Plan):
        assert plan.start == current
        assert plan.words == f"scale up from {current} to {target}"


@pytest.mark.parametrize(
    ("current", "by", "minimum", "target"),
    [
        (10, 1, 2, 9),
        (4, 1, 2, 3),
        (3, 1, 2, 2),
        (3, 5, 2, 2),
        (4, 2, 2, 2),
        (2, 1, 2, None),
        (1, 1, 2, None),
        (0, 1, 2, None),
    ],
)
def test_scale_down_leaves_at_least_the_minimum(
    current: int, by: int, minimum: int, target: int | None
) -> None:
    plan = ScaleDown(min=minimum, by=by).plan(subject(current))
    assert (plan.target if isinstance(plan, Plan) else None) == target
    if isinstance(plan, Plan):
        assert plan.start == current
        assert plan.words == f"scale down from {current} to {target}"


counts = st.integers(0, 50)
bounds = st.none() | st.integers(1, 40)


@given(current=counts, by=st.integers(1, 20), rule=st.integers(1, 40), low=bounds, high=bounds)
def test_a_plan_ends_within_all_bounds_and_exists_not_merely_to_enter_one(
    current: int, by: int, rule: int, low: int | None, high: int | None
) -> None:
    of = subject(current, minimum=low, maximum=high)
    lowest, highest = low or 1, high or 50
    up = ScaleUp(max=rule, by=by).plan(of)
    down = ScaleDown(min=rule, by=by).plan(of)
    if isinstance(up, Plan):
        assert current < up.target <= current + by
        assert lowest <= up.target <= min(rule, highest)
    else:
        ends = min(current + by, rule, highest)
        assert ends <= current or ends < lowest
    if isinstance(down, Plan):
        assert current - by <= down.target < current
        assert max(rule, lowest) <= down.target <= highest
    else:
        ends = max(current - by, rule, lowest)
        assert ends >= current or ends > highest


@pytest.mark.parametrize(
    ("action", "current", "minimum", "maximum", "words"),
    [
        (ScaleUp(max=9), 3, None, 3, "3 replicas, and its label autoheal.max is 3"),
        (ScaleUp(max=9), 5, None, 3, "5 replicas, and its label autoheal.max is 3"),
        (ScaleUp(max=3), 3, None, 9, "3 replicas, and the rule's maximum is 3"),
        (ScaleUp(max=3), 3, None, 3, "3 replicas, and the rule's maximum is 3"),
        (ScaleUp(max=9), 2, 5, None, "3 replicas are still below its label autoheal.min, 5"),
        (ScaleUp(max=3), 1, 4, None, "2 replicas are still below its label autoheal.min, 4"),
        (ScaleDown(min=1), 3, 3, None, "3 replicas, and its label autoheal.min is 3"),
        (ScaleDown(min=1), 2, 3, None, "2 replicas, and its label autoheal.min is 3"),
        (ScaleDown(min=3), 3, 1, None, "3 replicas, and the rule's minimum is 3"),
        (ScaleDown(min=3), 3, 3, None, "3 replicas, and the rule's minimum is 3"),
        (ScaleDown(min=1), 9, None, 5, "8 replicas are still above its label autoheal.max, 5"),
        (ScaleDown(min=6), 9, None, 5, "8 replicas are still above its label autoheal.max, 5"),
    ],
)
def test_the_bound_that_stops_it_is_named_with_its_owner(
    action: ScaleUp | ScaleDown,
    current: int,
    minimum: int | None,
    maximum: int | None,
    words: str,
) -> None:
    assert action.plan(subject(current, minimum=minimum, maximum=maximum)) == Unable(words)


@pytest.mark.parametrize(
    ("action", "current", "minimum", "maximum", "target"),
    [
        (ScaleUp(max=9, by=3), 4, None, 6, 6),
        (ScaleUp(max=5, by=3), 4, None, 6, 5),
        (ScaleUp(max=9, by=3), 2, 5, None, 5),
        (ScaleDown(min=1, by=3), 4, 3, None, 3),
        (ScaleDown(min=3, by=3), 4, 1, None, 3),
        (ScaleDown(min=1, by=3), 8, None, 5, 5),
    ],
)
def test_labels_tighten_a_step_and_a_step_may_end_on_their_bounds(
    action: ScaleUp | ScaleDown,
    current: int,
    minimum: int | None,
    maximum: int | None,
    target: int,
) -> None:
    plan = action.plan(subject(current, minimum=minimum, maximum=maximum))
    assert isinstance(plan, Plan)
    assert (plan.start, plan.target) == (current, target)


def test_a_bound_that_is_reached_says_so() -> None:
    assert ScaleUp(max=2).plan(subject(2)) == Unable("2 replicas, and the rule's maximum is 2")
    assert ScaleDown(min=2).plan(subject(2)) == Unable("2 replicas, and the rule's minimum is 2")


def test_an_escalation_goes_from_quiet_to_firing_and_changes_no_leaf() -> None:
    assert Escalate("critical").plan(subject(2)) == Plan(0, 1, "escalate (critical)")
    assert Escalate.leaf is None


def test_every_kind_of_action_has_its_class() -> None:
    assert {kind: action.kind for kind, action in ACTIONS.items()} == {k: k for k in ActionKind}


@pytest.mark.parametrize("action", ACTIONS.values())
def test_an_example_names_its_action(action: type[Any]) -> None:
    assert f"action: {action.kind}" in action.example


@pytest.mark.parametrize(
    ("mode", "count"),
    [
        ({"Replicated": {"Replicas": 3}}, 3),
        ({"Replicated": {"Replicas": 0}}, 0),
        ({"Replicated": {}}, 1),
        ({"Global": {}}, None),
        ({"ReplicatedJob": {"MaxConcurrent": 1}}, None),
    ],
)
def test_the_replica_leaf_is_read_as_docker_writes_it(
    mode: dict[str, Any], count: int | None
) -> None:
    assert REPLICAS.read({"Name": "web", "Mode": mode}) == count


def test_a_spec_without_a_mode_has_no_replica_leaf() -> None:
    assert REPLICAS.read({"Name": "web"}) is None


@pytest.mark.parametrize(
    ("task", "number"),
    [
        ({"TaskTemplate": {"ForceUpdate": 4}}, 4),
        ({"TaskTemplate": {"ForceUpdate": 0}}, 0),
        ({"TaskTemplate": {"ContainerSpec": {}}}, 0),
        ({}, 0),
    ],
)
def test_a_force_update_that_swarm_leaves_out_is_zero(task: dict[str, Any], number: int) -> None:
    assert FORCE_UPDATE.read(task) == number
    assert FORCE_UPDATE.read(FORCE_UPDATE.write(task, number + 1)) == number + 1


@pytest.mark.parametrize(
    ("task", "limit"),
    [
        ({"Resources": {"Limits": {"MemoryBytes": 64}}}, 64),
        ({"Resources": {"Limits": {"MemoryBytes": 0}}}, None),
        ({"Resources": {"Limits": {"NanoCPUs": 1}}}, None),
        ({"Resources": {"Limits": None}}, None),
        ({"Resources": {}}, None),
        ({"Resources": None}, None),
        ({}, None),
    ],
)
def test_a_memory_limit_that_is_not_set_is_none(task: dict[str, Any], limit: int | None) -> None:
    assert MEMORY_LIMIT.read({"TaskTemplate": task}) == limit


SPEC = {
    "Name": "web",
    "Labels": {"a": "b"},
    "TaskTemplate": {
        "ContainerSpec": {"Env": ["A=1"]},
        "Resources": {"Limits": {"NanoCPUs": 5, "MemoryBytes": 64}},
        "ForceUpdate": 7,
    },
    "Mode": {"Replicated": {"Replicas": 3}},
}


@pytest.mark.parametrize("leaf", [REPLICAS, FORCE_UPDATE, MEMORY_LIMIT], ids=lambda leaf: leaf.path)
def test_writing_changes_that_leaf_only_and_shares_nothing(leaf: Leaf) -> None:
    spec = copy.deepcopy(SPEC)
    written = leaf.write(spec, 99)
    expected: Any = copy.deepcopy(SPEC)
    *way, last = leaf.path.split(".")
    below = expected
    for step in way:
        below = below[step]
    below[last] = 99
    assert spec == SPEC
    assert written == expected
    written["TaskTemplate"]["ContainerSpec"]["Env"].append("B=2")
    written["TaskTemplate"]["Resources"]["Limits"]["Pids"] = 1
    written["Labels"]["c"] = "d"
    assert spec == SPEC


def test_a_limit_is_never_written_where_there_is_none() -> None:
    with pytest.raises(KeyError):
        MEMORY_LIMIT.write({"TaskTemplate": {"Resources": {}}}, 64)


@pytest.mark.parametrize(
    ("kind", "heals", "rolls"),
    [
        (ActionKind.ESCALATE, True, False),
        (ActionKind.SCALE_UP, False, False),
        (ActionKind.SCALE_DOWN, False, False),
        (ActionKind.RAISE_MEMORY, True, True),
        (ActionKind.RESTART, True, True),
    ],
)
def test_what_an_action_is(kind: ActionKind, heals: bool, rolls: bool) -> None:
    assert (ACTIONS[kind].heals, ACTIONS[kind].rolls) == (heals, rolls)


@pytest.mark.parametrize(
    ("kind", "start", "target", "words"),
    [
        (ActionKind.ESCALATE, 0, 1, ""),
        (ActionKind.SCALE_UP, 2, 3, "2->3"),
        (ActionKind.SCALE_DOWN, 3, 2, "3->2"),
        (ActionKind.RAISE_MEMORY, 64 * MIB, 164 * MIB, "64MiB->164MiB"),
        (ActionKind.RESTART, 3, 4, ""),
    ],
)
def test_steps_are_told_in_units_that_mean_something(
    kind: ActionKind, start: int, target: int, words: str
) -> None:
    assert ACTIONS[kind].steps(start, target) == words


@pytest.mark.parametrize("action", ACTIONS.values())
def test_bounds_are_those_of_parameters_and_hold_the_defaults(action: type[Any]) -> None:
    defaults = {each.name: each.default for each in dataclasses.fields(action)}
    for name, (least, greatest) in action.bounds.items():
        default = defaults[name]
        assert default is dataclasses.MISSING or least <= default <= greatest
