"""An alert is raised once and resolved once, and nothing but its end ends it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.core.rule import Combinator, Combined, Comparison
from autoheal.core.state import Alarm
from autoheal.model import ActionKind, Decision, Evidence, Mode
from autoheal.records import identified
from builders import (
    HOUR,
    MINUTE,
    STEP,
    Scene,
    escalate,
    event_condition,
    metric_condition,
    rule_set,
    scale_down,
    scale_up,
    scene,
)

CHANGED = "resolved: the rule was changed"


def raised() -> tuple[Scene, Decision]:
    world = scene(escalate())
    (decided,) = world.tick()
    return world, decided


def test_it_is_raised_once() -> None:
    world, decided = raised()
    since_ms = world.now_ms
    assert (decided.action, decided.start, decided.target) == (ActionKind.ESCALATE, 0, 1)
    assert (decided.severity, decided.max_mode) == ("critical", Mode.LIVE)
    assert world.wait(10 * MINUTE) == ()
    assert world.state.services["web"].escalated == {
        "page": Alarm("web|live", "critical", Mode.LIVE, since_ms=since_ms)
    }


def test_it_is_resolved_once_when_its_condition_is_false() -> None:
    world, _ = raised()
    world.figures["web"] = 10.0
    (resolved,) = world.tick()
    assert resolved == identified(resolved)
    assert (resolved.start, resolved.target, resolved.rule) == (1, 0, "page")
    assert resolved.reason == "resolved: mean cpu_percent over 2m is 10, no longer above 80"
    assert resolved.evidence == (Evidence("mean cpu_percent over 2m", 10.0, "above 80"),)
    assert (resolved.severity, resolved.max_mode) == ("critical", Mode.LIVE)
    assert world.wait(10 * MINUTE) == ()
    world.figures["web"] = 90.0
    assert [d.target for d in world.tick()] == [1]


def test_missing_data_resolves_nothing() -> None:
    world, _ = raised()
    since_ms = world.now_ms
    world.figures["web"] = None
    assert world.wait(HOUR) == ()
    assert world.state.services["web"].escalated == {
        "page": Alarm("web|live", "critical", Mode.LIVE, since_ms=since_ms)
    }
    world.figures["web"] = 90.0
    assert world.wait(MINUTE) == ()


def test_a_long_gap_neither_resolves_nor_raises_again() -> None:
    world = scene(escalate(for_ms=MINUTE))
    assert len(world.wait(2 * MINUTE)) == 1
    assert world.tick(HOUR) == ()
    assert world.wait(2 * MINUTE) == ()


def test_it_is_resolved_when_its_rule_is_removed() -> None:
    world, _ = raised()
    world.rules = rule_set(scale_up())
    resolved, acted = world.tick()
    assert (resolved.rule, resolved.target) == ("page", 0)
    assert resolved.reason == "resolved: the rule was removed"
    assert (resolved.severity, resolved.rule_hash, resolved.evidence) == ("critical", "", ())
    assert acted.rule == "cpu-high"


def test_another_severity_ends_the_alert_as_it_was_raised_and_begins_a_new_one() -> None:
    world, _ = raised()
    world.rules = rule_set(escalate(severity="info"))
    ended, begun = world.tick()
    assert (ended.target, ended.severity, ended.reason) == (0, "critical", CHANGED)
    assert (begun.target, begun.severity) == (1, "info")
    assert world.tick() == ()


def test_a_rule_taken_off_trial_raises_its_alert_anew() -> None:
    world = scene(escalate(mode=Mode.DRY_RUN))
    assert [(d.target, d.max_mode) for d in world.tick()] == [(1, Mode.DRY_RUN)]
    world.rules = rule_set(escalate())
    assert [(d.target, d.max_mode) for d in world.tick()] == [(0, Mode.DRY_RUN), (1, Mode.LIVE)]


def test_it_is_resolved_when_its_rule_no_longer_matches() -> None:
    world, _ = raised()
    world.rules = rule_set(escalate(match="api-*"))
    assert [d.reason for d in world.tick()] == ["resolved: the rule was removed"]


def test_it_is_resolved_when_its_rule_now_does_something_else() -> None:
    world, _ = raised()
    world.rules = rule_set(scale_up("page"))
    decided = [(d.action, d.target) for d in world.tick()]
    assert decided == [(ActionKind.ESCALATE, 0), (ActionKind.SCALE_UP, 3)]


def test_it_is_resolved_when_the_service_is_removed() -> None:
    world, _ = raised()
    del world.services["web"]
    (resolved,) = world.tick()
    assert (resolved.service, resolved.service_name, resolved.target) == ("web", "web", 0)
    assert resolved.reason == "resolved: the service was removed"
    assert world.state.services == {}
    assert world.tick() == ()


def test_a_removed_service_without_an_alert_is_just_forgotten() -> None:
    world = scene(scale_up(), figures={"web": 10.0})
    world.tick()
    del world.services["web"]
    assert world.tick() == ()
    assert world.state.services == {}


def test_it_is_resolved_when_the_service_is_switched_off() -> None:
    world, _ = raised()
    world.alter(replicas=0)
    (resolved,) = world.tick()
    assert resolved.reason == "resolved: the service was switched off"
    assert world.wait(MINUTE) == ()
    world.alter(replicas=1)
    assert [d.target for d in world.tick()] == [1]


def test_a_rule_on_trial_escalates_and_resolves_in_dry_run_only() -> None:
    world = scene(escalate(mode=Mode.DRY_RUN))
    decided = world.tick()
    world.figures["web"] = 10.0
    decided += world.tick()
    assert [(d.target, d.max_mode) for d in decided] == [(1, Mode.DRY_RUN), (0, Mode.DRY_RUN)]


def test_escalations_spend_no_budget_and_wait_for_no_action() -> None:
    world = scene(
        escalate("page-b", when=event_condition()),
        scale_up(),
        figures={"a": 90.0, "b": 10.0, "c": 10.0},
    )
    (acting,) = world.tick()
    assert acting.service == "a"
    for name in "abc":
        world.happen("oom_killed", name)
    assert [d.service for d in world.tick()] == ["a", "b", "c"]


def test_each_service_gets_one_page_by_its_worst_rule() -> None:
    world = scene(escalate("y"), escalate("x", severity="warning"), figures={"a": 90.0, "b": 90.0})
    raised_alerts = [(d.service, d.rule, d.severity) for d in world.tick()]
    assert raised_alerts == [("a", "y", "critical"), ("b", "y", "critical")]
    world.figures["a"] = 10.0
    assert [(d.service, d.rule, d.target) for d in world.tick()] == [("a", "y", 0)]


def test_one_whose_figures_vanish_with_a_change_of_the_service_is_over() -> None:
    world, _ = raised()
    world.figures["web"] = None
    assert world.wait(MINUTE) == ()
    world.running["web"] = 1
    world.alter(content="content-2")
    world.running["web"] = 1
    assert world.wait(MINUTE) == (), "it is not whole"
    world.running["web"] = 2
    world.inventory_age_ms = HOUR
    assert world.tick() == (), "nobody knows"
    world.inventory_age_ms = 0
    (resolved,) = world.tick()
    assert resolved.reason == (
        "resolved: the service was changed, and its figures are no longer there"
    )


def test_one_that_counts_events_lasts_until_the_service_is_whole() -> None:
    world = scene(escalate(when=event_condition(over_ms=10 * MINUTE)))
    world.happen("oom_killed")
    world.running["web"] = 1
    assert [d.target for d in world.tick()] == [1]
    assert world.wait(HOUR) == ()
    world.running["web"] = 2
    assert [d.target for d in world.tick()] == [0]


def test_one_event_in_a_while_keeps_no_page_of_a_service_that_is_whole() -> None:
    missing = metric_condition("tasks_missing", MINUTE, Comparison.AT_LEAST, 1.0)
    once = event_condition("task_failed", 15 * MINUTE)
    world = scene(escalate(when=Combined(Combinator.ALL, (once, missing))), figures={"web": 1.0})
    world.happen("task_failed")
    assert [d.target for d in world.tick()] == [1]
    world.figures["web"] = 0.0
    assert [d.target for d in world.tick()] == [0]


def test_a_moment_of_calm_between_events_is_no_end() -> None:
    calm = metric_condition("tasks_stable", MINUTE, Comparison.BELOW, 100.0)
    failing = event_condition("task_failed", 10 * MINUTE, threshold=2.0)
    world = scene(escalate(when=Combined(Combinator.ALL, (failing, calm))), figures={"web": 0.0})
    for _ in range(3):
        world.happen("task_failed")
    assert [d.target for d in world.tick()] == [1]
    world.figures["web"] = 100.0
    assert world.wait(9 * MINUTE) == (), "three in ten minutes are still counted"
    (resolved,) = world.wait(2 * MINUTE)
    assert resolved.reason == "resolved: task_failed events in 10m is 0, no longer at least 2"


def test_an_event_alert_ends_when_its_events_are_out_of_sight() -> None:
    world = scene(escalate(when=event_condition(over_ms=10 * MINUTE)))
    world.happen("oom_killed")
    assert [d.target for d in world.tick()] == [1]
    (resolved,) = world.wait(10 * MINUTE)
    expected = "resolved: oom_killed events in 10m is 0, no longer at least 1"
    assert (resolved.target, resolved.reason) == (0, expected)


# alarms that keep firing

KEPT_MS = 10 * MINUTE


def kept() -> Scene:
    """A page that rings, of a rule that keeps firing for ten minutes."""
    world = scene(dataclasses.replace(escalate(), keep_firing_ms=KEPT_MS))
    assert [d.target for d in world.tick()] == [1]
    return world


def quiet_ms(world: Scene) -> int | None:
    return world.state.services["web"].escalated["page"].quiet_ms


@pytest.mark.parametrize(
    ("after_ms", "ends"), [(KEPT_MS - 1, False), (KEPT_MS, True), (KEPT_MS + 1, True)]
)
def test_one_that_keeps_firing_ends_once_it_has_been_false_for_so_long(
    after_ms: int, *, ends: bool
) -> None:
    world = kept()
    world.limits = dataclasses.replace(world.limits, handover_ms=HOUR)
    world.figures["web"] = 10.0
    assert world.tick() == ()
    assert quiet_ms(world) == world.now_ms
    assert [d.target for d in world.tick(after_ms)] == ([0] if ends else [])


def test_it_ends_with_the_words_and_figures_of_then() -> None:
    world = kept()
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    world.figures["web"] = 7.0
    (resolved,) = world.tick()
    assert resolved.reason == "resolved: mean cpu_percent over 2m is 7, no longer above 80"
    assert resolved.evidence == (Evidence("mean cpu_percent over 2m", 7.0, "above 80"),)


def test_one_look_at_which_it_holds_starts_the_time_again_and_tells_nobody_twice() -> None:
    world = kept()
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    world.figures["web"] = 90.0
    assert world.tick() == ()
    assert quiet_ms(world) is None
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    assert [d.target for d in world.tick()] == [0]


def test_one_look_at_which_there_is_no_data_starts_the_time_again() -> None:
    """What was TRUE in between, and is not known now, would have started it again."""
    world = kept()
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    world.figures["web"] = None
    assert world.tick() == ()
    assert quiet_ms(world) is None
    assert world.wait(HOUR) == ()
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    assert [d.target for d in world.tick()] == [0]


@pytest.mark.parametrize(("gap_ms", "goes_on"), [(4 * STEP, True), (4 * STEP + 1, False)])
def test_a_gap_in_which_nobody_looked_starts_the_time_again(gap_ms: int, *, goes_on: bool) -> None:
    world = kept()
    world.figures["web"] = 10.0
    world.tick()
    since_ms = world.now_ms
    assert world.tick(gap_ms) == ()
    assert quiet_ms(world) == (since_ms if goes_on else world.now_ms)


def test_a_page_stands_while_any_alarm_of_it_rings() -> None:
    brief = escalate("brief", severity="warning")
    world = kept()
    world.rules = rule_set(*world.rules.rules, brief)
    world.tick()
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    assert set(world.state.services["web"].escalated) == {"page"}
    assert [d.target for d in world.tick()] == [0]


def test_while_one_keeps_firing_weaker_rules_are_held_back() -> None:
    cold = metric_condition("cpu_percent", 15 * MINUTE, Comparison.BELOW, 20.0)
    world = kept()
    world.rules = rule_set(*world.rules.rules, scale_down(when=cold))
    world.figures["web"] = 10.0
    assert world.wait(KEPT_MS) == ()
    assert world.held() == {"cpu-low": "arbitration"}
    assert [d.rule for d in world.tick()] == ["page", "cpu-low"]


def test_one_that_counts_events_is_not_quiet_before_the_service_is_whole() -> None:
    page = dataclasses.replace(escalate(when=event_condition(over_ms=MINUTE)), keep_firing_ms=HOUR)
    world = scene(page)
    world.happen("oom_killed")
    world.running["web"] = 1
    assert [d.target for d in world.tick()] == [1]
    world.wait(10 * MINUTE)
    assert quiet_ms(world) is None
    world.running["web"] = 2
    world.tick()
    assert quiet_ms(world) == world.now_ms


@pytest.mark.parametrize("why", ["removed", "off", "changed"])
def test_what_ends_an_alarm_for_good_does_not_wait(why: str) -> None:
    world = kept()
    world.figures["web"] = 10.0
    world.tick()
    match why:
        case "removed":
            world.rules = rule_set(scale_up())
        case "off":
            world.alter(replicas=0)
        case _:
            other = dataclasses.replace(escalate(severity="info"), keep_firing_ms=KEPT_MS)
            world.rules = rule_set(other)
    assert [d.target for d in world.tick()] == [0]


verdicts = st.lists(st.sampled_from([10.0, 90.0, None]), min_size=1, max_size=40)


@given(figures=verdicts, kept_steps=st.integers(0, 6), lost=st.sets(st.integers(0, 39)))
def test_lost_samples_never_end_an_alarm_sooner(
    figures: list[float | None], kept_steps: int, lost: set[int]
) -> None:
    rule = dataclasses.replace(escalate(), keep_firing_ms=kept_steps * STEP)

    def end_of(shown: list[float | None]) -> int:
        world = scene(rule)
        world.tick()
        for place, figure in enumerate(shown):
            world.figures["web"] = figure
            if any(made.target == 0 for made in world.tick()):
                return place
        return len(shown)

    fewer = [None if place in lost else figure for place, figure in enumerate(figures)]
    assert end_of(fewer) >= end_of(figures)
