"""How two specs are compared, and how the difference is told."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.adapters.service_spec import carried_out, differences, leaf_of, listed, withdrawn
from autoheal.model import LABEL_DECISION, LABEL_WITHDRAWN, ActionKind
from executor.fakes import CHANGES, a_decision, a_decision_to, rich_spec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=8,
)
MAPS = (
    (),
    ("TaskTemplate",),
    ("TaskTemplate", "ContainerSpec"),
    ("TaskTemplate", "Resources"),
    ("TaskTemplate", "Resources", "Limits"),
    ("Mode", "Replicated"),
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Specs with fields that no engine has yet, anywhere beside our leaves."""
    spec = rich_spec()
    for way in MAPS:
        beside = spec
        for step in way:
            beside = beside[step]
        extra = draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2))
        beside.update({f"x{name}": value for name, value in extra.items()})
    spec["Labels"] = draw(st.just(spec["Labels"]) | st.none() | st.just({}))
    return spec


def shown_null_as_empty(spec: dict[str, Any]) -> dict[str, Any]:
    """Docker sends null for no labels; ours then is the first."""
    return {**spec, "Labels": spec["Labels"] or {}}


@given(spec=specs(), action=st.sampled_from(list(CHANGES)))
def test_carrying_out_changes_the_leaf_and_our_label_and_shares_nothing(
    spec: dict[str, Any], action: ActionKind
) -> None:
    decision = a_decision_to(action)
    before = copy.deepcopy(spec)
    after = carried_out(decision, spec)
    assert spec == before
    assert leaf_of(decision).read(after) == decision.target
    assert after["Labels"][LABEL_DECISION] == decision.id
    found = set(differences(shown_null_as_empty(before), after, ""))
    assert found == {leaf_of(decision).path, f"Labels.{LABEL_DECISION}"}
    assert {id(each) for each in _maps(spec)}.isdisjoint(id(each) for each in _maps(after))


@given(spec=specs(), action=st.sampled_from(list(CHANGES)))
def test_withdrawing_changes_our_label_alone(spec: dict[str, Any], action: ActionKind) -> None:
    after = withdrawn(a_decision_to(action), spec)
    found = list(differences(shown_null_as_empty(spec), after, ""))
    assert found == [f"Labels.{LABEL_WITHDRAWN}"]


def _maps(value: Any) -> list[Any]:  # noqa: ANN401  # any JSON
    """Every map and list in it, itself included."""
    if isinstance(value, dict):
        return [value, *(found for each in value.values() for found in _maps(each))]
    if isinstance(value, list):
        return [value, *(found for each in value for found in _maps(each))]
    return []


@pytest.mark.parametrize(
    ("left", "right", "paths"),
    [
        (rich_spec(), rich_spec(), []),
        ({"a": 1}, {"a": 1, "b": None}, ["b"]),
        ({"a": 1, "b": None}, {"a": 1}, ["b"]),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, ["a.b[1].c"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a"]),
        ({"a": True}, {"a": 1}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": None}, {"a": []}, ["a"]),
        ({"a": {}}, {"a": None}, ["a"]),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, ["a", "b"]),
    ],
)
def test_every_difference_has_its_path(
    left: dict[str, Any], right: dict[str, Any], paths: list[str]
) -> None:
    assert list(differences(left, right, "")) == paths


def test_the_first_few_paths_are_named() -> None:
    assert listed(list("abcde")) == "a, b, c, d, e"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_an_escalation_has_no_leaf() -> None:
    with pytest.raises(AssertionError, match="escalate changes no service"):
        leaf_of(a_decision(action=ActionKind.ESCALATE))
