"""What each action would do to a service, and the one leaf of the spec that it changes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import ACTIONS, Escalate, Plan, ScaleDown, ScaleUp, Unable
from autoheal.actions.replicas import REPLICAS
from autoheal.model import ActionKind
from builders import service


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
    plan = ScaleUp(max=maximum, by=by).plan(service(replicas=current))
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
    plan = ScaleDown(min=minimum, by=by).plan(service(replicas=current))
    assert (plan.target if isinstance(plan, Plan) else None) == target
    if isinstance(plan, Plan):
        assert plan.start == current
        assert plan.words == f"scale down from {current} to {target}"


counts = st.integers(0, 50)


@given(current=counts, by=st.integers(1, 20), bound=st.integers(1, 40))
def test_a_plan_never_passes_a_bound_nor_exists_to_enter_it(
    current: int, by: int, bound: int
) -> None:
    up = ScaleUp(max=bound, by=by).plan(service(replicas=current))
    down = ScaleDown(min=bound, by=by).plan(service(replicas=current))
    if isinstance(up, Plan):
        assert current < up.target <= min(bound, current + by)
    else:
        assert current >= bound
    if isinstance(down, Plan):
        assert max(bound, current - by) <= down.target < current
    else:
        assert current <= bound


def test_a_bound_that_is_reached_says_so() -> None:
    assert ScaleUp(max=2).plan(service(replicas=2)) == Unable(
        "2 replicas, and the rule's maximum is 2"
    )
    assert ScaleDown(min=2).plan(service(replicas=2)) == Unable(
        "2 replicas, and the rule's minimum is 2"
    )


def test_an_escalation_goes_from_quiet_to_firing_and_changes_no_leaf() -> None:
    assert Escalate("critical").plan(service()) == Plan(0, 1, "escalate (critical)")
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


def test_writing_changes_that_leaf_only_and_shares_nothing() -> None:
    spec = {
        "Name": "web",
        "Labels": {"a": "b"},
        "TaskTemplate": {"ContainerSpec": {"Env": ["A=1"]}},
        "Mode": {"Replicated": {"Replicas": 3}},
    }
    before = copy.deepcopy(spec)
    written = REPLICAS.write(spec, 4)
    assert spec == before
    assert written == {**before, "Mode": {"Replicated": {"Replicas": 4}}}
    written["TaskTemplate"]["ContainerSpec"]["Env"].append("B=2")
    written["Labels"]["c"] = "d"
    assert spec == before
