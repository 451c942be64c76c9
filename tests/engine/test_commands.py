"""`autoheal reset`: what it tells the engine, and what it says to the person."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

import builders
from autoheal.actions import RaiseMemory, Restart
from autoheal.commands import Answer, answer_reset
from autoheal.core.decision import changes
from autoheal.core.rule import Limit, Rule
from autoheal.core.state import ServiceState, State
from autoheal.errors import UserError
from autoheal.model import COMMAND_RESET, Command
from autoheal.units import Size

NOW = builders.NOW
HOUR = builders.HOUR


def rule(name: str, then: Any, limit: Limit | None) -> Rule:  # noqa: ANN401  # any action
    return dataclasses.replace(builders.rule(name, then, builders.event_condition()), limit=limit)


OOM = rule("oom", RaiseMemory(max=Size(2**31)), Limit(3, 24 * HOUR))
STUCK = rule("stuck", Restart(), None)
RULES = builders.rule_set(OOM, STUCK)


def state_of(
    quarantined: Mapping[str, int] | None = None,
    acted: Mapping[str, tuple[int, ...]] | None = None,
    forgiven: Mapping[str, int] | None = None,
) -> State:
    """A service `shop_web` whose id is `web`."""
    seen = changes.look(builders.service())
    known = ServiceState(
        "shop_web",
        seen,
        0,
        quarantined=quarantined or {},
        acted=acted or {},
        forgiven=forgiven or {},
    )
    return State(rule_set=RULES.hash, services={"web": known})


def asked(state: State, rule_name: str = "", service: str = "shop_web") -> Answer:
    return answer_reset(state, RULES, service, rule_name, by="ann@host", now_ms=NOW)


def test_attempts_that_came_to_nothing_are_taken_back() -> None:
    state = state_of()
    known = dataclasses.replace(state.services["web"], failures={"stuck": 3})
    answer = asked(dataclasses.replace(state, services={"web": known}), "stuck")
    assert answer.command == Command(COMMAND_RESET, "web", "stuck", "ann@host")
    assert answer.words == AGAIN + "stuck (3 attempts in a row came to nothing)"


AGAIN = "from the engine's next tick on autoheal may act on shop_web again by "


@pytest.mark.parametrize(
    ("quarantined", "acted", "rule_name", "words"),
    [
        ({"stuck": NOW - 2 * HOUR}, {}, "stuck", "stuck (quarantined for 2h)"),
        ({"stuck": NOW - 2 * HOUR}, {}, "", "stuck (quarantined for 2h)"),
        ({"gone": NOW - 1500}, {}, "gone", "gone (quarantined for 1s)"),
        ({}, {"oom": (NOW - HOUR,)}, "oom", "oom (1 of 3 in 1d spent)"),
        (
            {},
            {"oom": (NOW - 24 * HOUR, NOW - 24 * HOUR + 1, NOW)},
            "oom",
            "oom (2 of 3 in 1d spent)",
        ),
        ({"oom": NOW}, {"oom": (NOW,)}, "oom", "oom (quarantined for 0s)"),
        (
            {"stuck": NOW - HOUR},
            {"oom": (NOW,)},
            "",
            "oom (1 of 3 in 1d spent), stuck (quarantined for 1h)",
        ),
    ],
)
def test_what_is_held_against_rules_is_taken_back(
    quarantined: dict[str, int], acted: dict[str, tuple[int, ...]], rule_name: str, words: str
) -> None:
    answer = asked(state_of(quarantined, acted), rule_name)
    assert answer.command == Command("reset", "web", rule_name, "ann@host")
    assert answer.words == AGAIN + words


@pytest.mark.parametrize(
    ("state", "rule_name", "against"),
    [
        (state_of(), "", "any rule"),
        (state_of({"stuck": NOW}), "oom", "rule oom"),
        (state_of(acted={"oom": (NOW - 24 * HOUR,)}), "oom", "rule oom"),
        (state_of(acted={"stuck": (NOW,)}), "", "any rule"),
        (state_of(acted={"oom": (NOW,)}, forgiven={"oom": NOW}), "", "any rule"),
    ],
    ids=["nothing at all", "another rule", "long ago", "a rule without a limit", "forgiven"],
)
def test_where_nothing_is_to_be_reset_nothing_is_told_the_engine(
    state: State, rule_name: str, against: str
) -> None:
    words = f"nothing to reset: on shop_web nothing is held against {against}"
    assert asked(state, rule_name) == Answer(None, words)


@pytest.mark.parametrize(
    ("service", "rule_name", "line"),
    [
        ("shop_wbe", "", "there is no service shop_wbe (did you mean shop_web?)"),
        ("web", "", "there is no service web"),
        ("db", "stuck", "there is no service db"),
        ("shop_web", "stuk", "there is no rule stuk (did you mean stuck?)"),
        ("shop_web", "*", "there is no rule *"),
    ],
)
def test_a_name_that_nobody_knows(service: str, rule_name: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        asked(state_of({"stuck": NOW}), rule_name, service)
    assert str(caught.value) == line
