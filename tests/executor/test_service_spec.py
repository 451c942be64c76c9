"""How two specs are compared, and how the difference is told."""

from __future__ import annotations

from typing import Any

import pytest

from autoheal.adapters.service_spec import differences, leaf_of, listed
from autoheal.model import ActionKind
from executor.fakes import a_decision, rich_spec


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
