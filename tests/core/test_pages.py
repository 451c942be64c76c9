"""Who is told of what: one page for what has one cause, and an end to each."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.actions import Escalate
from autoheal.actions.track import Target, Track
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import Combinator, Combined, Rule
from autoheal.core.view.fold import SourceState, Tracked
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    LABEL_ROLE,
    LABEL_STACK,
    ActionKind,
    Decision,
    Mode,
    OutcomeKind,
)
from builders import (
    ARMED,
    BRISK,
    HOUR,
    MINUTE,
    STEP,
    Scene,
    escalate,
    metric_condition,
    node,
    rule,
    rule_set,
    scale_up,
    scene,
    service,
    source_condition,
)

SICK = metric_condition("tasks_missing", MINUTE)
NODES_DOWN = metric_condition("nodes_down", MINUTE)


def shop(*names: str) -> Scene:
    """Services of a stack, none of them in trouble."""
    world = scene(escalate("sick"), figures=dict.fromkeys(names, 10.0))
    world.put(*(service(name, labels={LABEL_STACK: "shop"}) for name in names))
    world.tick()
    return world


def begun(decided: tuple[Decision, ...]) -> list[tuple[str, str]]:
    return [(d.service, d.severity) for d in decided if d.target == 1]


def ended(decided: tuple[Decision, ...]) -> list[str]:
    return [d.service for d in decided if d.target == 0]


# the incident of a service


def test_a_less_severe_rule_adds_no_page_to_an_incident() -> None:
    low = metric_condition(threshold=50.0)
    world = scene(escalate("a"), escalate("b", severity="warning", when=low))
    assert begun(world.tick()) == [("web", "critical")]
    world.figures_for[low] = {"web": 60.0}
    world.figures["web"] = 60.0
    assert world.tick() == (), "b is still TRUE: the page goes on"
    world.figures_for[low] = {"web": 10.0}
    assert ended(world.tick()) == ["web"]


def test_a_more_severe_rule_makes_a_new_page_of_the_old_one() -> None:
    high = metric_condition(threshold=95.0)
    world = scene(escalate("a", severity="warning"), escalate("b", when=high))
    world.figures_for[high] = {"web": 90.0}
    assert begun(world.tick()) == [("web", "warning")]
    world.figures_for[high] = {"web": 99.0}
    end, start = world.tick()
    assert (end.target, end.severity, end.rule) == (0, "warning", "a")
    assert end.reason == "resolved: it has become critical"
    assert (start.target, start.severity, start.rule) == (1, "critical", "b")


def test_what_swarm_says_stands_in_the_page() -> None:
    world = scene(escalate())
    world.complaints["web"] = "No such image: web:2"
    world.running["web"] = 1
    (told,) = world.tick()
    assert told.reason.endswith('; Swarm says: "No such image: web:2"')


# the group wait


def waiting(*rules: Rule) -> Scene:
    world = scene(*rules)
    world.limits = dataclasses.replace(BRISK, group_wait_ms=30_000)
    return world


def test_people_are_told_only_after_the_group_wait() -> None:
    world = waiting(escalate())
    world.tick()
    assert world.held() == {"page": "group-wait"}
    assert world.wait(30_000 - STEP) == ()
    assert begun(world.tick()) == [("web", "critical")]


def test_the_group_wait_runs_beside_the_rules_own() -> None:
    world = waiting(escalate(for_ms=MINUTE))
    world.tick()
    assert world.wait(MINUTE - STEP) == ()
    assert begun(world.tick()) == [("web", "critical")]


def test_a_rule_that_waits_blocks_weaker_ones_all_the_while() -> None:
    world = waiting(escalate(), scale_up())
    world.tick()
    assert world.held() == {"page": "group-wait", "cpu-high": "arbitration"}


def test_load_is_answered_without_a_group_wait() -> None:
    world = waiting(scale_up())
    assert [d.action for d in world.tick()] == [ActionKind.SCALE_UP]


# a stack


def test_several_services_of_a_stack_get_one_page() -> None:
    world = shop("a", "b", "c")
    world.figures.update(a=99.0, b=99.0)
    (told,) = world.tick()
    assert (told.service, told.service_name, told.target) == ("stack:shop", "stack shop", 1)
    assert told.reason.startswith("a, b of stack shop: a: mean cpu_percent over 2m is 99")
    world.figures.update(c=99.0)
    assert world.tick() == (), "the third joins"
    world.figures.update(a=10.0, b=10.0)
    assert world.tick() == (), "one is still in trouble"
    world.figures.update(c=10.0)
    assert ended(world.tick()) == ["stack:shop"]


def test_one_service_of_a_stack_is_told_as_itself() -> None:
    world = shop("a", "b")
    world.figures.update(a=99.0)
    assert begun(world.tick()) == [("a", "critical")]


def test_a_service_that_is_about_to_be_told_of_counts_for_its_stack() -> None:
    world = shop("a", "b")
    world.rules = rule_set(escalate("sick", for_ms=MINUTE))
    world.figures.update(a=99.0)
    world.tick()
    world.figures.update(b=99.0)
    decided = world.wait(2 * MINUTE)
    assert begun(decided) == [("stack:shop", "critical")]


def test_services_of_no_stack_are_told_one_by_one() -> None:
    world = scene(escalate(), figures={"a": 99.0, "b": 99.0})
    assert begun(world.tick()) == [("a", "critical"), ("b", "critical")]


# a node


def lost() -> Scene:
    """Three services, of which two had tasks on a node that went down."""
    world = scene(
        escalate("node-down", when=NODES_DOWN),
        escalate("sick", when=SICK),
        figures=dict.fromkeys("abc", 0.0),
    )
    world.nodes["node-2"] = node("node-2")
    world.tick()
    world.nodes["node-2"] = node("node-2", state="down")
    world.lost_on.update(a=("node-2",), b=("node-2",))
    world.figures_for[NODES_DOWN] = {"a": 99.0, "b": 99.0, "c": 0.0}
    return world


def test_a_node_that_is_down_gets_one_page_named_after_it() -> None:
    world = lost()
    (told,) = world.tick()
    assert (told.service, told.service_name) == ("node:node-2", "node node-2")
    assert told.reason == "node node-2 is down; it had tasks of a, b"
    assert world.wait(MINUTE) == ()


def test_what_its_services_suffer_meanwhile_is_part_of_it() -> None:
    world = lost()
    world.tick()
    world.figures_for[SICK] = {"a": 99.0, "b": 0.0, "c": 0.0}
    assert world.tick() == ()


def test_what_befalls_them_long_after_is_not() -> None:
    world = lost()
    world.tick()
    world.wait(world.limits.node_hold_ms)
    world.figures_for[SICK] = {"a": 99.0, "b": 0.0, "c": 0.0}
    assert begun(world.tick()) == [("a", "critical")]


def test_a_node_that_comes_back_ends_its_page() -> None:
    world = lost()
    world.tick()
    world.nodes["node-2"] = node("node-2")
    world.lost_on.clear()
    world.figures_for[NODES_DOWN] = dict.fromkeys("abc", 0.0)
    assert ended(world.tick()) == ["node:node-2"]


def test_a_node_that_is_down_holds_its_services_back_no_longer_than_the_node_hold() -> None:
    world = lost()
    world.rules = rule_set(*world.rules.rules, scale_up())
    world.figures_for[SICK] = dict.fromkeys("abc", 0.0)
    world.figures["a"] = 99.0
    world.tick()
    world.tick()
    assert world.held("a")["cpu-high"] == "node"
    decided = world.wait(world.limits.node_hold_ms)
    assert [d.action for d in decided] == [ActionKind.SCALE_UP]


def test_only_the_nodes_own_rule_lets_others_act() -> None:
    world = lost()
    world.figures_for[SICK] = {"a": 99.0, "b": 0.0, "c": 0.0}
    world.rules = rule_set(*world.rules.rules, scale_up())
    world.figures["a"] = 99.0
    world.tick()
    assert world.wait(world.limits.node_hold_ms + MINUTE) == ()
    assert world.held("a") == {"cpu-high": "arbitration"}


def test_a_node_that_came_back_counts_for_no_outage_either() -> None:
    names = [f"s{number}" for number in range(10)]
    world = scene(escalate("sick", when=SICK), figures=dict.fromkeys(names, 0.0))
    world.tick()
    world.tick(world.limits.outage_window_ms)
    world.lost_lately.update(dict.fromkeys(names, ("node-2",)))
    world.figures_for[SICK] = dict.fromkeys(names, 99.0)
    world.tick()
    assert world.state.outage_ms is None


def test_a_node_from_which_no_samples_come_gets_one_page() -> None:
    blind = metric_condition("tasks_blind", MINUTE)
    world = scene(escalate("blind", when=blind), figures={"a": 99.0, "b": 99.0})
    world.loads.clear()
    (told,) = world.tick()
    assert told.service_name == "node node-1"
    assert told.reason == "no samples come from node node-1; it has tasks of a, b"
    spared = scene(escalate("blind", when=blind), figures={"a": 99.0, "b": 99.0})
    assert begun(spared.tick()) == [("a", "critical"), ("b", "critical")]


def test_a_node_that_went_down_counts_for_no_outage() -> None:
    names = [f"s{number}" for number in range(10)]
    world = scene(escalate("node-down", when=NODES_DOWN), figures=dict.fromkeys(names, 0.0))
    world.nodes["node-2"] = node("node-2")
    world.tick()
    world.nodes["node-2"] = node("node-2", state="down")
    world.lost_on.update(dict.fromkeys(names, ("node-2",)))
    world.figures_for[NODES_DOWN] = dict.fromkeys(names, 99.0)
    assert begun(world.tick()) == [("node:node-2", "critical")]


# an outage


def city(count: int) -> Scene:
    """So many services, none of them in trouble."""
    names = [f"s{number:02}" for number in range(count)]
    world = scene(escalate("sick"), figures=dict.fromkeys(names, 10.0))
    world.tick()
    world.tick(world.limits.outage_window_ms)
    return world


def harm(world: Scene, count: int) -> None:
    for number in range(count):
        world.happen("task_failed", f"s{number:02}")


@pytest.mark.parametrize(
    ("services", "sick", "is_outage"),
    [(10, 3, False), (10, 4, True), (20, 4, False), (20, 5, True), (30, 6, False), (30, 7, True)],
)
def test_more_than_three_and_more_than_a_fifth_sick_together_are_an_outage(
    services: int, sick: int, *, is_outage: bool
) -> None:
    world = city(services)
    harm(world, sick)
    decided = world.tick()
    assert (world.state.outage_ms is not None) is is_outage
    assert [(d.service, d.service_name, d.rule) for d in decided] == (
        [("swarm", "the swarm", "outage")] if is_outage else []
    )


@pytest.mark.parametrize(("apart_ms", "is_outage"), [(4 * MINUTE, True), (5 * MINUTE, False)])
def test_they_must_fall_sick_within_five_minutes(apart_ms: int, *, is_outage: bool) -> None:
    world = city(10)
    for number in range(10):
        world.running[f"s{number:02}"] = 1
    harm(world, 3)
    world.wait(apart_ms)
    world.happen("task_failed", "s09")
    world.tick()
    assert (world.state.outage_ms is not None) is is_outage


def test_what_ailed_before_autoheal_came_did_not_fall_sick_together() -> None:
    names = [f"s{number:02}" for number in range(10)]
    world = scene(escalate("sick"), figures=dict.fromkeys(names, 10.0))
    for name in names:
        world.running[name] = 1
    world.wait(2 * MINUTE)
    harm(world, 4)
    world.wait(10 * MINUTE)
    assert world.state.outage_ms is None


def test_who_was_sick_before_does_not_keep_an_outage_alive() -> None:
    world = city(10)
    world.running["s09"] = 1
    world.happen("task_failed", "s09")
    world.wait(10 * MINUTE)
    harm(world, 4)
    assert begun(world.tick()) == [("swarm", "critical")]
    assert ended(world.wait(5 * MINUTE)) == ["swarm"]


def test_in_an_outage_nothing_is_done_and_nobody_else_is_told() -> None:
    world = city(10)
    world.rules = rule_set(escalate("sick"), scale_up("busy", match="s09", when=SICK))
    world.figures_for[SICK] = {name: 99.0 if name == "s09" else 0.0 for name in world.services}
    harm(world, 4)
    world.figures.update(s00=99.0, s01=99.0)
    assert begun(world.tick()) == [("swarm", "critical")]
    assert world.held("s09") == {"busy": "outage"}
    assert world.tick() == ()


def test_an_alarm_that_ends_in_an_outage_does_not_end_its_page() -> None:
    world = city(10)
    for number in range(4):
        world.running[f"s{number:02}"] = 1
    harm(world, 4)
    world.figures.update(s00=99.0)
    assert begun(world.tick()) == [("swarm", "critical")]
    world.figures.update(s00=10.0)
    assert world.wait(MINUTE) == ()


def test_when_it_is_over_the_page_ends_and_who_is_still_sick_is_told_of() -> None:
    world = city(10)
    harm(world, 4)
    world.figures.update(s00=99.0)
    world.tick()
    decided = world.wait(10 * MINUTE)
    assert ended(decided) == ["swarm"]
    assert begun(decided) == [("s00", "critical")]
    assert world.state.outage_ms is None


def test_people_are_told_of_all_that_are_sick_in_an_outage() -> None:
    world = city(10)
    harm(world, 4)
    world.tick()
    told_ms = world.now_ms
    incidents = [state.incident for state in world.state.services.values() if state.incident]
    assert [incident.escalated_ms for incident in incidents] == [told_ms] * 4


def test_load_everywhere_is_no_outage() -> None:
    world = city(10)
    world.rules = rule_set(scale_up())
    for name in world.services:
        world.figures[name] = 99.0
    world.tick()
    assert world.state.outage_ms is None


def test_what_is_off_and_what_is_ours_is_not_counted() -> None:
    world = city(16)
    for number in range(10, 16):
        world.put(service(f"s{number}", labels={LABEL_ROLE: "engine"}))
    world.limits = dataclasses.replace(BRISK, outage_services=1)
    harm(world, 3)
    world.tick()
    assert world.state.outage_ms is not None, "three of ten, not of sixteen"


# budgets


def spending(count: int, mode: Mode = Mode.LIVE) -> Scene:
    """Services that all want to be scaled, and five actions an hour."""
    labels = ARMED if mode is Mode.LIVE else {}
    names = [f"s{number}" for number in range(count)]
    world = scene(scale_up(maximum=3), figures=dict.fromkeys(names, 99.0))
    world.put(*(service(name, labels=labels) for name in names))
    world.limits = dataclasses.replace(BRISK, actions_per_hour=5, operator_hold_ms=0)
    return world


def act(world: Scene, length_ms: int) -> list[Decision]:
    """Carry out whatever is decided, for so long; what was decided."""
    decided: list[Decision] = []
    for _ in range(length_ms // STEP):
        for each in world.tick():
            decided.append(each)
            if each.action is not ActionKind.ESCALATE:
                if each.max_mode is Mode.LIVE:
                    world.apply(each)
                else:
                    world.report(each, OutcomeKind.WOULD_APPLY)
                    world.figures[each.service] = 10.0
    return decided


def test_five_actions_an_hour_and_then_one_page() -> None:
    world = spending(8)
    decided = act(world, 30 * MINUTE)
    assert [d.action for d in decided] == [ActionKind.SCALE_UP] * 5 + [ActionKind.ESCALATE]
    told = decided[-1]
    assert (told.service, told.rule, told.severity) == ("swarm", "budget", "warning")
    assert told.max_mode is Mode.LIVE
    assert "budget" in world.held("s7").values()


def test_nobody_is_told_that_a_budget_of_what_is_only_shown_is_spent() -> None:
    world = spending(8, Mode.DRY_RUN)
    decided = act(world, 30 * MINUTE)
    assert [d.action for d in decided] == [ActionKind.SCALE_UP] * 5
    assert "budget" in world.held("s7").values()


def test_what_is_spent_comes_back_after_an_hour() -> None:
    world = spending(8)
    act(world, 30 * MINUTE)
    later = act(world, HOUR)
    assert [d.target for d in later if d.action is ActionKind.ESCALATE] == [0]
    assert sum(d.action is ActionKind.SCALE_UP for d in later) == 3


def test_the_budgets_of_armed_and_unarmed_services_are_apart() -> None:
    world = spending(8, Mode.DRY_RUN)
    act(world, 30 * MINUTE)
    world.put(service("armed"))
    world.figures["armed"] = 99.0
    assert [d.max_mode for d in act(world, MINUTE)][:1] == [Mode.LIVE]


def test_actions_in_flight_count_against_the_budget() -> None:
    world = spending(8)
    world.limits = dataclasses.replace(world.limits, actions_at_once=100)
    assert len(world.tick()) == 5


def test_an_attempt_that_failed_is_spent_and_a_refusal_is_not() -> None:
    for kind, spent in ((OutcomeKind.NOT_APPLIED, 1), (OutcomeKind.REFUSED, 0)):
        world = spending(1)
        (decided,) = world.tick()
        world.report(decided, kind, stale=True)
        world.tick()
        assert len(world.state.spent.get(Mode.LIVE, ())) == spent


def test_the_hour_of_the_budget_is_an_hour() -> None:
    assert HOUR_MS == HOUR
    assert Limits().actions_per_hour == 5


# labels


def test_a_label_that_cannot_be_read_keeps_everybody_off() -> None:
    world = scene(scale_up())
    labels = {LABEL_ENABLE: "true", LABEL_ALLOW: "scale_up", "autoheal.max": "many"}
    world.put(service("web", labels=labels))
    assert world.tick() == ()
    assert world.held() == {"cpu-high": "labels"}


def test_the_dry_run_label_takes_everything_back() -> None:
    world = scene(scale_up())
    world.put(service("web", labels={**ARMED, "autoheal.dry-run": "true"}))
    assert [d.max_mode for d in world.tick()] == [Mode.DRY_RUN]


@pytest.mark.parametrize(("maximum", "target"), [("2", None), ("3", 3), ("20", 3)])
def test_the_maximum_label_tightens_and_never_loosens(maximum: str, target: int | None) -> None:
    world = scene(scale_up(maximum=3))
    world.put(service("web", labels={**ARMED, "autoheal.max": maximum}))
    decided = world.tick()
    assert [d.target for d in decided] == ([] if target is None else [target])


# target tracking


def test_a_tracking_rule_that_finds_no_way_is_told_in_its_words_and_ends_in_words() -> None:
    target = Target(50.0, MINUTE, metric="cpu_percent")
    tracks = rule(
        "load", Track((target,), 1, 2), Combined(Combinator.ALL, ()), otherwise=Escalate("info")
    )
    world = scene(tracks)
    world.tracked["web", target] = Tracked(values=(90.0, 90.0), total=2)
    (told,) = world.tick()
    assert told.reason.startswith("mean cpu_percent over 1m is 90, target 50: ")
    assert world.held() == {"load": "bound"}
    world.tracked["web", target] = Tracked(values=(50.0, 50.0), total=2)
    (ended,) = world.tick()
    assert ended.reason == "resolved: its targets ask for nothing more"


# sources

JOBS = source_condition()
ALIVE = SourceState(90.0, STEP)
DEAD = SourceState(None, MINUTE, "connection refused")


def deploy(world: Scene) -> None:
    world.alter(content="content-2")


def test_a_deploy_ends_no_alarm_whose_source_is_dead() -> None:
    world = scene(escalate(when=JOBS))
    world.sources["jobs"] = ALIVE
    world.figures_for[JOBS] = {"web": 90.0}
    assert begun(world.tick()) == [("web", "critical")]
    world.sources["jobs"] = DEAD
    world.figures_for[JOBS] = {"web": None}
    world.tick()
    deploy(world)
    assert world.wait(HOUR) == ()
    world.sources["jobs"] = ALIVE
    assert world.wait(MINUTE) == (), "what it was meanwhile nobody knows"
    world.figures_for[JOBS] = {"web": 10.0}
    (end,) = world.tick()
    assert end.reason == "resolved: mean jobs over 1m is 10, no longer above 50"


def test_a_deploy_ends_an_alarm_whose_source_lives_but_whose_figures_went_with_it() -> None:
    cpu = metric_condition()
    world = scene(escalate(when=Combined(Combinator.ALL, (JOBS, cpu))))
    world.sources["jobs"] = ALIVE
    world.figures_for[JOBS] = {"web": 90.0}
    assert begun(world.tick()) == [("web", "critical")]
    world.figures["web"] = None
    world.tick()
    deploy(world)
    (end,) = world.wait(MINUTE)
    assert end.reason == "resolved: the service was changed, and its figures are no longer there"


def test_a_deploy_ends_no_alarm_of_a_tracking_rule_whose_source_is_dead() -> None:
    target = Target(50.0, MINUTE, source="jobs", per_task=True)
    tracks = rule(
        "load", Track((target,), 1, 2), Combined(Combinator.ALL, ()), otherwise=Escalate("info")
    )
    world = scene(tracks)
    world.sources["jobs"] = ALIVE
    world.tracked["web", target] = Tracked(figure=900.0, total=2)
    assert begun(world.tick()) == [("web", "info")]
    world.sources["jobs"] = DEAD
    world.tracked["web", target] = Tracked(total=2)
    world.tick()
    deploy(world)
    assert world.wait(HOUR) == ()
    world.sources["jobs"] = ALIVE
    assert world.wait(MINUTE) == (), "what it was meanwhile nobody knows"
    world.tracked["web", target] = Tracked(figure=100.0, total=2)
    assert ended(world.tick()) == ["web"]
