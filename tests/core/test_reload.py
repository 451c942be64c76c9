"""A change of the rule set is felt by the rules that changed, and by no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Restart
from autoheal.core.rule import Limit, Rule
from autoheal.core.state import State
from autoheal.model import OutcomeKind
from builders import (
    HOUR,
    MINUTE,
    STEP,
    Scene,
    escalate,
    metric_condition,
    rule,
    rule_set,
    scale_down,
    scale_up,
    scene,
)

HIGH = metric_condition(threshold=80.0)
MIDDLE = metric_condition(threshold=50.0)


def restart(*, for_ms: int = 0, cooldown_ms: int = 0, limit: Limit | None = None) -> Rule:
    made = rule("stuck", Restart(), MIDDLE, for_ms=for_ms, cooldown_ms=cooldown_ms, limit=limit)
    return dataclasses.replace(made, clears_within_ms=MINUTE)


OTHER = scale_down("other", when=metric_condition(threshold=95.0))


# what stays


def test_a_pending_rule_goes_on_where_it_was() -> None:
    world = scene(scale_up(for_ms=MINUTE))
    assert world.wait(MINUTE) == ()
    world.rules = rule_set(*world.rules.rules, OTHER)
    assert [made.rule for made in world.tick()] == ["cpu-high"]


def test_an_alarm_rings_on_and_is_told_once() -> None:
    world = scene(dataclasses.replace(escalate(), keep_firing_ms=MINUTE))
    world.tick()
    world.figures["web"] = 10.0
    world.tick()
    before = world.state.services["web"].escalated
    world.rules = rule_set(*world.rules.rules, OTHER)
    assert world.tick() == ()
    assert world.state.services["web"].escalated == before
    assert [made.target for made in world.wait(MINUTE)] == [0], "it was quiet since before"


@pytest.mark.parametrize(("wait_ms", "guard"), [(STEP, "cooldown"), (HOUR - STEP, "cooldown")])
def test_a_cooldown_goes_on(wait_ms: int, guard: str) -> None:
    world = scene(scale_up(cooldown_ms=HOUR))
    (made,) = world.tick()
    world.report(made, OutcomeKind.WOULD_APPLY)
    world.limits = dataclasses.replace(world.limits, handover_ms=2 * HOUR)
    world.rules = rule_set(*world.rules.rules, OTHER)
    world.tick(wait_ms)
    assert world.held() == {"cpu-high": guard}
    assert len(world.tick(STEP)) == (0 if wait_ms == STEP else 1)


def test_what_counts_against_a_limit_goes_on() -> None:
    world = scene(restart(limit=Limit(1, HOUR)))
    world.running["web"] = 1
    (made,) = world.tick()
    world.report(made, OutcomeKind.WOULD_APPLY)
    world.rules = rule_set(*world.rules.rules, OTHER)
    (told,) = world.tick()
    assert "the limit of the rule is spent" in told.reason


@pytest.mark.parametrize("changed", [restart(), restart(for_ms=STEP)])
def test_a_quarantine_is_ended_by_a_person_and_by_no_other_rule_set(changed: Rule) -> None:
    world = scene(restart())
    world.running["web"] = 1
    (made,) = world.tick()
    world.apply(made, running=2)
    world.wait(10 * MINUTE)
    since = world.state.services["web"].quarantined
    assert set(since) == {"stuck"}
    world.rules = rule_set(changed, OTHER)
    world.wait(MINUTE)
    assert world.state.services["web"].quarantined == since


# what begins anew


def test_a_rule_that_changed_is_pending_from_its_first_tick_on() -> None:
    world = scene(scale_up(for_ms=MINUTE))
    assert world.wait(MINUTE) == ()
    world.rules = rule_set(scale_up(for_ms=MINUTE, maximum=9))
    assert world.wait(MINUTE) == ()
    assert [made.target for made in world.tick()] == [3]


def test_a_rule_that_came_back_is_pending_from_its_first_tick_on() -> None:
    world = scene(scale_up(for_ms=MINUTE))
    rules = world.rules
    assert world.wait(MINUTE) == ()
    world.rules = rule_set(OTHER)
    world.tick()
    world.rules = rules
    assert world.wait(MINUTE) == ()
    assert len(world.tick()) == 1


def test_an_alarm_outlasts_a_new_threshold_until_its_condition_is_false() -> None:
    world = scene(escalate(when=HIGH))
    world.tick()
    world.rules = rule_set(escalate(when=MIDDLE))
    assert world.tick() == ()
    world.figures["web"] = 60.0
    assert world.wait(MINUTE) == ()
    world.figures["web"] = 10.0
    assert [made.target for made in world.tick()] == [0]


# whatever the others do

names = st.sampled_from("abcdef")
steps = st.integers(0, 3).map(lambda count: count * STEP)
makers = st.sampled_from(
    [
        lambda name, for_ms: escalate(name, when=HIGH, for_ms=for_ms),
        lambda name, for_ms: scale_up(name, when=HIGH, for_ms=for_ms),
        lambda name, for_ms: scale_up(name, when=MIDDLE, for_ms=for_ms, maximum=2),
        lambda name, for_ms: rule(name, Restart(), MIDDLE, for_ms=for_ms, clears_within_ms=STEP),
    ]
)
drawn_rules = st.dictionaries(names, st.tuples(makers, steps), max_size=5).map(
    lambda drawn: [make(name, for_ms) for name, (make, for_ms) in sorted(drawn.items())]
)
figures = st.sampled_from([10.0, 60.0, 90.0, None])


def remembered(state: State, unchanged: Sequence[Rule]) -> dict[str, tuple[object, ...]]:
    """What the state holds of these rules on the service, but for who held them back."""
    known = state.services["web"]
    return {
        each.name: (
            dataclasses.replace(known.rules[each.name], held="")
            if each.name in known.rules
            else None,
            each.name in known.escalated,
            known.acted.get(each.name),
            known.quarantined.get(each.name),
            known.failures.get(each.name),
        )
        for each in unchanged
    }


@given(
    before=drawn_rules,
    after=drawn_rules,
    past=st.lists(figures, max_size=12),
    kind=st.sampled_from([*OutcomeKind]),
    now=figures,
)
def test_a_rule_that_did_not_change_stands_where_it_would_have_stood(
    before: list[Rule],
    after: list[Rule],
    past: list[float | None],
    kind: OutcomeKind,
    now: float | None,
) -> None:
    world = Scene(rules=rule_set(*before), figures={"web": 10.0})
    world.put(*scene().services.values())
    for figure in past:
        world.figures["web"] = figure
        for made in world.tick():
            if made.target != 1 or made.start != 0:
                world.report(made, kind)
    world.figures["web"] = now
    there = dataclasses.replace(world, rules=rule_set(*after))
    world.tick()
    there.tick()
    unchanged = [each for each in before if each in after]
    assert remembered(there.state, unchanged) == remembered(world.state, unchanged)
