"""Target tracking through whole ticks: what it remembers, who it contends with, what holds it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Action, Escalate, Restart, Track
from autoheal.actions.track import DOWN, UP, Direction, Policy, Select, Target
from autoheal.core.breaker import Breaker
from autoheal.core.decision.reach import may_reach
from autoheal.core.decision.tick import Tick, View
from autoheal.core.decision.tracking import verdicts
from autoheal.core.rule import Combinator, Combined, Limit, Period, Rule, Schedule, Zone
from autoheal.core.state import TrackState
from autoheal.core.view.fold import SourceState, Tracked
from autoheal.core.view.node_window import NodeLoad
from autoheal.labels import read_terms
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    ActionKind,
    Decision,
    Evidence,
    Mode,
    OutcomeKind,
    ServiceMode,
    Verdict,
)
from builders import (
    ARMED,
    HOUR,
    MINUTE,
    NOW,
    STEP,
    Scene,
    metric_condition,
    rule,
    rule_set,
    scale_down,
    scale_up,
    scene,
    service,
)

CPU = Target(50.0, MINUTE, metric="cpu_percent")
QUEUE = Target(50.0, MINUTE, source="jobs", per_task=True)
ALWAYS = Combined(Combinator.ALL, ())
ANY_LOAD = metric_condition(threshold=0.0)
AT_ONCE = Direction(0, (Policy(1_000, tasks=1000),))


def tracking(
    name: str = "load",
    *targets: Target,
    least: int = 1,
    most: int = 20,
    up: Direction = UP,
    down: Direction = DOWN,
    mode: Mode = Mode.LIVE,
    priority: int = 0,
    limit: Limit | None = None,
    otherwise: Escalate | None = None,
) -> Rule:
    then = Track(targets or (CPU,), least, most, up, down)
    return rule(name, then, ALWAYS, mode=mode, priority=priority, limit=limit, otherwise=otherwise)


def tracked(*rules: Rule, cpu: float = 50.0, replicas: int = 4) -> Scene:
    """A service of four tasks at its target."""
    world = scene(*(rules or (tracking(),)))
    world.put(service(replicas=replicas))
    show(world, cpu)
    return world


def show(world: Scene, cpu: float, *, missing: int = 0, unready: int = 0) -> None:
    """Each task that has a sample uses so much CPU."""
    total = world.services["web"].replicas or 0
    values = (cpu,) * (total - missing - unready)
    world.tracked["web", CPU] = Tracked(values, missing, unready, total)


def carry_out(world: Scene, decided: Decision, cpu: float) -> None:
    world.apply(decided)
    show(world, cpu)
    world.tick()


def memory(world: Scene, name: str = "load") -> TrackState:
    return world.state.services["web"].tracks[name]


def words(world: Scene, name: str = "load") -> str:
    assert world.last is not None
    (held,) = [each for each in world.last.held if each.rule == name]
    return held.words


def test_a_step_up_is_a_scale_up_with_its_figures_and_all_its_words() -> None:
    world = tracked(cpu=60.0)
    (decided,) = world.tick()
    assert decided.action is ActionKind.SCALE_UP
    assert (decided.start, decided.target, decided.max_mode) == (4, 5, Mode.LIVE)
    assert decided.evidence == (Evidence("mean cpu_percent over 1m", 60.0, "target 50"),)
    assert decided.reason == (
        "mean cpu_percent over 1m is 60, target 50: 1.2 x 4 tasks -> 5; policy allows 8: "
        "scale up from 4 to 5"
    )


def test_a_step_down_is_a_scale_down() -> None:
    world = tracked(tracking(down=AT_ONCE), cpu=20.0)
    (decided,) = world.tick()
    assert decided.action is ActionKind.SCALE_DOWN
    assert (decided.start, decided.target) == (4, 2)


def test_at_its_target_a_rule_wants_nothing_and_is_not_held() -> None:
    world = tracked(cpu=54.0)
    assert world.wait(MINUTE) == ()
    assert world.held() == {}


# what is remembered


def test_a_new_rule_does_not_scale_down_before_its_window_has_passed() -> None:
    world = tracked(cpu=20.0)
    world.tick()
    began_ms = world.now_ms
    assert world.held() == {"load": "stabilization"}
    assert words(world) == (
        "mean cpu_percent over 1m is 20, target 50: 0.4 x 4 tasks -> 2; 5m stabilization keeps 4"
    )
    assert world.wait(5 * MINUTE - STEP) == ()
    (decided,) = world.tick()
    assert world.now_ms - began_ms == 5 * MINUTE
    assert (decided.start, decided.target) == (4, 2)


def test_the_highest_of_the_window_down_counts() -> None:
    world = tracked(cpu=20.0)
    world.tick()
    world.wait(4 * MINUTE)
    show(world, 30.0)
    world.tick()
    show(world, 20.0)
    (first,) = world.wait(MINUTE)
    assert (first.start, first.target) == (4, 3)


def test_the_lowest_of_the_window_up_counts() -> None:
    up = dataclasses.replace(UP, stabilization_ms=MINUTE)
    world = tracked(tracking(up=up), cpu=100.0)
    assert world.wait(MINUTE) == ()
    assert world.held() == {"load": "stabilization"}
    show(world, 70.0)
    (decided,) = world.tick()
    assert decided.target == 6


def test_it_is_remembered_while_something_else_holds_the_rule() -> None:
    world = tracked(cpu=20.0)
    world.put(service(replicas=4, update_state="updating"))
    world.tick()
    began_ms = world.now_ms
    world.wait(5 * MINUTE)
    world.put(service(replicas=4))
    (decided,) = world.tick()
    assert world.now_ms - began_ms == 5 * MINUTE + STEP
    assert decided.target == 2


def test_a_tick_without_figures_counts_as_one_that_asks_for_the_present_count() -> None:
    world = tracked(cpu=20.0)
    world.wait(4 * MINUTE)
    show(world, 0.0, missing=4)
    world.tick()
    assert world.held() == {"load": "no-data"}
    assert words(world) == "no ready task has a sample of cpu_percent"
    dark_ms = world.now_ms
    show(world, 20.0)
    assert world.wait(5 * MINUTE - STEP) == ()
    assert world.tick() != ()
    assert world.now_ms - dark_ms == 5 * MINUTE


@pytest.mark.parametrize(("gap_ms", "decides"), [(4 * STEP, True), (4 * STEP + 1, False)])
def test_after_a_gap_in_ticks_the_present_count_is_remembered_too(
    gap_ms: int, *, decides: bool
) -> None:
    world = tracked(cpu=20.0)
    world.wait(5 * MINUTE)
    assert bool(world.tick(gap_ms)) is decides


def test_a_gap_in_ticks_is_no_reason_to_move_the_sooner() -> None:
    world = tracked(cpu=20.0)
    world.wait(4 * MINUTE)
    assert world.tick(MINUTE) == ()
    gap_ms = world.now_ms
    assert memory(world).recommendations == ((gap_ms, 4), (gap_ms, 2))
    assert world.wait(5 * MINUTE - STEP) == ()
    (decided,) = world.tick()
    assert (decided.decided_at_ms - gap_ms, decided.target) == (5 * MINUTE, 2)


def test_after_a_gap_a_short_window_up_still_waits() -> None:
    up = dataclasses.replace(UP, stabilization_ms=MINUTE)
    world = tracked(tracking(up=up), cpu=50.0)
    world.wait(2 * MINUTE)
    show(world, 100.0)
    assert world.tick(4 * MINUTE) == ()
    assert world.wait(MINUTE - STEP) == ()
    assert world.tick() != ()


def test_after_a_gap_longer_than_all_windows_the_present_count_is_seeded_again() -> None:
    world = tracked(cpu=20.0)
    world.wait(4 * MINUTE)
    world.tick(HOUR)
    assert memory(world).recommendations == ((world.now_ms, 4), (world.now_ms, 2))


def test_a_window_no_longer_than_a_step_still_ends() -> None:
    down = dataclasses.replace(AT_ONCE, stabilization_ms=STEP)
    world = tracked(tracking(down=down), cpu=20.0)
    assert world.tick() == ()
    (decided,) = world.tick()
    assert decided.target == 2


def test_another_version_of_a_rule_begins_anew_and_keeps_the_steps_that_were_taken() -> None:
    slow = dataclasses.replace(UP, policies=(Policy(10 * MINUTE, tasks=2),))
    world = tracked(tracking(up=slow), cpu=100.0)
    (decided,) = world.tick()
    carry_out(world, decided, 20.0)
    world.wait(5 * MINUTE + STEP)
    world.rules = rule_set(tracking(up=slow, most=30))
    world.tick()
    assert memory(world).recommendations == ((world.now_ms, 6), (world.now_ms, 3))
    assert [change for _, change in memory(world).scaled] == [2]
    assert world.held() == {"load": "stabilization"}


def test_what_was_remembered_without_a_hash_still_counts() -> None:
    world = tracked(cpu=20.0)
    world.wait(5 * MINUTE)
    known = dataclasses.replace(memory(world), hash="")
    state = dataclasses.replace(world.state.services["web"], tracks={"load": known})
    world.state = dataclasses.replace(world.state, services={"web": state})
    (decided,) = world.tick()
    assert decided.target == 2
    assert memory(world).hash == tracking().hash


def test_what_another_rule_set_does_not_change_stays() -> None:
    world = tracked(cpu=20.0)
    world.wait(5 * MINUTE)
    world.rules = rule_set(tracking(), scale_up(maximum=4))
    assert [each.target for each in world.tick()] == []
    assert world.held()["load"] == "arbitration"
    assert memory(world).recommendations == ((world.now_ms, 2),)


def test_a_rule_that_is_gone_is_forgotten() -> None:
    world = tracked()
    world.tick()
    world.rules = rule_set(scale_up(maximum=4))
    world.tick()
    assert world.state.services["web"].tracks == {}


def test_a_service_that_is_off_asks_for_nothing_and_begins_anew() -> None:
    world = tracked(cpu=20.0)
    world.wait(5 * MINUTE)
    world.put(service(replicas=0))
    show(world, 0.0)
    assert world.tick() == ()
    assert memory(world) == TrackState()
    assert world.held() == {}
    world.put(service(replicas=4))
    show(world, 20.0)
    world.tick()
    assert memory(world).recommendations == ((world.now_ms, 4), (world.now_ms, 2))


@pytest.mark.parametrize(
    ("mode", "replicas"),
    [
        (ServiceMode.GLOBAL, None),
        (ServiceMode.GLOBAL_JOB, None),
        (ServiceMode.REPLICATED_JOB, 4),
    ],
)
def test_only_a_replicated_service_is_tracked(mode: ServiceMode, replicas: int | None) -> None:
    world = tracked()
    world.put(service(mode=mode, replicas=replicas))
    world.tracked["web", CPU] = Tracked((90.0,), 0, 0, 1)
    assert world.tick() == ()
    assert memory(world) == TrackState()


def test_outside_its_hours_a_rule_asks_for_nothing_and_begins_anew() -> None:
    zone = Zone("UTC", ((0, 0),))
    minute = NOW // MINUTE % (24 * 60)
    hours = Schedule(zone, (Period(tuple(range(7)), minute, minute + 6),))
    world = tracked(dataclasses.replace(tracking(), schedule=hours), cpu=20.0)
    world.wait(4 * MINUTE)
    assert memory(world).recommendations != ()
    world.wait(3 * MINUTE)
    assert memory(world) == TrackState()
    world.now_ms = NOW + 24 * HOUR
    world.tick()
    assert memory(world).recommendations == ((world.now_ms, 4), (world.now_ms, 2))


# steps


def test_a_policy_counts_the_steps_that_were_taken() -> None:
    slow = dataclasses.replace(UP, policies=(Policy(MINUTE, tasks=2),))
    world = tracked(tracking(up=slow), cpu=100.0)
    (first,) = world.tick()
    assert (first.start, first.target) == (4, 6)
    carry_out(world, first, 100.0)
    applied_ms = world.now_ms - STEP
    assert memory(world).scaled == ((applied_ms, 2),)
    world.tick()
    assert world.held() == {"load": "policy"}
    assert words(world).endswith("2 x 6 tasks -> 12; policy allows 6")
    (second,) = world.wait(MINUTE - 2 * STEP)
    assert (second.start, second.target) == (6, 8)
    assert world.now_ms - applied_ms == MINUTE


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        (OutcomeKind.WOULD_APPLY, [4]),
        (OutcomeKind.REFUSED, []),
        (OutcomeKind.NOT_APPLIED, []),
        (OutcomeKind.UNCONFIRMED, []),
    ],
)
def test_only_durable_steps_count(kind: OutcomeKind, counted: list[int]) -> None:
    world = tracked(cpu=100.0)
    (decided,) = world.tick()
    world.report(decided, kind)
    world.tick()
    assert [change for _, change in memory(world).scaled] == counted


def test_the_steps_of_other_rules_do_not_count() -> None:
    world = tracked(tracking(most=4), scale_up())
    (decided,) = world.tick()
    assert decided.rule == "cpu-high"
    carry_out(world, decided, 50.0)
    assert memory(world).scaled == ()
    assert set(world.state.services["web"].tracks) == {"load"}


def test_one_step_is_in_flight_at_a_time() -> None:
    world = tracked(cpu=100.0)
    (decided,) = world.tick()
    assert world.tick() == ()
    assert world.held() == {"load": "in-flight"}
    flight = world.state.services["web"].lanes[next(iter(world.state.services["web"].lanes))].flight
    assert flight is not None
    assert (flight.action, flight.decision) == (ActionKind.SCALE_UP, decided.id)


def test_a_step_down_comes_at_least_its_window_after_a_scale_up_of_any_rule() -> None:
    down = dataclasses.replace(AT_ONCE, stabilization_ms=3 * MINUTE)
    world = tracked(tracking(down=down), scale_up())
    (up,) = world.tick()
    assert up.rule == "cpu-high"
    world.apply(up)
    world.figures["web"] = 0.0
    show(world, 20.0)
    world.tick()
    # Whatever was asked for before: the wait alone is enough.
    forgetful = TrackState(((up.decided_at_ms, 2),))
    state = dataclasses.replace(world.state.services["web"], tracks={"load": forgetful})
    world.state = dataclasses.replace(world.state, services={"web": state})
    world.tick()
    assert world.held() == {"load": "cooldown"}
    assert words(world) == "it was scaled 10s ago, the wait is 3m"
    (decided,) = world.wait(3 * MINUTE)
    assert (decided.rule, decided.action) == ("load", ActionKind.SCALE_DOWN)
    assert decided.decided_at_ms - up.decided_at_ms == 3 * MINUTE


# who it contends with


UP_LOAD, DOWN_LOAD = 100.0, 20.0


@pytest.mark.parametrize(
    ("cpu", "other", "winner", "held"),
    [
        # up
        (UP_LOAD, scale_up(when=ANY_LOAD), "cpu-high", {"load": "arbitration"}),
        (UP_LOAD, scale_up("z-up", when=ANY_LOAD), "load", {"z-up": "arbitration"}),
        (UP_LOAD, rule("a-hung", Restart(), ANY_LOAD), "load", {"a-hung": "arbitration"}),
        (UP_LOAD, scale_down(when=ANY_LOAD), "load", {"cpu-low": "arbitration"}),
        # down
        (DOWN_LOAD, scale_up(when=ANY_LOAD), "cpu-high", {"load": "arbitration"}),
        (DOWN_LOAD, rule("z-hung", Restart(), ANY_LOAD), "z-hung", {"load": "arbitration"}),
        (DOWN_LOAD, scale_down("z-low", when=ANY_LOAD), "load", {"z-low": "arbitration"}),
        # nothing
        (50.0, scale_down(when=ANY_LOAD), "cpu-low", {}),
        (50.0, scale_up(when=ANY_LOAD), "cpu-high", {}),
    ],
)
def test_it_has_the_rank_of_what_it_proposes(
    cpu: float, other: Rule, winner: str, held: dict[str, str]
) -> None:
    world = tracked(tracking(down=AT_ONCE), other, cpu=cpu)
    assert [each.rule for each in world.tick()] == [winner]
    assert world.held() == held


def test_the_higher_priority_wins_among_tracking_rules() -> None:
    world = tracked(tracking("a"), tracking("b", QUEUE, priority=1), cpu=100.0)
    world.tracked["web", QUEUE] = Tracked(figure=500.0, total=4)
    (decided,) = world.tick()
    assert (decided.rule, decided.target) == ("b", 8)
    assert decided.evidence[0].what == "mean jobs per task over 1m"


@pytest.mark.parametrize("held_by", ["stabilization", "policy", "missing-data", "bound"])
def test_a_wish_for_more_keeps_others_from_fewer_even_while_it_is_held(held_by: str) -> None:
    up = {
        "stabilization": dataclasses.replace(UP, stabilization_ms=MINUTE),
        "policy": dataclasses.replace(UP, select=Select.DISABLED),
    }.get(held_by, UP)
    most = 4 if held_by == "bound" else 20
    world = tracked(tracking(up=up, most=most), scale_down(when=ANY_LOAD), cpu=90.0)
    if held_by == "missing-data":
        show(world, 90.0, missing=2)
    assert world.tick() == ()
    assert world.held() == {"load": held_by, "cpu-low": "arbitration"}


def test_an_alert_of_the_service_holds_it_and_only_where_it_wants_something() -> None:
    page = rule("page", Escalate("critical"), ANY_LOAD)
    world = tracked(tracking(), page, cpu=90.0)
    assert [each.rule for each in world.tick()] == ["page"]
    assert world.held() == {"load": "arbitration"}
    show(world, 50.0)
    world.tick()
    assert world.held() == {}


def test_a_rule_on_trial_tracks_in_a_lane_of_its_own() -> None:
    world = tracked(tracking(), tracking("try", most=30, mode=Mode.DRY_RUN), cpu=100.0)
    assert {each.rule: each.max_mode for each in world.tick()} == {
        "load": Mode.LIVE,
        "try": Mode.DRY_RUN,
    }


# what holds it


def test_of_several_targets_one_without_data_forbids_fewer_tasks() -> None:
    world = tracked(tracking("load", CPU, QUEUE, down=AT_ONCE), cpu=20.0)
    world.tracked["web", QUEUE] = Tracked(total=4)
    world.sources["jobs"] = SourceState(value=7.0, age_ms=STEP)
    assert world.tick() == ()
    assert world.held() == {"load": "no-data"}
    assert words(world) == (
        "mean cpu_percent over 1m is 20, target 50: cpu_percent: 0.4 x 4 tasks -> 2, "
        "jobs: the source jobs has no value for all of its time"
    )
    show(world, 100.0)
    (decided,) = world.tick()
    assert decided.target == 8


def test_missing_samples_hold_a_step_where_it_can_be_seen() -> None:
    world = tracked(cpu=90.0)
    show(world, 90.0, missing=2)
    assert world.tick() == ()
    assert world.held() == {"load": "missing-data"}
    assert words(world) == (
        "mean cpu_percent over 1m is 90, target 50: 1.8 x 2 tasks; "
        "with 2 without a sample as 0, 0.9 x 4 tasks, so 4 stay"
    )


def test_no_step_up_where_no_node_has_room() -> None:
    world = tracked(cpu=100.0)
    world.loads = {"node-1": NodeLoad(95.0, 20.0, 2**33)}
    assert world.tick() == ()
    assert world.held() == {"load": "saturated"}
    world.loads = {"node-1": NodeLoad(10.0, 20.0, 2**33)}
    assert len(world.tick()) == 1


def test_a_step_down_needs_no_room() -> None:
    world = tracked(tracking(down=AT_ONCE), cpu=20.0)
    world.loads = {"node-1": NodeLoad(95.0, 20.0, 2**33)}
    assert len(world.tick()) == 1


@pytest.mark.parametrize(
    ("allowed", "up_mode", "down_mode", "any_mode"),
    [
        ("scale_up,scale_down", Mode.LIVE, Mode.LIVE, Mode.LIVE),
        ("scale_up", Mode.LIVE, Mode.DRY_RUN, Mode.LIVE),
        ("scale_down", Mode.DRY_RUN, Mode.LIVE, Mode.LIVE),
        ("restart", Mode.DRY_RUN, Mode.DRY_RUN, Mode.DRY_RUN),
    ],
)
def test_labels_allow_the_action_that_is_proposed(
    allowed: str, up_mode: Mode, down_mode: Mode, any_mode: Mode
) -> None:
    labels = {LABEL_ENABLE: "true", LABEL_ALLOW: allowed}
    for cpu, mode in ((UP_LOAD, up_mode), (DOWN_LOAD, down_mode)):
        world = tracked(tracking(down=AT_ONCE))
        world.put(service(replicas=4, labels=labels))
        show(world, cpu)
        (decided,) = world.tick()
        assert decided.max_mode is mode
    assert may_reach(tracking(), read_terms(labels)) is any_mode
    assert may_reach(tracking(mode=Mode.DRY_RUN), read_terms(labels)) is Mode.DRY_RUN


@pytest.mark.parametrize(
    ("label", "value", "cpu", "target"),
    [(LABEL_MAX, "6", UP_LOAD, 6), (LABEL_MIN, "3", DOWN_LOAD, 3)],
)
def test_labels_narrow_the_bounds(label: str, value: str, cpu: float, target: int) -> None:
    world = tracked(tracking(down=AT_ONCE))
    world.put(service(replicas=4, labels={**ARMED, label: value}))
    show(world, cpu)
    (decided,) = world.tick()
    assert decided.target == target


def test_a_step_ends_at_the_bound_and_beyond_it_the_service_is_left() -> None:
    world = tracked(tracking(most=6), cpu=100.0)
    (decided,) = world.tick()
    assert decided.target == 6
    carry_out(world, decided, 100.0)
    world.tick()
    assert world.held() == {"load": "bound"}
    world.put(service(replicas=9))
    show(world, 50.0)
    assert world.wait(MINUTE) == ()


# when it cannot


def test_people_are_told_once_the_maximum_is_not_enough() -> None:
    world = tracked(tracking(most=4, otherwise=Escalate("critical")), cpu=100.0)
    (page,) = world.wait(MINUTE)
    assert page.action is ActionKind.ESCALATE
    assert page.reason == (
        "mean cpu_percent over 1m is 100, target 50: 2 x 4 tasks -> 8; "
        "4 replicas, and the rule's maximum is 4"
    )


def test_nobody_is_told_of_a_maximum_where_scaling_up_is_disabled() -> None:
    off = dataclasses.replace(UP, select=Select.DISABLED)
    world = tracked(tracking(most=4, up=off, otherwise=Escalate("critical")), cpu=100.0)
    assert world.wait(5 * MINUTE) == ()
    assert world.held() == {"load": "policy"}


def test_they_are_told_of_the_end_once_it_wants_nothing_but_not_for_missing_samples() -> None:
    world = tracked(tracking(most=4, otherwise=Escalate("critical")), cpu=100.0)
    world.wait(MINUTE)
    show(world, 0.0, missing=4)
    assert world.wait(MINUTE) == ()
    show(world, 50.0)
    (end,) = world.tick()
    assert (end.action, end.target) == (ActionKind.ESCALATE, 0)
    assert end.reason.removeprefix("resolved: ")


def test_nobody_is_told_that_an_idle_service_stays_at_its_minimum() -> None:
    world = tracked(tracking(least=4, otherwise=Escalate("critical")), cpu=0.0)
    assert world.wait(6 * MINUTE) == ()
    assert world.held() == {"load": "bound"}


def test_its_limit_counts_steps_either_way() -> None:
    limit = Limit(1, HOUR)
    world = tracked(tracking(down=AT_ONCE, limit=limit), cpu=100.0)
    (decided,) = world.tick()
    carry_out(world, decided, 20.0)
    world.tick()
    assert world.held() == {"load": "limit"}


def test_failed_attempts_are_forgotten_once_it_wants_nothing() -> None:
    world = tracked(cpu=100.0)
    (decided,) = world.tick()
    world.report(decided, OutcomeKind.REFUSED)
    world.tick()
    assert world.state.services["web"].failures == {"load": 1}
    show(world, 50.0)
    world.tick()
    assert world.state.services["web"].failures == {}


# what it says


@pytest.mark.parametrize(
    ("cpu", "missing", "least", "most", "verdict"),
    [
        (50.0, 0, 1, 20, Verdict.FALSE),
        (100.0, 0, 1, 20, Verdict.TRUE),
        (100.0, 0, 1, 4, Verdict.TRUE),
        (90.0, 2, 1, 20, Verdict.TRUE),
        (20.0, 0, 1, 20, Verdict.TRUE),
        (20.0, 0, 4, 20, Verdict.FALSE),
        (5.0, 3, 1, 20, Verdict.NO_DATA),
        (0.0, 4, 1, 20, Verdict.NO_DATA),
    ],
)
def test_a_rule_is_true_while_it_wants_something_that_it_cannot_wait_for(
    cpu: float, missing: int, least: int, most: int, verdict: Verdict
) -> None:
    world = tracked(tracking(least=least, most=most, down=AT_ONCE))
    show(world, cpu, missing=missing)
    world.tick()
    snapshot = world.snapshot()
    of = world.services["web"]
    tick = Tick(
        world.rules,
        world.limits,
        snapshot,
        world.now_ms,
        before=world.state,
        breaker=Breaker(),
        services=dict(world.state.services),
    )
    by_name = {each.name: each for each in world.rules.rules}
    view = View(of, read_terms(of.labels), snapshot.tasks["web"], by_name, {})
    assert verdicts(tick, view) == {"load": verdict}


# what always holds


@given(
    loads=st.lists(st.sampled_from([45.0, 48.0, 50.0, 53.0, 55.0]), min_size=1, max_size=30),
)
def test_noise_inside_the_tolerance_does_nothing(loads: list[float]) -> None:
    world = tracked(tracking(up=AT_ONCE, down=AT_ONCE))
    for load in loads:
        show(world, load)
        assert world.tick() == ()
        assert world.held() == {}


@given(
    loads=st.lists(st.sampled_from([0.0, 20.0, 50.0, 60.0, 90.0]), min_size=5, max_size=40),
    lost=st.lists(st.integers(0, 2), min_size=40, max_size=40),
)
def test_every_step_keeps_to_bounds_and_policy_and_none_follows_an_up_too_soon(
    loads: list[float], lost: list[int]
) -> None:
    up = Direction(0, (Policy(MINUTE, tasks=2),))
    down = Direction(MINUTE, (Policy(MINUTE, tasks=1),))
    world = tracked(tracking(least=2, most=7, up=up, down=down))
    up_ms = 0
    counts = [(0, 4)]
    for load, missing in zip(loads, lost, strict=False):
        show(world, load, missing=missing)
        for decided in world.tick(20_000):
            start = [n for ms, n in counts if world.now_ms - ms >= MINUTE][-1]
            assert 2 <= decided.target <= 7
            assert start - 1 <= decided.target <= start + 2
            if decided.action is ActionKind.SCALE_UP:
                up_ms = world.now_ms
            else:
                assert world.now_ms - up_ms >= MINUTE
            world.apply(decided)
            counts.append((world.now_ms, decided.target))


def test_an_action_of_several_kinds_has_no_kind_of_its_own() -> None:
    action: Action = tracking().then
    assert not hasattr(action, "kind")
