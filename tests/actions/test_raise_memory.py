"""raise_memory: from the limit at the kill, within the rule's maximum and the nodes' room."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Plan, RaiseMemory, Subject, Unable
from autoheal.units import MIB, Size
from builders import ARMED, service

GIB = 1024 * MIB
RULE = RaiseMemory(max=Size(2 * GIB))


def subject(
    present: int | None, killed: int | None, room: int | None = 64 * GIB, *, replicas: int = 2
) -> Subject:
    """A service `api` of the stack `shop`."""
    of_stack = {**ARMED, "com.docker.stack.namespace": "shop"}
    api = service(memory_limit=present, replicas=replicas, labels=of_stack)
    named = dataclasses.replace(api, name="shop_api")
    return Subject(named, running=replicas, killed_limit=killed, room=room)


def mebibytes(size: int | None) -> int | None:
    return None if size is None else size * MIB


@pytest.mark.parametrize(
    ("present", "killed", "target"),
    [
        (64, 64, 164),
        (400, 400, 500),
        (500, 500, 600),
        (501, 501, 602),
        (1000, 1000, 1200),
        (1900, 1900, 2048),
        (2047, 2047, 2048),
        (32, 64, 164),
    ],
)
def test_the_limit_grows_from_the_one_at_the_kill_by_the_factor_and_the_addend_at_least(
    present: int, killed: int, target: int
) -> None:
    plan = RULE.plan(subject(present * MIB, killed * MIB))
    assert isinstance(plan, Plan)
    assert (plan.start, plan.target) == (present * MIB, target * MIB)


@pytest.mark.parametrize(
    ("factor", "add", "maximum", "killed", "target"),
    [
        (1.5, 0, 2 * GIB, 100 * MIB, 150 * MIB),
        (1.1, 0, 2 * GIB, 100 * MIB, 110 * MIB),
        (1.0, 1, 2 * GIB, 100 * MIB, 101 * MIB),
        (1.0, 100 * MIB, 2 * GIB, 64 * MIB + 1, 165 * MIB),
        (10.0, 0, 1_500_000_000, 200 * MIB, 1_500_000_000),
    ],
)
def test_a_target_is_in_whole_mebibytes_upwards_but_never_past_the_maximum(
    factor: float, add: int, maximum: int, killed: int, target: int
) -> None:
    rule = RaiseMemory(max=Size(maximum), factor=factor, add=Size(add))
    plan = rule.plan(subject(killed, killed))
    assert isinstance(plan, Plan)
    assert plan.target == target


ABOVE_PRESENT = "set deploy.resources.limits.memory above 2G in service api"


@pytest.mark.parametrize(
    ("present", "killed", "room", "unable"),
    [
        (
            None,
            None,
            None,
            Unable(
                "it has no memory limit, so it was the host that ran out",
                fix="set deploy.resources.limits.memory in service api",
            ),
        ),
        (
            None,
            64,
            999,
            Unable(
                "it has no memory limit, so it was the host that ran out",
                fix="set deploy.resources.limits.memory to 164M in service api",
            ),
        ),
        (64, None, 999, Unable("the limit at the kill is not known", lasting=False)),
        (
            164,
            64,
            999,
            Unable("the limit has been raised to 164MiB since the kill already", lasting=False),
        ),
        (
            65,
            64,
            999,
            Unable("the limit has been raised to 65MiB since the kill already", lasting=False),
        ),
        (
            2048,
            2048,
            999,
            Unable("its limit is 2GiB, and the rule's maximum is 2GiB", fix=ABOVE_PRESENT),
        ),
        (
            3072,
            3072,
            999,
            Unable(
                "its limit is 3GiB, and the rule's maximum is 2GiB",
                fix="set deploy.resources.limits.memory above 3G in service api",
            ),
        ),
        (
            64,
            64,
            None,
            Unable("how much memory its nodes have left is not known", lasting=False),
        ),
        (
            64,
            64,
            99,
            Unable(
                "each task needs 100MiB more, and its nodes have room for 99MiB",
                fix="set deploy.resources.limits.memory to 164M in service api",
            ),
        ),
        (
            64,
            64,
            -5,
            Unable(
                "each task needs 100MiB more, and its nodes have room for 0B",
                fix="set deploy.resources.limits.memory to 164M in service api",
            ),
        ),
    ],
)
def test_what_it_cannot_raise_is_told_with_what_a_person_can_do(
    present: int | None, killed: int | None, room: int | None, unable: Unable
) -> None:
    of = subject(mebibytes(present), mebibytes(killed), mebibytes(room))
    assert RULE.plan(of) == unable


def test_room_to_the_byte_is_enough() -> None:
    assert isinstance(RULE.plan(subject(64 * MIB, 64 * MIB, 100 * MIB)), Plan)
    assert isinstance(RULE.plan(subject(64 * MIB, 64 * MIB, 100 * MIB - 1)), Unable)


def test_a_rule_that_adds_nothing_says_so() -> None:
    rule = RaiseMemory(max=Size(2 * GIB), factor=1.0, add=Size(0))
    plan = rule.plan(subject(64 * MIB, 64 * MIB))
    assert isinstance(plan, Unable)
    assert plan.words == "factor 1 and add 0B raise nothing"


@pytest.mark.parametrize(
    ("replicas", "replaces"),
    [
        (1, "replaces its only task, which stops before the new one starts"),
        (3, "replaces all 3 tasks in a rolling update"),
    ],
)
def test_its_words_say_what_is_raised_what_is_replaced_and_how_to_keep_it(
    replicas: int, replaces: str
) -> None:
    plan = RULE.plan(subject(64 * MIB, 64 * MIB, replicas=replicas))
    assert isinstance(plan, Plan)
    assert plan.words == (
        f"raise the memory limit from 64MiB to 164MiB: {replaces}; "
        "to keep it, set deploy.resources.limits.memory to 164M in service api"
    )


@pytest.mark.parametrize(
    ("present", "killed", "fix"),
    [
        (64, 64, "to 164M"),
        (164, 64, "to 164M"),
        (300, 64, "to 300M"),
        (860, 860, "to 1032M"),
        (1000, 900, "to 1080M"),
        (1900, 1900, "to 2G"),
        (2048, 2048, "above 2G"),
        (3072, 64, "to 3G"),
        (192, None, "to 192M"),
    ],
)
def test_the_lasting_fix_names_the_limit_it_would_go_to(
    present: int, killed: int | None, fix: str
) -> None:
    words = RULE.fix(subject(present * MIB, mebibytes(killed), room=0))
    assert words == f"set deploy.resources.limits.memory {fix} in service api"


def test_a_service_of_no_stack_keeps_its_whole_name_in_the_fix() -> None:
    alone = service("shop_api", memory_limit=64 * MIB)
    assert RULE.fix(Subject(alone)).endswith(" in service shop_api")


sizes = st.integers(4 * MIB, 4 * GIB)


@given(
    present=st.none() | sizes,
    killed=st.none() | sizes,
    room=st.none() | st.integers(-GIB, 4 * GIB),
    maximum=sizes,
    factor=st.floats(1.0, 10.0),
    add=st.integers(0, GIB),
)
def test_a_limit_is_only_raised_within_the_maximum_and_the_room(
    present: int | None,
    killed: int | None,
    room: int | None,
    maximum: int,
    factor: float,
    add: int,
) -> None:
    rule = RaiseMemory(max=Size(maximum), factor=factor, add=Size(add))
    plan = rule.plan(subject(present, killed, room))
    if isinstance(plan, Unable):
        assert plan.lasting is bool(plan.fix)
        return
    assert present is not None
    assert killed is not None
    assert room is not None
    assert plan.start == present < plan.target <= min(maximum, present + room)
    assert plan.target == maximum or plan.target >= max(killed + add, int(killed * factor))
    assert rule.objection(plan.start, plan.target) is None
