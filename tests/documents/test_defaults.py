"""The numbers that people are told not to worry about: every default, where it takes effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from autoheal import rulefile
from autoheal.actions import Escalate, RaiseMemory, Restart, ScaleDown, ScaleUp
from autoheal.actions.track import DOWN, UP, Direction, Policy, Select, Track
from autoheal.app.loops import limits_of
from autoheal.core.limits import Limits
from autoheal.core.rule import Comparison, EventCondition, Limit, MetricCondition, Rule, leaves
from autoheal.settings import load_settings

ROOT = Path(__file__).parents[2]
SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
MIB = 2**20


def shipped(pack: str) -> dict[str, Rule]:
    rules = rulefile.load([ROOT / "rules" / pack]).rules.rules
    return {rule.name: rule for rule in rules}


def events(rule: Rule, name: str) -> EventCondition:
    found = [e for e in leaves(rule.when) if isinstance(e, EventCondition) and e.event == name]
    return found[0]


def metric(rule: Rule, name: str) -> MetricCondition:
    found = [m for m in leaves(rule.when) if isinstance(m, MetricCondition) and m.metric == name]
    return found[0]


def test_every_hold_window_and_budget_has_its_cautious_default() -> None:
    limits = limits_of(load_settings({}))
    assert limits.deploy_hold_ms == 10 * MINUTE
    assert limits.operator_hold_ms == 5 * MINUTE
    assert limits.node_hold_ms == 10 * MINUTE
    assert limits.warm_up_ms == 5 * MINUTE
    assert limits.actions_at_once == 1
    assert limits.actions_per_hour == 5
    assert limits.outage_services == 3
    assert limits.outage_percent == 20
    assert limits.outage_window_ms == 5 * MINUTE
    assert limits.group_wait_ms == 30 * SECOND
    assert limits.stable_ms == MINUTE
    assert limits.recovery_ms == MINUTE
    assert limits.saturated_percent == 90
    assert limits.saturated_window_ms == 2 * MINUTE
    assert limits.settle_timeout_ms == 10 * MINUTE


def test_the_settings_defaults_are_those_of_the_core() -> None:
    told = dataclasses.asdict(limits_of(load_settings({})))
    own = dataclasses.asdict(Limits())
    # How long a change of leader may take follows from the lease; it has no default of its own.
    del told["handover_ms"], own["handover_ms"]
    assert told == own


def test_the_scaling_pack_keeps_to_its_numbers() -> None:
    rules = shipped("scaling.yaml")
    up, down = rules["cpu-high"], rules["cpu-low"]
    assert isinstance(up.then, ScaleUp)
    assert isinstance(down.then, ScaleDown)
    assert (up.then.by, down.then.by) == (1, 1), "one step at a time"
    assert down.window_ms == 15 * MINUTE
    assert metric(up, "cpu_percent").threshold == 80
    assert metric(down, "cpu_percent").threshold == 20
    scaling = [rule for rule in rules.values() if not rule.then.heals]
    watched = {m.metric for r in scaling for m in leaves(r.when) if isinstance(m, MetricCondition)}
    assert watched == {"cpu_percent"}, "no scaling on memory"


def test_tracking_moves_as_kubernetes_hpa_does() -> None:
    four_tasks, double = Policy(15 * SECOND, tasks=4), Policy(15 * SECOND, percent=100)
    assert Direction(0, (four_tasks, double), Select.MAX, 0.1) == UP
    assert Direction(5 * MINUTE, (double,), Select.MAX, 0.1) == DOWN
    assert (Track((), 1, 9).up, Track((), 1, 9).down) == (UP, DOWN)


def test_a_kill_for_memory_raises_by_the_larger_of_a_fifth_and_100_mib() -> None:
    oom = shipped("remediation.yaml")["oom"]
    assert isinstance(oom.then, RaiseMemory)
    assert (oom.then.factor, oom.then.add) == (1.2, 100 * MIB)
    assert (RaiseMemory(max=oom.then.max).factor, RaiseMemory(max=oom.then.max).add) == (
        1.2, 100 * MIB,
    )  # fmt: skip
    assert oom.limit == Limit(3, 24 * HOUR)
    assert oom.otherwise == Escalate("critical")


def test_a_crash_loop_is_five_failures_in_ten_minutes_and_not_stable() -> None:
    loop = shipped("remediation.yaml")["crash-loop"]
    failed, stable = events(loop, "task_failed"), metric(loop, "tasks_stable")
    assert (failed.threshold, failed.over_ms) == (5, 10 * MINUTE)
    assert failed.comparison is Comparison.AT_LEAST
    assert (stable.comparison, stable.threshold) == (Comparison.BELOW, 100)
    assert loop.then == Escalate("critical"), "escalated, never restarted"


def test_what_is_stuck_is_restarted_once_and_then_told() -> None:
    stuck = shipped("remediation.yaml")["stuck"]
    assert isinstance(stuck.then, Restart)
    assert stuck.limit == Limit(1, HOUR)
    assert stuck.clears_within_ms == 5 * MINUTE
    assert stuck.otherwise == Escalate("critical")


def test_a_paused_rollout_is_told_after_half_an_hour() -> None:
    paused = shipped("remediation.yaml")["rollout-paused"]
    assert paused.for_ms == 30 * MINUTE
    assert isinstance(paused.then, Escalate)


def test_every_restart_has_a_limit_and_takes_no_risk() -> None:
    for rule in shipped("remediation.yaml").values():
        assert rule.allow_risk == ()
        assert rule.then.leaf is None or (rule.limit is not None and rule.otherwise is not None)
