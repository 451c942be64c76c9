"""Which services a rule looks at: by name, stack and labels, all of which must fit."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.rule import Match
from autoheal.model import LABEL_STACK
from builders import scale_up, scene, service

TIER = "com.example.tier"


@pytest.mark.parametrize(
    ("pattern", "name", "holds"),
    [
        ("*", "web", True),
        ("web", "web", True),
        ("web", "web-1", False),
        ("web-*", "web-", True),
        ("web-*", "web", False),
        ("web", "Web", False),
        ("w?b", "wb", False),
        ("w?b", "wab", True),
        ("[ab]-web", "b-web", True),
        ("[ab]-web", "c-web", False),
    ],
)
def test_a_match_by_name_is_a_glob_that_minds_case(pattern: str, name: str, *, holds: bool) -> None:
    assert Match(pattern).holds(service(name)) is holds


@pytest.mark.parametrize(
    ("pattern", "stack", "holds"),
    [
        (None, None, True),
        (None, "shop", True),
        ("shop", "shop", True),
        ("shop", "Shop", False),
        ("shop", "shop2", False),
        ("shop*", "shop2", True),
        ("shop", None, False),
        ("?*", None, False),
        ("*", None, True),
    ],
)
def test_what_no_stack_deployed_has_a_stack_without_a_name(
    pattern: str | None, stack: str | None, *, holds: bool
) -> None:
    labels = {} if stack is None else {LABEL_STACK: stack}
    assert Match(stack=pattern).holds(service(labels=labels)) is holds


@pytest.mark.parametrize(
    ("labels", "shown", "holds"),
    [
        ((), {}, True),
        (((TIER, "web"),), {TIER: "web"}, True),
        (((TIER, "web"),), {TIER: "web", "other": "x"}, True),
        (((TIER, "web"),), {TIER: "Web"}, False),
        (((TIER, "web*"),), {TIER: "web-2"}, True),
        (((TIER, "*"),), {TIER: ""}, True),
        (((TIER, "*"),), {}, False),
        (((TIER, ""),), {}, False),
        (((TIER, ""),), {TIER: ""}, True),
        ((("com.example.*", "web"),), {TIER: "web"}, False),
        (((TIER, "web"), ("zone", "a")), {TIER: "web", "zone": "a"}, True),
        (((TIER, "web"), ("zone", "a")), {TIER: "web", "zone": "b"}, False),
        (((TIER, "web"), ("zone", "a")), {TIER: "web"}, False),
    ],
)
def test_each_label_must_be_there_and_fit(
    labels: tuple[tuple[str, str], ...], shown: dict[str, str], *, holds: bool
) -> None:
    assert Match(labels=labels).holds(service(labels=shown)) is holds


@given(st.booleans(), st.booleans(), st.booleans())
def test_all_that_is_named_must_fit(name: bool, stack: bool, label: bool) -> None:
    match = Match("web", "shop", ((TIER, "front"),))
    labels = {LABEL_STACK: "shop" if stack else "bank", TIER: "front" if label else "back"}
    shown = service("web" if name else "api", labels=labels)
    assert match.holds(shown) is (name and stack and label)


def test_a_rule_decides_on_the_services_it_matches_and_on_no_others() -> None:
    rule = dataclasses.replace(scale_up(), match=Match("*", "shop", ((TIER, "front"),)))
    world = scene(rule, figures=dict.fromkeys("abcd", 90.0))
    world.put(
        service("a", labels={LABEL_STACK: "shop", TIER: "front"}),
        service("b", labels={LABEL_STACK: "shop"}),
        service("c", labels={TIER: "front"}),
    )
    assert [d.service for d in world.tick()] == ["a"]


def test_a_service_that_gets_another_label_is_looked_at_from_then_on() -> None:
    rule = dataclasses.replace(scale_up(), match=Match(labels=((TIER, "front"),)))
    world = scene(rule)
    assert world.tick() == ()
    world.services["web"] = service(labels={TIER: "front"})
    assert [d.service for d in world.tick()] == ["web"]
    world.services["web"] = service(labels={TIER: "back"})
    world.tick()
    assert world.state.services["web"].rules == {}
