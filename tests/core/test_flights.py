"""What becomes of an action until it is settled, and what it keeps others from meanwhile."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.core.breaker import Circuit
from autoheal.core.decision.flights import concluded
from autoheal.core.rule import Comparison, Rule
from autoheal.core.state import Flight, Lane, LaneState, Phase, TrackState
from autoheal.core.view.fold import Happening
from autoheal.model import Decision, Mode, OutcomeKind
from builders import (
    CPU_LOW,
    MINUTE,
    STEP,
    Scene,
    event_condition,
    metric_condition,
    outcome,
    scale_down,
    scale_up,
    scene,
    service,
)

ALWAYS = metric_condition("cpu_percent", MINUTE, Comparison.AT_LEAST, 0.0)
EXPIRY = MINUTE


def flying(*rules: Rule, labels: dict[str, str] | None = None) -> tuple[Scene, Decision]:
    world = scene(*(rules or (scale_up(),)))
    if labels is not None:
        world.put(service(labels=labels))
    (decided,) = world.tick()
    return world, decided


def lane(world: Scene, name: Lane = Lane.RULES) -> LaneState:
    return world.state.services["web"].lane(name)


def flight(world: Scene) -> Flight | None:
    return lane(world).flight


def quiet(world: Scene) -> None:
    """From here on no rule wants anything."""
    world.figures["web"] = None


def test_a_decision_is_in_flight_from_its_own_tick_on() -> None:
    world, decided = flying()
    now = flight(world)
    assert now is not None
    assert (now.decision, now.phase, now.start, now.target) == (decided.id, Phase.DECIDED, 2, 3)
    assert now.expires_ms == decided.expires_at_ms == world.now_ms + EXPIRY
    world.tick()
    assert world.held() == {"cpu-high": "in-flight"}


# expiry


@pytest.mark.parametrize(
    ("after_ms", "free"), [(EXPIRY, False), (EXPIRY + STEP - 1, False), (EXPIRY + STEP, True)]
)
def test_without_an_intent_it_is_dead_one_step_after_it_expired(
    after_ms: int, *, free: bool
) -> None:
    world, _ = flying()
    world.tick(after_ms)
    assert (flight(world) is None) is free


def test_an_expired_one_waits_like_a_failed_one_before_the_next() -> None:
    world, _ = flying()
    world.tick(EXPIRY + STEP)
    assert world.held() == {"cpu-high": "retry"}
    assert len(world.wait(15_000)) == 1


def test_once_an_intent_was_seen_expiry_frees_nothing() -> None:
    world, decided = flying()
    world.intend(decided)
    world.tick()
    assert world.wait(60 * MINUTE) == ()
    now = flight(world)
    assert now is not None
    assert now.phase is Phase.UNCONFIRMED


def test_an_intent_of_another_decision_or_service_means_nothing() -> None:
    world, decided = flying()
    world.intend(dataclasses.replace(decided, id="another"))
    world.intend(dataclasses.replace(decided, service="removed"))
    world.tick()
    now = flight(world)
    assert now is not None
    assert now.phase is Phase.DECIDED


def test_an_intent_seen_after_its_outcome_does_not_go_back() -> None:
    world, decided = flying()
    world.apply(decided, running=2)
    world.tick()
    world.intend(decided)
    world.tick()
    now = flight(world)
    assert now is not None
    assert now.phase is Phase.APPLIED


# outcomes


@pytest.mark.parametrize("kind", [OutcomeKind.REFUSED, OutcomeKind.NOT_APPLIED])
@pytest.mark.parametrize(("after_ms", "free"), [(14_999, False), (15_000, True)])
def test_what_was_not_done_is_tried_again_after_a_wait(
    kind: OutcomeKind, after_ms: int, *, free: bool
) -> None:
    world, decided = flying()
    world.report(decided, kind)
    assert world.tick(1) == ()
    assert flight(world) is None
    again = world.tick(after_ms - 1)
    assert bool(again) is free
    assert world.held() == ({} if free else {"cpu-high": "retry"})
    state = lane(world)
    assert (state.up_ms, state.last_decision) == (None, "")


def test_unconfirmed_blocks_until_it_is_told_what_became_of_it() -> None:
    world, decided = flying()
    world.report(decided, OutcomeKind.UNCONFIRMED)
    assert world.wait(60 * MINUTE) == ()
    assert world.held() == {"cpu-high": "in-flight"}
    world.report(decided, OutcomeKind.NOT_APPLIED, stale=True)
    world.tick()
    assert flight(world) is None


def test_unconfirmed_and_then_applied_is_applied() -> None:
    world, decided = flying()
    world.report(decided, OutcomeKind.UNCONFIRMED)
    world.tick()
    world.apply(decided)
    quiet(world)
    world.tick()
    assert flight(world) is None
    assert lane(world).last_decision == decided.id


@pytest.mark.parametrize("kind", [OutcomeKind.UNCONFIRMED, OutcomeKind.NOT_APPLIED])
def test_a_late_word_of_another_executor_does_not_undo_applied(kind: OutcomeKind) -> None:
    world, decided = flying()
    world.apply(decided, running=2)
    world.tick()
    world.report(decided, kind)
    world.tick()
    now = flight(world)
    assert now is not None
    assert now.phase is Phase.APPLIED


def test_would_apply_frees_at_once_and_starts_the_cooldown() -> None:
    world, decided = flying(scale_up(cooldown_ms=MINUTE))
    world.report(decided, OutcomeKind.WOULD_APPLY)
    told_ms = world.now_ms
    world.tick()
    assert flight(world) is None
    assert lane(world).up_ms == told_ms
    assert lane(world).last_decision == ""
    assert world.held() == {"cpu-high": "cooldown"}


def test_an_outcome_counts_in_the_tick_after_it_was_written() -> None:
    world, decided = flying()
    written_ms = world.now_ms + STEP
    world.now_ms = written_ms
    world.report(decided, OutcomeKind.REFUSED)
    world.now_ms -= STEP
    world.tick()
    assert flight(world) is not None
    world.tick()
    assert flight(world) is None


def test_an_outcome_of_something_else_tells_nothing() -> None:
    world, decided = flying()
    world.report(dataclasses.replace(decided, id="another"), OutcomeKind.APPLIED)
    other = dataclasses.replace(decided, service="removed")
    world.services["removed"] = world.services["web"]
    world.report(other, OutcomeKind.APPLIED)
    del world.services["removed"]
    before = world.state.services["web"].lanes
    world.tick()
    assert world.state.services["web"].lanes == before


# settling


def test_applied_is_settled_when_as_many_run_as_are_wanted() -> None:
    world, decided = flying()
    world.apply(decided, running=2)
    quiet(world)
    world.tick()
    assert flight(world) is not None
    world.running["web"] = 3
    world.tick()
    assert flight(world) is None


@pytest.mark.parametrize(("wait_ms", "free"), [(10 * MINUTE - STEP, False), (10 * MINUTE, True)])
def test_what_does_not_come_about_is_settled_by_its_time_out(wait_ms: int, *, free: bool) -> None:
    world, decided = flying()
    world.apply(decided, running=2)
    quiet(world)
    world.wait(wait_ms)
    assert (flight(world) is None) is free


@pytest.mark.parametrize(
    ("state", "free"),
    [
        ("", True),
        ("completed", True),
        ("rollback_completed", True),
        ("updating", False),
        ("paused", False),
        ("rollback_started", False),
        ("rollback_paused", False),
    ],
)
def test_a_rollout_that_goes_on_is_not_settled(state: str, *, free: bool) -> None:
    world, decided = flying()
    world.apply(decided)
    world.alter(update_state=state)
    quiet(world)
    world.tick()
    assert (flight(world) is None) is free


def test_an_inventory_from_before_the_change_settles_nothing() -> None:
    world, decided = flying()
    world.report(decided, OutcomeKind.APPLIED, index=world.services["web"].index + 1)
    quiet(world)
    world.tick()
    assert flight(world) is not None


# cooldowns


@pytest.mark.parametrize(("after_ms", "acts"), [(3 * MINUTE - 1, False), (3 * MINUTE, True)])
def test_up_waits_its_cooldown_after_up(after_ms: int, *, acts: bool) -> None:
    world, decided = flying(scale_up(cooldown_ms=3 * MINUTE))
    world.apply(decided)
    told_ms = world.now_ms
    world.tick()
    decided_next = world.tick(told_ms + after_ms - world.now_ms)
    assert bool(decided_next) is acts
    if not acts:
        assert world.held() == {"cpu-high": "cooldown"}


def test_up_does_not_wait_for_a_down() -> None:
    world, decided = flying(scale_down(when=ALWAYS, cooldown_ms=60 * MINUTE))
    world.apply(decided)
    world.tick()
    world.rules = dataclasses.replace(world.rules, rules=(scale_up(cooldown_ms=60 * MINUTE),))
    assert [d.rule for d in world.tick()] == ["cpu-high"]


@pytest.mark.parametrize(("after_ms", "acts"), [(3 * MINUTE - 1, False), (3 * MINUTE, True)])
def test_down_waits_its_cooldown_after_down(after_ms: int, *, acts: bool) -> None:
    world, decided = flying(scale_down(when=ALWAYS, cooldown_ms=3 * MINUTE, minimum=0))
    world.apply(decided)
    told_ms = world.now_ms
    world.tick()
    assert bool(world.tick(told_ms + after_ms - world.now_ms)) is acts


@pytest.mark.parametrize(
    ("cooldown_ms", "wait_ms"),
    [(0, 15 * MINUTE), (14 * MINUTE, 15 * MINUTE), (20 * MINUTE, 20 * MINUTE)],
)
@pytest.mark.parametrize("early_ms", [1, 0])
def test_down_comes_at_least_its_window_after_an_up(
    cooldown_ms: int, wait_ms: int, early_ms: int
) -> None:
    world, decided = flying()
    world.apply(decided)
    told_ms = world.now_ms
    quiet(world)
    world.tick()
    low = scale_down(when=CPU_LOW, cooldown_ms=cooldown_ms)
    world.rules = dataclasses.replace(world.rules, rules=(low,))
    world.figures["web"] = 5.0
    assert bool(world.tick(told_ms + wait_ms - early_ms - world.now_ms)) is (early_ms == 0)


# lanes and how many at once


def test_one_action_at_a_time_in_the_cluster() -> None:
    world = scene(scale_up(), figures={"api": 90.0, "web": 90.0})
    (first,) = world.tick()
    assert first.service == "api"
    assert world.held("web") == {"cpu-high": "one-at-a-time"}
    world.tick()
    assert world.held("api") == {"cpu-high": "in-flight"}
    assert world.held("web") == {"cpu-high": "one-at-a-time"}
    world.figures["api"] = 10.0
    world.apply(first)
    assert [d.service for d in world.tick()] == ["web"]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_as_many_at_once_as_the_limits_say(at_once: int) -> None:
    world = scene(scale_up(), figures=dict.fromkeys("abcd", 90.0))
    world.limits = dataclasses.replace(world.limits, actions_at_once=at_once)
    assert [d.service for d in world.tick()] == list("abcd")[:at_once]
    assert world.tick() == ()


def test_services_that_are_not_armed_do_not_spend_the_live_budget() -> None:
    world = scene(scale_up(), figures={"a": 90.0, "b": 90.0, "c": 90.0, "d": 90.0})
    for name in "ac":
        world.put(service(name, labels={}))
    decided = {d.service: d.max_mode for d in world.tick()}
    assert decided == {"a": Mode.DRY_RUN, "b": Mode.LIVE}


def test_a_rule_on_trial_never_blocks_a_real_one() -> None:
    trial = scale_up("a-trial", mode=Mode.DRY_RUN, cooldown_ms=60 * MINUTE)
    world, decided = flying(trial)
    assert decided.max_mode is Mode.DRY_RUN
    real = scale_up("real")
    world.rules = dataclasses.replace(world.rules, rules=(trial, real))
    (acted,) = world.tick()
    assert (acted.rule, acted.max_mode) == ("real", Mode.LIVE)
    assert world.held() == {"a-trial": "in-flight"}
    world.report(decided, OutcomeKind.WOULD_APPLY)
    world.report(acted, OutcomeKind.REFUSED)
    world.tick()
    assert world.held() == {"a-trial": "cooldown", "real": "retry"}
    assert [d.rule for d in world.wait(15_000)] == ["real"]


def test_a_rule_on_trial_respects_real_actions() -> None:
    trial = scale_up("trial", mode=Mode.DRY_RUN, cooldown_ms=MINUTE)
    world, decided = flying()
    world.rules = dataclasses.replace(world.rules, rules=(trial,))
    world.tick()
    assert world.held() == {"trial": "in-flight"}
    world.apply(decided)
    world.tick()
    assert world.held() == {"trial": "cooldown"}


# events


def test_one_event_does_not_act_twice() -> None:
    world = scene(scale_up(when=event_condition()))
    world.happen("oom_killed")
    (decided,) = world.tick()
    world.apply(decided)
    world.tick()
    assert world.wait(2 * MINUTE) == ()
    world.events["oom_killed", "web"].append(Happening(world.now_ms + 1, "web.1"))
    assert len(world.tick()) == 1


@pytest.mark.parametrize(
    ("age_ms", "counts"),
    [(0, True), (10 * MINUTE - 1, True), (10 * MINUTE, False), (-1, False)],
)
def test_events_count_as_long_as_the_rule_looks_back(age_ms: int, *, counts: bool) -> None:
    world = scene(scale_up(when=event_condition(over_ms=10 * MINUTE)))
    world.events["oom_killed", "web"] = [Happening(world.now_ms + STEP - age_ms, "web.1")]
    assert bool(world.tick()) is counts


# the breaker, through decide


def failing(world: Scene, times: int, kind: OutcomeKind = OutcomeKind.NOT_APPLIED) -> None:
    for _ in range(times):
        decided = next(filter(None, (world.tick() for _ in range(20))))
        world.report(decided[0], kind)
    world.tick()


def test_failures_in_a_row_open_the_breaker_and_a_probe_closes_it() -> None:
    world = scene(scale_up())
    failing(world, 3)
    circuits = [world.state.breaker.circuit]
    opened_ms = world.state.breaker.opened_ms
    assert world.wait(50_000) == ()
    assert world.last is not None
    assert [held.words for held in world.last.held] == ["the breaker around Docker is open"]
    (probe,) = world.tick(opened_ms + 60_000 - world.now_ms)
    circuits.append(world.state.breaker.circuit)
    assert world.state.breaker.probe == probe.id
    world.apply(probe)
    world.tick()
    circuits.append(world.state.breaker.circuit)
    assert circuits == [Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED]


def test_an_unconfirmed_write_counts_as_a_failure() -> None:
    world = scene(scale_up(), figures=dict.fromkeys("abc", 90.0))
    world.limits = dataclasses.replace(world.limits, actions_at_once=3)
    for decided in world.tick():
        world.report(decided, OutcomeKind.UNCONFIRMED)
    world.tick()
    assert world.state.breaker.circuit is Circuit.OPEN


@pytest.mark.parametrize("stale", [True, False])
def test_somebody_elses_change_is_no_failure(*, stale: bool) -> None:
    world, decided = flying()
    world.report(decided, OutcomeKind.NOT_APPLIED, stale=stale)
    world.tick()
    assert world.state.breaker.failures == (0 if stale else 1)


def test_dry_run_decisions_tell_nothing_of_docker_and_need_no_breaker() -> None:
    world = scene(scale_up())
    failing(world, 3)
    world.put(service("other", labels={}))
    world.figures["other"] = 90.0
    (decided,) = world.tick()
    assert (decided.service, decided.max_mode) == ("other", Mode.DRY_RUN)
    before = world.state.breaker
    world.report(decided, OutcomeKind.NOT_APPLIED)
    world.tick()
    assert world.state.breaker == before


def half_open(at_once: int = 1) -> tuple[Scene, tuple[Decision, ...]]:
    world = scene(scale_up(), figures={"a": 90.0})
    failing(world, 3)
    world.limits = dataclasses.replace(world.limits, actions_at_once=at_once)
    world.put(service("b"), service("c"))
    world.figures |= {"b": 90.0, "c": 90.0}
    return world, world.tick(2 * MINUTE)


def test_half_open_lets_one_probe_through_however_many_may_act_at_once() -> None:
    world, decided = half_open(at_once=3)
    assert len(decided) == 1
    waiting = {"a", "b", "c"} - {decided[0].service}
    for _ in range(2):
        assert {world.held(name).get("cpu-high") for name in waiting} == {"breaker"}
        assert world.tick() == ()


def test_a_probe_whose_flight_expires_is_abandoned_and_another_sent() -> None:
    world, (probe,) = half_open()
    assert world.state.breaker.probe == probe.id
    (another,) = world.tick(EXPIRY + STEP)
    assert world.state.breaker.circuit is Circuit.HALF_OPEN
    assert another.service != probe.service
    assert world.state.breaker.probe == another.id


def test_a_probe_whose_service_is_removed_is_abandoned() -> None:
    world, (probe,) = half_open()
    del world.services[probe.service]
    (another,) = world.tick()
    assert world.state.breaker.probe == another.id


def test_a_probe_that_was_refused_is_abandoned() -> None:
    world, (probe,) = half_open()
    world.report(probe, OutcomeKind.REFUSED)
    (another,) = world.tick()
    assert another.service != probe.service
    assert world.state.breaker.probe == another.id


def test_a_probe_that_fails_opens_the_breaker_again() -> None:
    world, (probe,) = half_open()
    world.report(probe, OutcomeKind.NOT_APPLIED)
    assert world.tick() == ()
    assert world.state.breaker.circuit is Circuit.OPEN


# what a tracking rule's policies count


@pytest.mark.parametrize(
    ("kind", "scaled"),
    [
        (OutcomeKind.APPLIED, ((-1, 2), (0, 1))),
        (OutcomeKind.WOULD_APPLY, ((-1, 2), (0, 1))),
        (OutcomeKind.REFUSED, ((-1, 2),)),
        (OutcomeKind.NOT_APPLIED, ((-1, 2),)),
        (OutcomeKind.UNCONFIRMED, ((-1, 2),)),
    ],
)
def test_a_durable_step_of_a_tracking_rule_is_kept_beside_its_earlier_ones(
    kind: OutcomeKind, scaled: tuple[tuple[int, int], ...]
) -> None:
    world, decided = flying()
    at_ms = world.now_ms
    known = TrackState(((at_ms, 2),), ((at_ms - 1, 2),))
    state = dataclasses.replace(
        world.state.services["web"], tracks={"cpu-high": known, "other": known}
    )
    report = outcome(decided, kind)
    after = concluded(state, world.state.breaker, report, at_ms, world.limits).service.tracks
    assert after["cpu-high"].scaled == tuple((at_ms + ago, change) for ago, change in scaled)
    assert after["cpu-high"].recommendations == known.recommendations
    assert after["other"] == known
