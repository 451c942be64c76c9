"""Whether an action helped, what follows if it did not, and how a person sets it right again."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.actions import Escalate, RaiseMemory, Restart
from autoheal.core.decision.flights import flights
from autoheal.core.rule import Aggregate, Limit, Risk, Rule
from autoheal.core.view.fold import Dated, Happening
from autoheal.model import (
    COMMAND_RESET,
    LABEL_ALLOW,
    LABEL_ENABLE,
    ActionKind,
    Command,
    Decision,
    Mode,
    OutcomeKind,
    ServiceMode,
)
from autoheal.units import Size
from builders import (
    CPU_HIGH,
    HOUR,
    MINUTE,
    STEP,
    Scene,
    event_condition,
    metric_condition,
    rule,
    rule_set,
    scale_down,
    scale_up,
    scene,
    service,
)

MIB = 2**20
ARMED = {LABEL_ENABLE: "true", LABEL_ALLOW: "scale_up,restart,raise_memory"}
CRITICAL = Escalate("critical")
CPU_HIGH_TOO = metric_condition(threshold=1.0)


def restart(*, clears_within_ms: int = 5 * MINUTE, limit: Limit | None = None) -> Rule:
    """Restart while the CPU is high: a condition that a scene sets as it likes."""
    return rule(
        "stuck",
        Restart(),
        CPU_HIGH,
        clears_within_ms=clears_within_ms,
        limit=limit,
        otherwise=CRITICAL,
    )


def hung(*rules: Rule) -> Scene:
    world = scene(*rules, figures={"web": 90.0})
    world.put(service("web", labels=ARMED))
    return world


def restarted(world: Scene) -> Decision:
    """The restart is decided and applied, its rollout is over."""
    (decided,) = world.tick()
    assert decided.action is ActionKind.RESTART
    world.apply(decided)
    return decided


def judgement(world: Scene) -> str:
    incident = world.state.services["web"].incident
    assert incident is not None
    return incident.deeds[-1].judgement


def test_an_action_after_which_the_condition_clears_helped() -> None:
    world = hung(restart())
    restarted(world)
    world.figures["web"] = 10.0
    world.wait(5 * MINUTE)
    assert judgement(world) == ""
    assert world.tick() == ()
    assert world.last is not None
    (judged, closed) = world.last.incidents
    assert [deed.judgement for deed in judged.deeds] == ["RECOVERED"]
    assert closed.end == "remedied"
    assert world.state.services["web"].quarantined == {}


@pytest.mark.parametrize("figure", [90.0, None])
def test_one_after_which_it_does_not_clear_was_ineffective(figure: float | None) -> None:
    world = hung(restart())
    restarted(world)
    world.figures["web"] = figure
    (told,) = world.wait(6 * MINUTE)
    assert judgement(world) == "INEFFECTIVE"
    assert (told.action, told.severity, told.max_mode) == (
        ActionKind.ESCALATE, "critical", Mode.LIVE,
    )  # fmt: skip
    assert "restart did not help" in told.reason
    assert "autoheal reset web stuck" in told.reason
    assert list(world.state.services["web"].quarantined) == ["stuck"]


def test_one_after_which_a_task_is_missing_was_ineffective() -> None:
    world = hung(restart())
    restarted(world)
    world.figures["web"] = 10.0
    world.tick()
    world.running["web"] = 1
    (told,) = world.wait(6 * MINUTE)
    assert told.action is ActionKind.ESCALATE


def test_a_rollout_that_does_not_end_in_time_was_ineffective_at_once() -> None:
    world = hung(restart(clears_within_ms=0))
    decided = restarted(world)
    world.current["web"] = 0
    assert world.wait(world.limits.settle_timeout_ms - STEP) == ()
    (told,) = world.wait(2 * STEP)
    assert told.action is ActionKind.ESCALATE
    incident = world.state.services["web"].incident
    assert incident is not None
    assert [(d.decision, d.judgement) for d in incident.deeds] == [(decided.id, "INEFFECTIVE")]


def test_a_restart_settles_when_every_task_is_of_the_new_spec() -> None:
    world = hung(restart())
    restarted(world)
    world.figures["web"] = 10.0
    world.current["web"] = 0
    world.wait(5 * MINUTE)
    assert world.state.services["web"].trials == {}
    world.current["web"] = 2
    world.tick()
    assert list(world.state.services["web"].trials) == ["stuck"]


def test_while_it_is_judged_the_rule_does_not_act_again() -> None:
    world = hung(restart())
    restarted(world)
    world.wait(MINUTE)
    assert world.held() == {"stuck": "judging"}


def test_a_rule_in_quarantine_never_acts_and_tells_people_each_time() -> None:
    world = hung(restart())
    restarted(world)
    world.wait(6 * MINUTE)
    world.figures["web"] = 10.0
    (over,) = world.wait(MINUTE)
    assert (over.action, over.target) == (ActionKind.ESCALATE, 0)
    world.wait(HOUR)
    world.figures["web"] = 90.0
    (told,) = world.tick()
    assert (told.action, told.target) == (ActionKind.ESCALATE, 1)
    assert "quarantine" in world.held().values()


def test_an_alarm_of_what_did_not_help_lasts_until_the_service_is_whole() -> None:
    world = hung(restart())
    restarted(world)
    world.wait(6 * MINUTE)
    world.figures["web"] = 10.0
    world.running["web"] = 1
    assert world.wait(MINUTE) == ()
    world.running["web"] = 2
    assert [d.target for d in world.tick()] == [0]


@pytest.mark.parametrize(("named", "lifts"), [("stuck", True), ("", True), ("other", False)])
def test_a_person_resets_a_rule_or_all_of_a_service(named: str, *, lifts: bool) -> None:
    world = hung(restart())
    restarted(world)
    world.wait(6 * MINUTE)
    world.figures["web"] = 10.0
    world.wait(MINUTE)
    command = Command(COMMAND_RESET, "web", named, "somebody")
    world.commands.append(Dated(world.now_ms, command))
    world.figures["web"] = 90.0
    decided = world.tick()
    expected = ActionKind.RESTART if lifts else ActionKind.ESCALATE
    assert [d.action for d in decided] == [expected]


def test_a_reset_works_while_the_service_is_still_sick() -> None:
    world = hung(restart())
    restarted(world)
    world.wait(6 * MINUTE)
    world.commands.append(Dated(world.now_ms, Command(COMMAND_RESET, "web", "stuck", "somebody")))
    over, again = world.tick()
    assert (over.target, over.reason) == (0, "resolved: a person reset the rule")
    assert again.action is ActionKind.RESTART


def test_a_command_is_obeyed_once() -> None:
    world = hung(restart())
    restarted(world)
    world.commands.append(Dated(world.now_ms, Command(COMMAND_RESET, "web", "", "somebody")))
    world.wait(6 * MINUTE)
    assert list(world.state.services["web"].quarantined) == ["stuck"]


def test_a_command_for_a_service_that_is_gone_does_nothing() -> None:
    world = hung(restart())
    world.commands.append(Dated(world.now_ms, Command(COMMAND_RESET, "gone", "", "somebody")))
    assert [d.action for d in world.tick()] == [ActionKind.RESTART]


@pytest.mark.parametrize("change", [{"content": "content-2"}, {"force_update": 7}])
def test_what_somebody_else_changed_meanwhile_is_not_judged(change: dict[str, object]) -> None:
    world = hung(restart())
    restarted(world)
    world.wait(MINUTE)
    world.alter("web", **change)
    world.tick()
    assert world.state.services["web"].trials == {}
    assert judgement(world) == ""


def test_a_dry_run_is_not_judged() -> None:
    world = hung(restart())
    world.put(service("web", labels={}))
    (decided,) = world.tick()
    world.report(decided, OutcomeKind.WOULD_APPLY)
    world.wait(10 * MINUTE)
    assert judgement(world) == ""
    assert world.state.services["web"].quarantined == {}


# limits, and what is done otherwise


def raising(**changes: object) -> Rule:
    action = RaiseMemory(max=Size(2048 * MIB))
    limit = Limit(2, HOUR)
    return rule(
        "oom", action, event_condition(), limit=limit, otherwise=CRITICAL, **changes  # type: ignore[arg-type]  # any by name
    )  # fmt: skip


def killed(world: Scene) -> None:
    """The kernel kills a task at the present limit, right after this tick."""
    limit = world.services["web"].memory_limit
    happening = Happening(world.now_ms + 1, "web.1", memory_limit=limit)
    world.events.setdefault(("oom_killed", "web"), []).append(happening)


def starved(rule_: Rule) -> Scene:
    world = scene(rule_, figures={"web": 10.0})
    world.put(service("web", labels=ARMED, memory_limit=64 * MIB))
    world.tick()
    return world


def test_memory_is_raised_from_the_limit_at_the_kill_and_once_per_kill() -> None:
    world = starved(raising())
    killed(world)
    (decided,) = world.tick()
    assert (decided.action, decided.start, decided.target) == (
        ActionKind.RAISE_MEMORY, 64 * MIB, 164 * MIB,
    )  # fmt: skip
    world.apply(decided)
    assert world.wait(20 * MINUTE) == ()


def test_what_the_old_tasks_do_while_they_are_replaced_is_no_new_evidence() -> None:
    world = starved(raising())
    killed(world)
    (decided,) = world.tick()
    world.apply(decided)
    world.current["web"] = 0
    world.tick()
    world.events["oom_killed", "web"].append(
        Happening(world.now_ms, "web.1", memory_limit=64 * MIB)
    )
    world.tick()
    world.current["web"] = 2
    assert world.wait(5 * MINUTE) == ()
    assert world.held() == {}


def test_the_nth_time_people_are_told_how_to_mend_it_for_good() -> None:
    world = starved(raising())
    for _ in range(2):
        killed(world)
        (decided,) = world.tick()
        world.apply(decided)
        world.wait(MINUTE)
    killed(world)
    (told,) = world.tick()
    assert (told.action, told.severity) == (ActionKind.ESCALATE, "critical")
    assert "set deploy.resources.limits.memory to 364M in service web" in told.reason
    assert world.wait(5 * MINUTE) == ()


@pytest.mark.parametrize(("after_ms", "acts"), [(HOUR - 5 * MINUTE, False), (HOUR + MINUTE, True)])
def test_a_limit_counts_our_own_actions_within_its_window(after_ms: int, *, acts: bool) -> None:
    world = starved(raising())
    for _ in range(2):
        killed(world)
        (decided,) = world.tick()
        world.apply(decided)
        world.tick()
    world.wait(after_ms)
    killed(world)
    (next_one,) = world.tick()
    assert (next_one.action is ActionKind.RAISE_MEMORY) is acts


def test_a_reset_lets_a_limit_count_from_nothing_and_forgets_no_evidence() -> None:
    world = starved(raising())
    for _ in range(2):
        killed(world)
        (decided,) = world.tick()
        world.apply(decided)
        world.tick()
    world.commands.append(Dated(world.now_ms, Command(COMMAND_RESET, "web", "oom", "somebody")))
    assert world.tick() == (), "the kills were answered"
    killed(world)
    assert [d.action for d in world.tick()] == [ActionKind.RAISE_MEMORY]


def test_a_risk_that_nobody_asked_for_tells_people_instead() -> None:
    world = starved(raising())
    world.alter(pinned=False)
    world.wait(20 * MINUTE)
    killed(world)
    (told,) = world.tick()
    assert told.action is ActionKind.ESCALATE
    assert world.held() == {"oom": "unpinned"}
    asked = starved(raising(allow_risk=(Risk.UNPINNED,)))
    asked.alter(pinned=False)
    asked.wait(20 * MINUTE)
    killed(asked)
    assert [d.action for d in asked.tick()] == [ActionKind.RAISE_MEMORY]


def test_a_hold_that_passes_tells_nobody() -> None:
    world = starved(raising())
    killed(world)
    world.alter(replicas=3)
    assert world.wait(MINUTE) == ()
    assert world.held() == {"oom": "operator"}


def test_a_scaling_rule_at_its_bound_tells_people_only_if_it_says_so() -> None:
    silent = hung(scale_up(maximum=2))
    assert silent.wait(MINUTE) == ()
    loud = hung()
    loud.rules = rule_set(dataclasses.replace(scale_up(maximum=2), otherwise=CRITICAL))
    (told,) = loud.wait(MINUTE)
    assert told.action is ActionKind.ESCALATE
    assert "the rule's maximum is 2" in told.reason


def test_escalations_for_want_of_a_label_stay_in_dry_run() -> None:
    world = starved(raising())
    world.put(service("web", labels={}, memory_limit=64 * MIB, pinned=False))
    killed(world)
    (told,) = world.tick()
    assert (told.action, told.max_mode) == (ActionKind.ESCALATE, Mode.DRY_RUN)


def test_events_before_a_deploy_are_no_evidence_against_what_was_deployed() -> None:
    world = starved(raising())
    world.limits = dataclasses.replace(world.limits, deploy_hold_ms=MINUTE)
    killed(world)
    world.alter(content="content-2", updated_at_ms=world.now_ms + 2)
    assert world.wait(9 * MINUTE) == ()
    killed(world)
    assert [d.action for d in world.tick()] == [ActionKind.RAISE_MEMORY]


@pytest.mark.parametrize(("percent", "acts"), [(50.0, True), (89.9, False), (95.0, False)])
def test_memory_is_raised_only_where_the_nodes_have_room(percent: float, *, acts: bool) -> None:
    world = starved(raising())
    load = world.loads["node-1"]
    world.loads["node-1"] = dataclasses.replace(load, memory_percent=percent, memory=2048 * MIB)
    killed(world)
    (decided,) = world.tick()
    assert (decided.action is ActionKind.RAISE_MEMORY) is acts


def test_without_the_nodes_figures_memory_is_not_raised() -> None:
    world = starved(raising())
    world.loads.clear()
    killed(world)
    assert world.tick() == ()
    assert world.held() == {"oom": "bound"}


@pytest.mark.parametrize(
    ("change", "told"),
    [({}, True), ({"replicas": 0}, False), ({"update_state": "updating"}, False)],
)
def test_a_bound_is_told_unless_something_that_passes_stands_in_the_way(
    change: dict[str, object], *, told: bool
) -> None:
    world = hung(dataclasses.replace(scale_up(maximum=2), otherwise=CRITICAL))
    world.put(dataclasses.replace(service("web", labels=ARMED), **change))  # type: ignore[arg-type]  # any by name
    assert bool(world.wait(MINUTE)) is told
    own = hung(dataclasses.replace(scale_up(maximum=2), otherwise=CRITICAL))
    own.put(service("web", labels={"autoheal.role": "engine"}))
    assert own.wait(MINUTE) == ()


def test_a_slope_that_reaches_back_past_a_change_says_nothing() -> None:
    climbing = metric_condition("memory_percent", 30 * MINUTE, over_time=Aggregate.SLOPE)
    world = hung(rule("leak", Restart(), climbing))
    world.limits = dataclasses.replace(world.limits, deploy_hold_ms=MINUTE)
    world.tick(0)
    world.alter(content="content-2")
    assert world.wait(30 * MINUTE - STEP) == ()
    assert [d.action for d in world.wait(2 * STEP)] == [ActionKind.RESTART]


def test_a_failure_is_treated_though_scaling_is_at_its_bound() -> None:
    world = hung(scale_up(maximum=2), raising())
    world.put(service("web", labels=ARMED, memory_limit=64 * MIB))
    world.tick()
    killed(world)
    assert [d.action for d in world.tick()] == [ActionKind.RAISE_MEMORY]


def test_a_failure_is_treated_though_people_were_told_that_scaling_is_at_its_bound() -> None:
    full = dataclasses.replace(scale_up(maximum=2), otherwise=CRITICAL)
    world = hung(full, raising())
    world.put(service("web", labels=ARMED, memory_limit=64 * MIB))
    assert [d.action for d in world.tick()] == [ActionKind.ESCALATE]
    killed(world)
    assert [d.action for d in world.tick()] == [ActionKind.RAISE_MEMORY]


def test_a_failure_is_told_though_nothing_may_scale_there() -> None:
    world = hung(scale_up(), raising())
    world.put(service("web", labels=ARMED, mode=ServiceMode.GLOBAL, replicas=None))
    world.running["web"] = 2
    world.tick()
    killed(world)
    (told,) = world.tick()
    assert (told.action, told.rule) == (ActionKind.ESCALATE, "oom")
    assert world.held() == {"cpu-high": "mode", "oom": "mode"}


def test_attempts_that_come_to_nothing_are_told_after_the_third() -> None:
    world = hung(restart())
    decided: list[Decision] = []
    for _ in range(60):
        for each in world.tick():
            decided.append(each)
            if each.action is ActionKind.RESTART:
                world.report(each, OutcomeKind.REFUSED)
    assert [d.action for d in decided] == [ActionKind.RESTART] * 3 + [ActionKind.ESCALATE]
    assert "3 attempts to restart came to nothing" in decided[-1].reason
    incident = world.state.services["web"].incident
    assert incident is not None
    assert incident.deeds == ()


def test_decisions_that_nobody_took_up_are_no_failed_attempts() -> None:
    world = hung(restart())
    decided = world.wait(HOUR)
    assert {d.action for d in decided} == {ActionKind.RESTART}
    assert world.state.services["web"].failures == {}


def test_failed_attempts_are_counted_for_each_rule() -> None:
    world = hung(restart(), scale_down("idle", minimum=2, when=CPU_HIGH_TOO))
    for _ in range(40):
        for each in world.tick():
            if each.action is ActionKind.RESTART:
                world.report(each, OutcomeKind.REFUSED)
    assert world.state.services["web"].failures == {"stuck": 3}
    world.figures_for[CPU_HIGH] = {"web": 10.0}
    world.wait(MINUTE)
    assert world.state.services["web"].failures == {}, "though another rule is TRUE all the time"


def test_a_reset_lets_a_rule_try_again_whose_attempts_came_to_nothing() -> None:
    world = hung(restart())
    for _ in range(40):
        for each in world.tick():
            if each.action is ActionKind.RESTART:
                world.report(each, OutcomeKind.REFUSED)
    world.commands.append(Dated(world.now_ms, Command(COMMAND_RESET, "web", "stuck", "somebody")))
    over, again = world.tick()
    assert (over.target, again.action) == (0, ActionKind.RESTART)


def test_attempts_are_forgotten_once_nothing_is_wanted_any_more() -> None:
    world = hung(restart())
    for _ in range(40):
        for each in world.tick():
            if each.action is ActionKind.RESTART:
                world.report(each, OutcomeKind.REFUSED)
    world.figures["web"] = 10.0
    world.wait(MINUTE)
    world.figures["web"] = 90.0
    assert [d.action for d in world.tick()] == [ActionKind.RESTART]


def test_what_somebodys_change_overtook_is_no_failed_attempt() -> None:
    world = hung(restart())
    for _ in range(60):
        for each in world.tick():
            assert each.action is ActionKind.RESTART
            world.report(each, OutcomeKind.REFUSED, stale=True)


def test_a_long_rollout_is_given_time_for_as_long_as_it_moves() -> None:
    world = hung(restart())
    world.put(service("web", labels=ARMED, replicas=4))
    decided = restarted(world)
    world.figures["web"] = 10.0
    for replaced in range(4):
        world.current["web"] = replaced
        assert world.wait(9 * MINUTE) == ()
        assert [f.decision for _, f in flights(world.state.services["web"])] == [decided.id]
    world.current["web"] = 4
    world.tick()
    assert list(world.state.services["web"].trials) == ["stuck"]


def test_tasks_that_come_and_go_are_no_progress() -> None:
    world = hung(restart())
    world.put(service("web", labels=ARMED, replicas=4))
    restarted(world)
    world.figures["web"] = 10.0
    for minute in range(30):
        world.current["web"] = 1 + minute % 2
        world.wait(MINUTE)
        if not list(flights(world.state.services["web"])):
            break
    assert 10 <= minute <= 13


def test_a_slope_is_judged_once_it_can_be_told() -> None:
    climbing = metric_condition("memory_percent", 30 * MINUTE, over_time=Aggregate.SLOPE)
    leak = rule("leak", Restart(), climbing, clears_within_ms=10 * MINUTE)
    world = hung(leak)
    (decided,) = world.tick()
    world.apply(decided)
    world.figures["web"] = 1.0
    assert world.wait(29 * MINUTE) == ()
    assert list(world.state.services["web"].trials) == ["leak"]
    assert world.wait(2 * MINUTE) == ()
    assert world.state.services["web"].quarantined == {}
    assert world.state.services["web"].trials == {}


def test_a_roll_that_was_only_shown_hides_no_slope() -> None:
    climbing = metric_condition("memory_percent", 30 * MINUTE, over_time=Aggregate.SLOPE)
    trial = rule("trial", Restart(), CPU_HIGH, mode=Mode.DRY_RUN)
    world = hung(trial, rule("leak", Restart(), climbing, for_ms=10 * MINUTE))
    (shown,) = world.tick()
    world.report(shown, OutcomeKind.WOULD_APPLY)
    assert ActionKind.RESTART in {d.action for d in world.wait(11 * MINUTE) if d.rule == "leak"}


@pytest.mark.parametrize("word", ["paused", "rollback_paused", "rollback_completed"])
def test_a_rollout_that_swarm_gives_up_has_not_helped(word: str) -> None:
    world = hung(restart())
    restarted(world)
    world.current["web"] = 1
    world.tick()
    before = world.services["web"]
    world.put(dataclasses.replace(before, index=before.index + 1, update_state=word))
    world.tick()
    assert judgement(world) == "INEFFECTIVE"
