"""What a tick says as a whole: its words, its time, its order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.actions import Escalate, RaiseMemory, Restart, ScaleUp
from autoheal.core.decision.decide import decide
from autoheal.core.decision.evidence import describe
from autoheal.core.limits import Limits
from autoheal.core.rule import Aggregate, Comparison, Limit, Rule, RuleSet
from autoheal.core.state import State
from autoheal.core.view.fold import Happening
from autoheal.model import ActionKind, Evidence, Mode, OutcomeKind, Service, ServiceMode
from autoheal.records import decision_body, identified
from autoheal.units import Size
from builders import (
    ARMED,
    BRISK,
    CPU_HIGH,
    HOUR,
    MINUTE,
    NOW,
    STEP,
    Scene,
    escalate,
    event_condition,
    metric_condition,
    rule,
    rule_set,
    scale_down,
    scale_up,
    scene,
    service,
)


def test_a_decision_says_everything_about_itself() -> None:
    rule = scale_up(for_ms=90_000)
    world = scene(rule)
    (made,) = world.wait(2 * MINUTE)
    now_ms = NOW + STEP + 90_000
    assert made == identified(made)
    assert dataclasses.asdict(dataclasses.replace(made, id="")) == {
        "id": "",
        "action": ActionKind.SCALE_UP,
        "service": "web",
        "service_name": "web",
        "start": 2,
        "target": 3,
        "version": 10,
        "rule": "cpu-high",
        "rule_hash": rule.hash,
        "rule_set": world.rules.hash,
        "reason": ("mean cpu_percent over 2m is 90, above 80 for 1m30s: scale up from 2 to 3"),
        "evidence": ({"what": "mean cpu_percent over 2m", "value": 90.0, "bound": "above 80"},),
        "severity": "",
        "tick": 19,
        "epoch": 1,
        "max_mode": Mode.LIVE,
        "decided_at_ms": now_ms,
        "expires_at_ms": now_ms + MINUTE,
    }


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        (
            scale_up(when=metric_condition(over_tasks=Aggregate.MAX, comparison=Comparison.BELOW)),
            Evidence("max over tasks, mean cpu_percent over 2m", 7.5, "below 80"),
        ),
        (
            scale_up(when=metric_condition(comparison=Comparison.AT_MOST, threshold=0.25)),
            Evidence("mean cpu_percent over 2m", 7.5, "at most 0.25"),
        ),
        (
            scale_up(when=event_condition()),
            Evidence("oom_killed events in 10m", 1.0, "at least 1"),
        ),
        (
            scale_up(when=event_condition("task_failed", exit_codes=(1, 125))),
            Evidence("task_failed (exit code 1 to 125) events in 10m", 0.0, "at least 1"),
        ),
        (
            scale_up(when=event_condition("task_failed", exit_codes=(137, 137))),
            Evidence("task_failed (exit code 137) events in 10m", 0.0, "at least 1"),
        ),
        (
            scale_up(when=event_condition("task_rejected", reason="image")),
            Evidence("task_rejected (image) events in 10m", 0.0, "at least 1"),
        ),
        (
            scale_up(when=metric_condition(over_time=Aggregate.SLOPE)),
            Evidence("mean over tasks, slope of cpu_percent per minute over 2m", 7.5, "above 80"),
        ),
        (
            scale_up(when=metric_condition("tasks_missing", over_time=Aggregate.MIN)),
            Evidence("min tasks_missing over 2m", 7.5, "above 80"),
        ),
    ],
)
def test_evidence_is_told_in_words(rule: Rule, evidence: Evidence) -> None:
    world = scene(rule, figures={"web": 7.5})
    world.tick()
    world.happen("oom_killed")
    state = world.state.services["web"]
    now = (world.now_ms, world.snapshot())
    assert describe(rule, world.services["web"], state, now) == (evidence,)


def test_time_may_stand_still_and_never_goes_back() -> None:
    world = scene(scale_up())
    world.tick()
    snapshot = world.snapshot()
    with pytest.raises(ValueError, match="time went back from 1700000405000 to 1700000404999"):
        decide(world.rules, world.limits, world.state, snapshot, world.now_ms - 1)
    again = decide(world.rules, world.limits, world.state, snapshot, world.now_ms)
    assert again.state.tick == 2


def test_every_tick_is_counted_and_names_its_rules_and_epoch() -> None:
    world = scene(scale_up())
    world.tick()
    world.tick()
    state = world.state
    assert (state.tick, state.now_ms, state.epoch) == (2, world.now_ms, 1)
    assert state.rule_set == world.rules.hash


def test_deciding_changes_nothing_that_it_was_given() -> None:
    world = scene(scale_up(), escalate())
    world.tick()
    before, snapshot = world.state, world.snapshot()
    copy = dataclasses.replace(before)
    for _ in range(2):
        decide(world.rules, world.limits, before, snapshot, world.now_ms + STEP)
    assert before == copy


def test_a_rule_looks_only_at_the_services_it_matches() -> None:
    world = scene(scale_up(match="web-*"), figures={"web-1": 90.0, "api": 90.0})
    assert [d.service for d in world.tick()] == ["web-1"]


def test_stronger_rules_go_first_through_the_whole_cluster() -> None:
    low = metric_condition("cpu_percent", MINUTE, Comparison.BELOW, 20.0)
    world = scene(
        scale_up("weak", match="a"),
        scale_up("strong", priority=1, match="c"),
        scale_up("other", when=low, match="b"),
        figures={"a": 90.0, "b": 10.0, "c": 90.0},
    )
    world.limits = dataclasses.replace(world.limits, actions_at_once=9)
    assert [d.service for d in world.tick()] == ["c", "b", "a"]


def test_the_defaults_are_those_that_are_promised() -> None:
    assert Limits() == Limits(
        step_ms=5_000,
        deploy_hold_ms=600_000,
        operator_hold_ms=300_000,
        warm_up_ms=300_000,
        settle_timeout_ms=600_000,
        decision_expiry_ms=60_000,
        retry_ms=15_000,
        inventory_stale_ms=60_000,
        breaker_failures=3,
        breaker_cool_off_ms=60_000,
        actions_at_once=1,
        missed_ticks=3,
    )


counts = st.integers(0, 12)


@given(
    current=counts,
    maximum=st.integers(1, 10),
    by=st.integers(1, 5),
    figure=st.none() | st.sampled_from([10.0, 90.0]),
    labelled=st.booleans(),
)
def test_no_decision_passes_its_bound_or_its_step(
    current: int, maximum: int, by: int, figure: float | None, *, labelled: bool
) -> None:
    world = scene(scale_up(maximum=maximum, by=by))
    shown = service(replicas=current)
    world.put(shown if labelled else dataclasses.replace(shown, labels={}))
    world.figures["web"] = figure
    for made in world.tick():
        assert figure == 90.0
        assert made.start == current
        assert current < made.target <= min(maximum, current + by)
        assert (made.max_mode is Mode.LIVE) is labelled


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_in_which_services_became_known_does_not_matter(order: list[str]) -> None:
    rules = rule_set(scale_up(), escalate(when=event_condition()))

    def run(names: list[str]) -> list[bytes]:
        world = Scene(rules=rules)
        for name in names:
            world.put(service(name))
            world.figures[name] = 90.0
            world.events["oom_killed", name] = [Happening(NOW, f"{name}.1")]
        said = [decision_body(made) for made in world.tick()]
        return said + [decision_body(made) for made in world.tick()]

    assert run(order) == run(sorted(order))


def test_the_first_tick_of_all_starts_from_nothing() -> None:
    world = scene(scale_up(when=CPU_HIGH, for_ms=STEP))
    assert world.state == State()
    assert world.tick() == ()
    assert len(world.tick()) == 1


def test_of_equals_whoever_has_waited_longest_goes_first() -> None:
    world = scene(scale_up(cooldown_ms=0), figures={"a": 90.0, "b": 90.0})
    order = []
    for _ in range(4):
        (made,) = world.tick(MINUTE)
        order.append(made.service)
        world.report(made, OutcomeKind.WOULD_APPLY)
    assert order == ["a", "b", "a", "b"]


def test_lost_samples_do_not_shorten_the_wait_of_a_rule() -> None:
    """What was FALSE in between, and is not known now, would have started the wait over."""
    world = scene(scale_up(for_ms=10 * MINUTE))
    (made,) = world.wait(11 * MINUTE)
    world.report(made, OutcomeKind.WOULD_APPLY)
    world.figures["web"] = None
    assert world.wait(30 * MINUTE) == ()
    world.figures["web"] = 90.0
    assert world.wait(9 * MINUTE) == ()
    assert len(world.wait(2 * MINUTE)) == 1


# every rule that fires does something, or is told why not

CALM = metric_condition(threshold=95.0, comparison=Comparison.BELOW)
KILLS = event_condition(over_ms=MINUTE)
Maker = Callable[[str], Rule]
makers: st.SearchStrategy[Maker] = st.sampled_from(
    [
        escalate,
        lambda name: escalate(name, severity="info", mode=Mode.DRY_RUN),
        lambda name: escalate(name, when=KILLS, for_ms=STEP),
        scale_up,
        lambda name: scale_up(name, maximum=2, priority=1),
        lambda name: scale_up(name, mode=Mode.DRY_RUN, for_ms=STEP),
        lambda name: rule(name, ScaleUp(max=10), CPU_HIGH, limit=Limit(1, MINUTE)),
        lambda name: scale_down(name, when=CALM),
        lambda name: scale_down(name, when=CALM, mode=Mode.DRY_RUN, cooldown_ms=MINUTE),
        lambda name: rule(name, Restart(), CPU_HIGH, limit=Limit(1, MINUTE)),
        lambda name: rule(name, Restart(), CPU_HIGH, clears_within_ms=STEP),
        lambda name: rule(name, RaiseMemory(max=Size(2**31)), KILLS),
        lambda name: rule(name, RaiseMemory(max=Size(2**30)), KILLS, otherwise=Escalate()),
    ]
)
rule_sets = st.lists(makers, min_size=1, max_size=6).map(
    lambda made: rule_set(*(make(f"rule-{place}") for place, make in enumerate(made)))
)
shown_services = st.builds(
    service,
    replicas=st.integers(0, 3),
    mode=st.sampled_from([ServiceMode.REPLICATED, ServiceMode.GLOBAL]),
    update_state=st.sampled_from(["", "updating", "completed"]),
    pinned=st.booleans(),
    stateful=st.booleans(),
    restart_condition=st.sampled_from(["any", "none"]),
    labels=st.sampled_from([ARMED, {}, {"autoheal.max": "x"}]),
)
moments = st.lists(
    st.tuples(
        st.sampled_from([10.0, 90.0, 99.0, None]),
        st.booleans(),
        st.sampled_from([None, *OutcomeKind]),
    ),
    min_size=1,
    max_size=12,
)


@given(rules=rule_sets, services=st.lists(shown_services, min_size=1, max_size=3), past=moments)
def test_every_rule_that_fires_acts_or_tells_or_is_held_with_a_reason(
    rules: RuleSet,
    services: list[Service],
    past: list[tuple[float | None, bool, OutcomeKind | None]],
) -> None:
    alarms = {each.name for each in rules.rules if isinstance(each.then, Escalate)}
    world = Scene(rules=rules, limits=dataclasses.replace(BRISK, retry_ms=0))
    world.put(*(dataclasses.replace(s, id=f"s{n}", name=f"s{n}") for n, s in enumerate(services)))
    for figure, is_killed, kind in past:
        for name in world.services:
            world.figures[name] = figure
            if is_killed:
                world.happen("oom_killed", name)
        decided = world.tick()
        assert world.last is not None
        actions = [made for made in decided if made.action is not ActionKind.ESCALATE]
        acting = {(made.service, made.rule) for made in actions}
        held = {(each.service, each.rule) for each in world.last.held}
        assert not acting & held
        assert all(each.words for each in world.last.held)
        for name, state in world.state.services.items():
            firing = {rule for rule, known in state.rules.items() if known.firing}
            telling = alarms & state.escalated.keys()
            quiet = {r for r in firing - telling if (name, r) not in acting | held}
            assert not quiet, f"nobody knows why {quiet} of {name} do nothing"
        if kind is not None:
            for made in actions:
                world.report(made, kind)


def test_a_rule_whose_attempts_came_to_nothing_is_held_while_people_are_told() -> None:
    world = scene(rule("hung", Restart(), CPU_HIGH))
    world.running["web"] = 1
    for _ in range(world.limits.breaker_failures):
        (made,) = world.tick(MINUTE)
        world.report(made, OutcomeKind.REFUSED)
        world.limits = dataclasses.replace(world.limits, handover_ms=MINUTE)
    (told,) = world.tick(MINUTE)
    assert told.action is ActionKind.ESCALATE
    assert world.held() == {"hung": "attempts"}


def test_a_rule_that_acts_after_all_is_not_recorded_as_held() -> None:
    world = scene(
        rule("up", ScaleUp(max=10), CPU_HIGH, limit=Limit(1, HOUR)),
        rule("treat", Restart(), CPU_HIGH),
    )
    (made,) = world.tick()
    world.report(made, OutcomeKind.WOULD_APPLY)
    assert [made.rule for made in world.tick()] == ["treat"]
    assert world.held() == {"up": "limit"}
    assert world.state.services["web"].rules["treat"].held == ""
