"""`autoheal status` as people see it, and what it makes of a state."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import builders
from autoheal import status
from autoheal.actions.track import Target, Track
from autoheal.core.decision import changes
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import DAY_MS, Combinator, Combined, Period, Rule, Schedule, Zone
from autoheal.core.state import Alarm, Page, ServiceState, State
from autoheal.core.view.fold import SourceState, Tracked
from autoheal.model import Incident, Mode
from autoheal.status import (
    DecisionLine,
    IncidentLine,
    PageLine,
    QuarantineLine,
    RuleLine,
    ServiceLine,
    SourceLine,
    Status,
)

GOLDEN = Path(__file__).with_name("status.golden")
NOW = builders.NOW
KILLED = builders.event_condition()
BUSY = builders.metric_condition()

QUIET = ServiceLine("shop_db", "1/1", "watch only", "", None, (), (), (), ())
SICK = ServiceLine(
    name="shop_web",
    tasks="2/3",
    may="restart",
    in_flight="restart 3->4 decided",
    incident=IncidentLine("4m10s", "task_failed, exit code 1", "crash-loop"),
    quarantined=(QuarantineLine("stuck", "2h"),),
    label_mistakes=('autoheal.max "x" is not a whole number from 1 to 10000',),
    pages=(
        PageLine("shop_web", "crash-loop", "critical", "live"),
        PageLine("shop_web", "node-down", "warning", "live", "node worker-2"),
    ),
    rules=(
        RuleLine(
            "crash-loop",
            "firing 4m",
            "task_failed events in 10m 6 (at least 5); mean tasks_stable over 1m 33 (below 100)",
            "",
        ),
        RuleLine("deep-night", "outside its hours", "mean pids over 1m 5 (above 9)", ""),
        RuleLine("pile", "inactive", "mean jobs over 1m no data (above 50)", "source"),
        RuleLine("stuck", "pending 10s", "unhealthy events in 10m 1 (at least 1)", "quarantine"),
    ),
)
DECIDED = DecisionLine(
    at="2026-01-01T00:00:00Z",
    service="shop_web",
    what="raise_memory 128MiB->256MiB",
    rule="oom",
    outcome="REFUSED",
    reason="oom_killed events in 10m is 1, at least 1: raise memory from 128MiB to 256MiB",
    because="the service changed",
)
SHOWN = Status(
    engine="one",
    executor="two",
    tick=7,
    tick_age_s=1.5,
    breaker="closed",
    outage="3m",
    budgets={"dry-run": "0 of 5", "live": "2 of 5"},
    pages=(PageLine("node worker-2", "node-down", "warning", "live"),),
    services=(QUIET, SICK),
    sources=(
        SourceLine("jobs", "no value", "2m", "connection refused"),
        SourceLine("latency", "0.25", "4s", ""),
    ),
    decisions=(DECIDED,),
    memory={"events": "2h back, 10 entries, 4KiB"},
)


def test_what_people_see_is_as_it_was_agreed() -> None:
    assert status.render(SHOWN) == GOLDEN.read_text(), f"if this is meant, write it to {GOLDEN}"


def test_where_all_is_well_it_says_so() -> None:
    well = dataclasses.replace(SHOWN, outage="", pages=(), services=(QUIET,), sources=())
    shown = status.render(well)
    assert "TROUBLE: none\n" in shown
    assert "SOURCE" not in shown, "the rules name none"
    assert "outage" not in shown


def test_programs_get_everything() -> None:
    assert json.loads(status.render_json(SHOWN)) == json.loads(
        json.dumps(dataclasses.asdict(SHOWN))
    )


def lines_of(state: State, scene: builders.Scene) -> dict[str, ServiceLine]:
    found = status._services(scene.rules, state, scene.snapshot(), scene.now_ms)
    return {line.name: line for line in found}


def test_what_is_remembered_of_a_service_is_shown_with_how_long_it_lasts() -> None:
    scene = builders.scene(builders.escalate("page"), builders.scale_up())
    wrong = builders.service(labels={**builders.ARMED, "autoheal.max": "x"})
    scene.services["web"] = wrong
    known = ServiceState(
        "web",
        changes.look(wrong),
        0,
        escalated={
            "page": Alarm("web|live", "critical", Mode.LIVE),
            "node-down": Alarm("node:n1|live", "warning", Mode.LIVE),
        },
        quarantined={"cpu-high": NOW - 2 * HOUR_MS},
        incident=Incident("i", "web", "web", "oom_killed", NOW - 90_500, rule="page"),
    )
    pages = {
        "web|live": Page("d1", "page", "critical", Mode.LIVE, "web", "web"),
        "node:n1|live": Page("d2", "node-down", "warning", Mode.LIVE, "node:n1", "node worker"),
    }
    state = State(services={"web": known}, pages=pages)
    line = lines_of(state, scene)["web"]
    assert line.incident == IncidentLine("1m30s", "oom_killed", "page")
    assert line.quarantined == (QuarantineLine("cpu-high", "2h"),)
    assert line.label_mistakes == ('autoheal.max "x" is not a whole number from 1 to 10000',)
    assert line.may == "watch only", "a service with a mistake in its labels is left alone"
    assert line.pages == (
        PageLine("web", "node-down", "warning", "live", told_by="node worker"),
        PageLine("web", "page", "critical", "live"),
    )
    assert tuple(status._pages(state)) == (PageLine("node worker", "node-down", "warning", "live"),)


def test_each_figure_of_a_condition_is_shown_whether_it_is_what_makes_it_hold_or_not() -> None:
    both = Combined(Combinator.ANY, (KILLED, BUSY))
    scene = builders.scene(builders.escalate("page", when=both), figures={"web": None})
    scene.tick()
    (rule,) = lines_of(scene.state, scene)["web"].rules
    assert rule.reads == (
        "oom_killed events in 10m 0 (at least 1); mean cpu_percent over 2m no data (above 80)"
    )
    scene.happen("oom_killed")
    (rule,) = lines_of(scene.state, scene)["web"].rules
    assert rule.reads.startswith("oom_killed events in 10m 1 (at least 1); mean cpu_percent")


def test_the_hours_actions_are_counted_per_mode() -> None:
    spent = {Mode.LIVE: (NOW - HOUR_MS, NOW - HOUR_MS + 1, NOW)}
    state = State(spent=spent)
    assert status._budget(state, Limits(), Mode.LIVE, NOW) == "2 of 5"
    assert status._budget(state, Limits(actions_per_hour=9), Mode.DRY_RUN, NOW) == "0 of 9"


def line_of(scene: builders.Scene, rule: str) -> RuleLine:
    lines = lines_of(scene.state, scene)["web"].rules
    return next(line for line in lines if line.rule == rule)


def in_the_next_minute(rule: Rule) -> Rule:
    """The rule, in force for a minute from NOW on."""
    minute = NOW % DAY_MS // builders.MINUTE
    period = Period(tuple(range(7)), minute, minute + 1)
    return dataclasses.replace(rule, schedule=Schedule(Zone("UTC", ((0, 0),)), (period,)))


def test_a_rule_outside_its_hours_is_shown_so() -> None:
    scene = builders.scene(in_the_next_minute(builders.escalate("page")))
    scene.tick()
    assert line_of(scene, "page").state == "firing 0s"
    scene.tick(builders.MINUTE - builders.STEP - 1)
    assert line_of(scene, "page").state.startswith("firing")
    scene.tick(1)
    assert line_of(scene, "page").state == "outside its hours"


def test_an_alarm_that_keeps_firing_is_shown_with_how_long_all_has_been_well() -> None:
    page = dataclasses.replace(builders.escalate("page"), keep_firing_ms=HOUR_MS)
    scene = builders.scene(page)
    scene.tick()
    scene.figures["web"] = 10.0
    scene.wait(builders.MINUTE)
    assert line_of(scene, "page").state == "keeps firing, quiet 55s"
    scene.figures["web"] = None
    scene.tick()
    assert line_of(scene, "page").state == "inactive"
    scene.figures["web"] = 90.0
    scene.tick()
    assert line_of(scene, "page").state == "firing 0s"


def test_a_rule_whose_source_has_no_value_is_shown_as_held() -> None:
    jobs = builders.source_condition()
    scene = builders.scene(builders.scale_up(when=jobs), builders.escalate("page"))
    scene.figures_for[jobs] = {"web": None}
    scene.tick()
    line = line_of(scene, "cpu-high")
    assert (line.state, line.held) == ("inactive", "source")
    assert line.reads == "mean jobs over 1m no data (above 50)"
    assert line_of(scene, "page").held == ""
    scene.sources["jobs"] = SourceState(1.0, 0)
    assert line_of(scene, "cpu-high").held == "", "its window is not full yet"


def test_neither_a_rule_outside_its_hours_nor_one_of_a_service_that_is_off_is_held() -> None:
    jobs = builders.source_condition()
    scene = builders.scene(
        in_the_next_minute(builders.escalate("page", when=jobs)), builders.scale_up(when=jobs)
    )
    scene.figures_for[jobs] = {"web": None}
    scene.now_ms += builders.HOUR
    scene.tick()
    assert [line_of(scene, name).held for name in ("page", "cpu-high")] == ["", "source"]
    scene.alter(replicas=0)
    scene.tick()
    assert line_of(scene, "cpu-high").held == ""


def test_what_status_shows_as_held_by_a_source_is_what_the_tick_held() -> None:
    jobs = builders.source_condition()
    either = Combined(Combinator.ANY, (jobs, BUSY))
    scene = builders.scene(
        builders.scale_up("a", when=jobs),
        builders.scale_up("b", when=either),
        builders.escalate("c"),
        figures={"web": 10.0},
    )
    scene.figures_for[jobs] = {"web": None}
    for figure in (10.0, 90.0, None):
        scene.figures["web"] = figure
        scene.tick()
        shown = {line.rule for line in lines_of(scene.state, scene)["web"].rules if line.held}
        assert shown == scene.held().keys()


def test_each_source_is_shown_with_its_value_its_age_and_why_it_cannot_be_read() -> None:
    assert status._source("jobs", SourceState()) == SourceLine("jobs", "no value", "never read", "")
    failing = SourceState(12.5, 61_999, "timed out", NOW)
    assert status._source("jobs", failing) == SourceLine("jobs", "12.5", "1m1s", "timed out")
    stale = SourceState(None, 3 * builders.HOUR)
    assert status._source("jobs", stale) == SourceLine("jobs", "no value", "3h", "")


def test_a_rule_that_tracks_shows_what_its_targets_read() -> None:
    target = Target(70.0, builders.MINUTE, metric="cpu_percent")
    rule = dataclasses.replace(
        builders.scale_up("load"),
        then=Track((target,), 1, 9),
        when=Combined(Combinator.ALL, ()),
    )
    scene = builders.scene(rule)
    scene.tracked["web", target] = Tracked(values=(70.0, 70.0), total=2)
    scene.tick()
    line = line_of(scene, "load")
    assert (line.state, line.held) == ("tracking 0s", "")
    assert line.reads.startswith("mean cpu_percent over 1m is 70, target 70")
    assert lines_of(scene.state, scene)["web"].may == "scale_down,scale_up"
    scene.alter(replicas=0)
    assert line_of(scene, "load").reads == "", "off means that nothing is asked for"
