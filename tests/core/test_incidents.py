"""Incidents: opened by the first evidence, closed by calm, and told apart by what came of them."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.actions import Escalate, Restart
from autoheal.core.decision.incidents import is_of_failure
from autoheal.core.limits import Limits
from autoheal.core.rule import Combinator, Combined, Comparison, Rule, negated
from autoheal.core.view.fold import Happening
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_ENABLE,
    LABEL_ROLE,
    Incident,
    Mode,
    OutcomeKind,
)
from autoheal.records import pack_incident, unpack_incident
from builders import (
    BRISK,
    MINUTE,
    STEP,
    Scene,
    escalate,
    event_condition,
    metric_condition,
    rule,
    scale_up,
    scene,
    service,
    source_condition,
)

UNHEALTHY = event_condition("unhealthy", 15 * MINUTE)
RECOVERY = Limits().recovery_ms


MISSING = metric_condition("tasks_missing", MINUTE, Comparison.AT_LEAST, 50.0)


def sick(*, for_ms: int = 0) -> Rule:
    """People are told of missing tasks."""
    return escalate(when=MISSING, for_ms=for_ms)


def stuck(**changes: object) -> Rule:
    return rule("stuck", Restart(), UNHEALTHY, **changes)  # type: ignore[arg-type]  # any by name


def calm(*rules: Rule) -> Scene:
    """One service that may be restarted, with two replicas, nothing amiss."""
    world = scene(*rules, figures={"web": 10.0})
    armed = {LABEL_ENABLE: "true", LABEL_ALLOW: "restart,raise_memory"}
    world.put(service("web", labels=armed))
    world.tick()
    return world


def written(world: Scene) -> list[Incident]:
    """The records of the last tick."""
    assert world.last is not None
    return list(world.last.incidents)


def until_closed(world: Scene) -> Incident:
    for _ in range(200):
        world.tick()
        if written(world) and written(world)[-1].end != "open":
            return written(world)[-1]
    raise AssertionError("it is never closed")


@pytest.mark.parametrize(
    ("kind", "happening", "words"),
    [
        ("oom_killed", Happening(0, "t"), "oom_killed"),
        ("task_failed", Happening(0, "t", exit_code=3), "task_failed, exit code 3"),
        ("task_rejected", Happening(0, "t", reason="image"), "task_rejected (image)"),
        ("unhealthy", Happening(0, "t"), "unhealthy"),
    ],
)
def test_a_harmful_event_opens_one_at_its_own_time(
    kind: str, happening: Happening, words: str
) -> None:
    world = calm(scale_up())
    at_ms = world.now_ms + 1_000
    world.events[kind, "web"] = [dataclasses.replace(happening, ms=at_ms)]
    world.tick()
    (opened,) = written(world)
    assert (opened.service, opened.opened_ms, opened.evidence) == ("web", at_ms, words)
    assert (opened.end, opened.detected_ms, opened.acted_ms) == ("open", None, None)


def test_that_a_container_ended_is_no_evidence() -> None:
    world = calm(scale_up())
    world.happen("died")
    world.tick()
    assert written(world) == []


LOAD = metric_condition("memory_percent")
STABLE = metric_condition("tasks_stable", MINUTE, Comparison.BELOW, 100.0)


@pytest.mark.parametrize(
    ("rule", "opens"),
    [
        (scale_up(), False),
        (escalate(when=LOAD), False),
        (escalate(when=STABLE), False),
        (escalate(when=negated(MISSING)), False),
        (escalate(when=MISSING, mode=Mode.DRY_RUN), False),
        (escalate(when=MISSING), True),
        (escalate(when=Combined(Combinator.ALL, (LOAD, MISSING))), True),
        (escalate(when=event_condition("died")), False),
        (escalate(when=event_condition("task_failed")), True),
        (stuck(), True),
        (escalate(when=source_condition()), False),
        (escalate(when=Combined(Combinator.ALL, (source_condition(), MISSING))), True),
        (rule("restart", Restart(), source_condition()), True),
        (rule("restart", Restart(), LOAD), True),
        (rule("restart", Restart(), LOAD, mode=Mode.DRY_RUN), False),
    ],
)
def test_failures_are_incidents_and_load_is_none(rule: Rule, *, opens: bool) -> None:
    assert is_of_failure(rule) is opens


def test_people_told_of_load_are_told_of_no_incident() -> None:
    world = calm(escalate(when=LOAD))
    world.figures["web"] = 99.0
    assert [decision.target for decision in world.tick()] == [1]
    assert written(world) == []


def test_a_rule_that_heals_opens_one_when_it_becomes_true() -> None:
    world = calm(sick(for_ms=MINUTE))
    world.figures["web"] = 99.0
    world.tick()
    (opened,) = written(world)
    assert opened.opened_ms == world.now_ms
    assert opened.evidence == "mean tasks_missing over 1m is 99, at least 50"
    assert opened.detected_ms is None


def test_one_failure_that_passes_is_cleared_by_itself() -> None:
    world = calm(sick())
    world.happen("task_failed")
    world.running["web"] = 1
    world.tick()
    world.running["web"] = 2
    world.tick()
    back_ms = world.now_ms
    closed = until_closed(world)
    assert (closed.end, closed.recovered_ms) == ("cleared", back_ms)
    assert world.now_ms == back_ms + RECOVERY
    assert world.state.services["web"].incident is None


def test_a_second_failure_starts_the_calm_over() -> None:
    world = calm(sick())
    world.happen("task_failed")
    world.wait(RECOVERY)
    world.happen("task_failed")
    world.tick()
    again_ms = world.now_ms
    closed = until_closed(world)
    assert closed.recovered_ms is not None
    assert closed.recovered_ms > again_ms - STEP


def test_it_stays_open_while_a_task_is_missing() -> None:
    world = calm(sick())
    world.happen("task_failed")
    world.running["web"] = 1
    world.wait(10 * MINUTE)
    incident = world.state.services["web"].incident
    assert incident is not None
    assert incident.recovered_ms is None


def test_an_action_that_is_applied_makes_it_remedied() -> None:
    world = calm(stuck())
    world.happen("unhealthy")
    opened_ms = world.now_ms
    (decided,) = world.tick()
    detected_ms = world.now_ms
    world.apply(decided)
    acted_ms = world.now_ms
    closed = until_closed(world)
    assert closed.end == "remedied"
    assert (closed.opened_ms, closed.detected_ms, closed.acted_ms) == (
        opened_ms, detected_ms, acted_ms,
    )  # fmt: skip
    (deed,) = closed.deeds
    assert (deed.decision, deed.action, deed.rule) == (decided.id, "restart", "stuck")
    assert (deed.outcome, deed.at_ms) == ("APPLIED", acted_ms)


def test_an_action_in_dry_run_is_told_and_does_not_count_as_a_remedy() -> None:
    world = calm(stuck())
    world.happen("unhealthy")
    (decided,) = world.tick()
    world.report(decided, OutcomeKind.WOULD_APPLY)
    closed = until_closed(world)
    assert (closed.end, closed.acted_ms) == ("cleared", None)
    assert [deed.outcome for deed in closed.deeds] == ["WOULD_APPLY"]


def test_people_who_were_told_make_it_escalated() -> None:
    world = calm(sick())
    world.figures["web"] = 99.0
    world.tick()
    told_ms = world.now_ms
    world.figures["web"] = 10.0
    closed = until_closed(world)
    assert (closed.end, closed.escalated_ms) == ("escalated", told_ms)


def test_a_service_that_is_switched_off_has_none() -> None:
    world = calm(sick())
    world.happen("task_failed")
    world.tick()
    world.alter(replicas=0)
    world.tick()
    assert [(each.end, each.recovered_ms) for each in written(world)] == [("cleared", None)]
    world.happen("task_failed")
    world.tick()
    assert written(world) == []


def test_the_end_of_a_removed_service_is_told() -> None:
    world = calm(sick())
    world.happen("task_failed")
    world.tick()
    del world.services["web"]
    world.tick()
    assert [(each.end, each.recovered_ms) for each in written(world)] == [("cleared", None)]


def test_autoheals_own_parts_have_none() -> None:
    world = scene(sick(), figures={"web": 10.0})
    world.put(service("web", labels={LABEL_ROLE: "engine"}))
    world.tick()
    world.happen("task_failed")
    world.tick()
    assert written(world) == []


@pytest.mark.parametrize(("age_ms", "opens"), [(RECOVERY - 1, True), (RECOVERY, False)])
def test_what_is_long_over_when_it_is_first_seen_is_history(age_ms: int, *, opens: bool) -> None:
    world = calm(sick())
    world.now_ms += 10 * MINUTE
    world.events["task_failed", "web"] = [Happening(world.now_ms + STEP - age_ms, "web.1")]
    world.tick()
    assert bool(written(world)) is opens


def test_a_record_is_written_only_when_something_changed() -> None:
    world = calm(stuck(otherwise=Escalate("critical")))
    world.limits = dataclasses.replace(BRISK, group_wait_ms=30_000)
    world.happen("unhealthy")
    counts = []
    for _ in range(10):
        world.tick()
        counts.append(len(written(world)))
    assert sum(counts) == 2, "opened, detected"


def test_a_record_comes_back_from_its_bytes() -> None:
    world = calm(stuck())
    world.happen("unhealthy")
    (decided,) = world.tick()
    world.apply(decided)
    closed = until_closed(world)
    assert unpack_incident(pack_incident(closed)) == closed


def test_it_lasts_as_long_as_a_page_that_keeps_firing() -> None:
    page = dataclasses.replace(escalate(when=MISSING), keep_firing_ms=10 * MINUTE)
    world = scene(page, figures={"web": 90.0})
    world.tick()
    world.figures["web"] = 0.0
    known = []
    for _ in range(12):
        world.wait(MINUTE)
        known.append(world.state.services["web"].incident is not None)
    assert known == [True] * 11 + [False]
