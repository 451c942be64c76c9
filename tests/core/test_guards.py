"""What holds an action back, guard by guard; beside each a service without the obstacle acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from autoheal.core.guards import GUARDS
from autoheal.model import LABEL_ALLOW, LABEL_ENABLE, LABEL_ROLE, LABEL_STACK, Mode, ServiceMode
from builders import (
    ARMED,
    HOUR,
    MINUTE,
    NOW,
    STEP,
    Scene,
    escalate,
    scale_down,
    scale_up,
    scene,
    service,
)

AT = NOW + STEP
STACK = {**ARMED, LABEL_STACK: "shop"}


def two(prepare: Callable[[Scene], None]) -> Scene:
    """`web` with an obstacle, `sentinel` without; as many may act as want to."""
    world = scene(scale_up(), figures={"web": 90.0, "sentinel": 90.0})
    world.limits = dataclasses.replace(world.limits, actions_at_once=9)
    prepare(world)
    return world


def put(**changes: object) -> Callable[[Scene], None]:
    return lambda world: world.put(service(**changes))  # type: ignore[arg-type]  # any field by name


def operated(ago_ms: int) -> Callable[[Scene], None]:
    def prepare(world: Scene) -> None:
        world.figures = {"web": None, "sentinel": None}
        world.tick()
        world.alter(replicas=5, updated_at_ms=AT + STEP - ago_ms)
        world.figures = {"web": 90.0, "sentinel": 90.0}

    return prepare


def neighbour_deployed(ago_ms: int) -> Callable[[Scene], None]:
    def prepare(world: Scene) -> None:
        world.put(service(labels=STACK))
        world.put(service("neighbour", labels=STACK, updated_at_ms=AT - ago_ms))

    return prepare


OBSTACLES: dict[str, tuple[Callable[[Scene], None], str]] = {
    "a part of autoheal": (put(labels={**ARMED, LABEL_ROLE: "engine"}), "own"),
    "a role without a name": (put(labels={**ARMED, LABEL_ROLE: ""}), "own"),
    "switched off": (put(replicas=0), "off"),
    "global": (put(mode=ServiceMode.GLOBAL, replicas=None), "mode"),
    "job": (put(mode=ServiceMode.REPLICATED_JOB), "mode"),
    "global job": (put(mode=ServiceMode.GLOBAL_JOB, replicas=None), "mode"),
    "updating": (put(update_state="updating"), "rollout"),
    "paused": (put(update_state="paused"), "rollout"),
    "rolling back": (put(update_state="rollback_started"), "rollout"),
    "rollback paused": (put(update_state="rollback_paused"), "rollout"),
    "just deployed": (put(updated_at_ms=AT), "deploy"),
    "deployed by a clock ahead": (put(updated_at_ms=AT + HOUR), "deploy"),
    "deployed not long enough ago": (put(updated_at_ms=AT - 10 * MINUTE + 1), "deploy"),
    "stack just deployed": (neighbour_deployed(0), "stack-deploy"),
    "stack deployed not long enough ago": (neighbour_deployed(10 * MINUTE - 1), "stack-deploy"),
    "an operator, now": (operated(0), "operator"),
    "an operator, not long enough ago": (operated(5 * MINUTE - 1), "operator"),
}
FREE: dict[str, Callable[[Scene], None]] = {
    "update completed": put(update_state="completed"),
    "rolled back": put(update_state="rollback_completed"),
    "deployed long enough ago": put(updated_at_ms=AT - 10 * MINUTE),
    "stack deployed long enough ago": neighbour_deployed(10 * MINUTE),
    "in a stack": put(labels=STACK),
    "an operator, long enough ago": operated(5 * MINUTE),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_holds_its_service_and_no_other(name: str) -> None:
    prepare, guard = OBSTACLES[name]
    world = two(prepare)
    assert [d.service for d in world.tick()] == ["sentinel"]
    assert world.held() == {"cpu-high": guard}


@pytest.mark.parametrize("name", FREE)
def test_what_is_no_obstacle_holds_nothing(name: str) -> None:
    world = two(FREE[name])
    assert [d.service for d in world.tick()] == ["sentinel", "web"]


@pytest.mark.parametrize(("age_ms", "acts"), [(MINUTE - 1, True), (MINUTE, False)])
def test_a_stale_inventory_holds_everything(age_ms: int, *, acts: bool) -> None:
    world = two(lambda _: None)
    world.inventory_age_ms = age_ms
    assert bool(world.tick()) is acts
    expected = {} if acts else {"cpu-high": "stale-inventory"}
    assert world.held("web") == world.held("sentinel") == expected


@pytest.mark.parametrize(
    ("labels", "mode", "reach"),
    [
        (ARMED, Mode.LIVE, Mode.LIVE),
        (ARMED, Mode.DRY_RUN, Mode.DRY_RUN),
        ({LABEL_ENABLE: "true", LABEL_ALLOW: " scale_up , restart"}, Mode.LIVE, Mode.LIVE),
        ({LABEL_ENABLE: "true", LABEL_ALLOW: "scale_down"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "true", LABEL_ALLOW: ""}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "true"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "True", LABEL_ALLOW: "scale_up"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ENABLE: "false", LABEL_ALLOW: "scale_up"}, Mode.LIVE, Mode.DRY_RUN),
        ({LABEL_ALLOW: "scale_up"}, Mode.LIVE, Mode.DRY_RUN),
        ({}, Mode.LIVE, Mode.DRY_RUN),
    ],
)
def test_only_both_labels_arm_a_service(labels: dict[str, str], mode: Mode, reach: Mode) -> None:
    world = scene(scale_up(mode=mode))
    world.put(service(labels=labels))
    assert [d.max_mode for d in world.tick()] == [reach]


def test_an_escalation_needs_no_label() -> None:
    world = scene(escalate())
    world.put(service(labels={}))
    assert [d.max_mode for d in world.tick()] == [Mode.LIVE]


@pytest.mark.parametrize("name", [n for n, (_, g) in OBSTACLES.items() if g not in ("own", "off")])
def test_no_obstacle_but_own_and_off_delays_an_escalation(name: str) -> None:
    world = two(OBSTACLES[name][0])
    world.rules = dataclasses.replace(world.rules, rules=(escalate(),))
    world.inventory_age_ms = HOUR
    assert {d.service for d in world.tick()} >= {"web", "sentinel"}


@pytest.mark.parametrize("name", [n for n, (_, g) in OBSTACLES.items() if g in ("own", "off")])
def test_nobody_is_paged_for_what_is_off_or_our_own(name: str) -> None:
    world = two(OBSTACLES[name][0])
    world.rules = dataclasses.replace(world.rules, rules=(escalate(),))
    assert [d.service for d in world.tick()] == ["sentinel"]
    assert world.held() == {"page": OBSTACLES[name][1]}


def test_the_reason_is_remembered_until_the_rule_is_free() -> None:
    world = two(put(update_state="updating"))
    world.tick()
    assert world.state.services["web"].rules["cpu-high"].held == "rollout"
    world.alter(update_state="completed")
    world.tick()
    assert world.state.services["web"].rules["cpu-high"].held == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a part of autoheal", "it is a part of autoheal itself"),
        ("switched off", "0 replicas means switched off"),
        ("global", "a global service is never scaled"),
        ("updating", "its update is updating"),
        ("just deployed", "deployed 0s ago"),
        ("deployed not long enough ago", "deployed 9m59s ago"),
        ("deployed by a clock ahead", "deployed 0s ago"),
        ("stack just deployed", "its stack shop was deployed 0s ago"),
        ("an operator, now", "an operator changed it 0s ago"),
    ],
)
def test_a_guard_says_why(name: str, words: str) -> None:
    world = two(OBSTACLES[name][0])
    world.tick()
    assert world.last is not None
    told = [held.words for held in world.last.held if held.service == "web"]
    assert told == [words]


def test_the_first_guard_that_objects_is_the_reason() -> None:
    world = two(put(update_state="updating", updated_at_ms=AT, replicas=0))
    world.tick()
    assert world.held() == {"cpu-high": "off"}
    assert [guard.name for guard in GUARDS][:3] == ["own", "off", "mode"]


@pytest.mark.parametrize("rule", [scale_up(), scale_down(when=scale_up().when)])
def test_zero_replicas_is_hands_off_for_either_direction(rule: object) -> None:
    world = two(put(replicas=0))
    world.rules = dataclasses.replace(world.rules, rules=(rule,))  # type: ignore[arg-type]  # any field by name
    assert [d.service for d in world.tick()] == ["sentinel"]
