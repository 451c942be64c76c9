"""inactive, pending, firing: by FALSE, NO_DATA, TRUE, the time, and the rule's own version."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.core.decision.alerts import step
from autoheal.core.state import RuleState
from autoheal.model import Verdict
from builders import MINUTE, NOW, STEP, escalate, scale_up, scene

RULE = scale_up(for_ms=MINUTE)
PENDING = RuleState(RULE.hash, NOW)
FIRING = RuleState(RULE.hash, NOW, firing=True)


@pytest.mark.parametrize(
    ("known", "verdict", "after_ms", "expected"),
    [
        (None, Verdict.FALSE, 0, None),
        (None, Verdict.NO_DATA, 0, None),
        (None, Verdict.TRUE, 0, PENDING),
        (PENDING, Verdict.FALSE, STEP, None),
        (PENDING, Verdict.NO_DATA, STEP, None),
        (PENDING, Verdict.TRUE, MINUTE - 1, PENDING),
        (PENDING, Verdict.TRUE, MINUTE, FIRING),
        (PENDING, Verdict.TRUE, MINUTE + 1, FIRING),
        (FIRING, Verdict.FALSE, STEP, None),
        (FIRING, Verdict.NO_DATA, STEP, None),
        (FIRING, Verdict.TRUE, STEP, FIRING),
    ],
)
def test_the_table(
    known: RuleState | None, verdict: Verdict, after_ms: int, expected: RuleState | None
) -> None:
    assert step(known, RULE, verdict, NOW + after_ms) == expected


def test_without_a_wait_a_rule_fires_at_once() -> None:
    state = step(None, scale_up(), Verdict.TRUE, NOW)
    assert state is not None
    assert state.firing


@pytest.mark.parametrize("verdict", [Verdict.TRUE, Verdict.NO_DATA])
def test_a_changed_rule_starts_over(verdict: Verdict) -> None:
    other = RuleState("another version", NOW - MINUTE, firing=True)
    after = step(other, RULE, verdict, NOW)
    assert after == (PENDING if verdict is Verdict.TRUE else None)


def test_what_held_a_rule_back_is_forgotten_at_its_next_step() -> None:
    held = RuleState(RULE.hash, NOW, firing=True, held="deploy")
    assert step(held, RULE, Verdict.TRUE, NOW) == FIRING


@pytest.mark.parametrize(
    ("gap_ms", "fires"),
    [(STEP, True), (2 * STEP, True), (4 * STEP, True), (4 * STEP + 1, False), (MINUTE, False)],
)
def test_up_to_three_missed_ticks_keep_what_is_pending(gap_ms: int, *, fires: bool) -> None:
    world = scene(escalate(for_ms=MINUTE))
    world.tick()
    assert world.wait(MINUTE - STEP) == ()
    assert bool(world.tick(gap_ms)) is fires


def test_a_rule_fires_once_it_has_been_true_for_its_time() -> None:
    world = scene(escalate(for_ms=MINUTE))
    world.tick()
    assert world.wait(MINUTE - STEP) == ()
    assert len(world.tick()) == 1


@pytest.mark.parametrize("figure", [10.0, None])
def test_one_tick_that_is_not_true_starts_a_pending_rule_over(figure: float | None) -> None:
    world = scene(escalate(for_ms=MINUTE))
    world.wait(MINUTE)
    world.figures["web"] = figure
    world.tick()
    world.figures["web"] = 90.0
    assert world.wait(MINUTE) == ()
    assert len(world.tick()) == 1


@pytest.mark.parametrize(("gap_ms", "fires"), [(MINUTE, True), (MINUTE + 1, False)])
def test_a_change_of_leader_keeps_what_is_pending_too(gap_ms: int, *, fires: bool) -> None:
    world = scene(escalate(for_ms=MINUTE))
    world.limits = dataclasses.replace(world.limits, handover_ms=MINUTE)
    world.tick()
    assert bool(world.tick(gap_ms)) is fires
