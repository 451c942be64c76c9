"""`autoheal status` as people see it, and what it makes of a state."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import builders
from autoheal import status
from autoheal.core.decision import changes
from autoheal.core.limits import HOUR_MS, Limits
from autoheal.core.rule import Combinator, Combined
from autoheal.core.state import Alarm, Page, ServiceState, State
from autoheal.model import Incident, Mode
from autoheal.status import (
    DecisionLine,
    IncidentLine,
    PageLine,
    QuarantineLine,
    RuleLine,
    ServiceLine,
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
    decisions=(DECIDED,),
    memory={"events": "2h back, 10 entries, 4KiB"},
)


def test_what_people_see_is_as_it_was_agreed() -> None:
    assert status.render(SHOWN) == GOLDEN.read_text(), f"if this is meant, write it to {GOLDEN}"


def test_where_all_is_well_it_says_so() -> None:
    well = dataclasses.replace(SHOWN, outage="", pages=(), services=(QUIET,))
    shown = status.render(well)
    assert "TROUBLE: none\n" in shown
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
