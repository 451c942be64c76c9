"""Facts in words, the chart, and which decision belongs to which incident."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from autoheal.demo import words
from autoheal.demo.chart import LABEL_WIDTH, Chart
from autoheal.demo.closing import Conclusion, summarise
from autoheal.demo.story import Closing, Concluded, Glance
from autoheal.model import ActionKind, Decision, Incident, IncidentEnd, Mode, OutcomeKind
from autoheal.units import MIB
from demo import stories

MINUTE = stories.MINUTE


@pytest.mark.parametrize(
    ("action", "steps", "told"),
    [
        (ActionKind.SCALE_UP, (2, 3), "scale_up 2 -> 3"),
        (ActionKind.SCALE_DOWN, (3, 2), "scale_down 3 -> 2"),
        (ActionKind.RAISE_MEMORY, (128 * MIB, 256 * MIB), "raise_memory 128MiB -> 256MiB"),
        (ActionKind.RESTART, (4, 5), "restart"),
        (ActionKind.ESCALATE, (0, 1), "page (critical)"),
    ],
)
def test_an_action_is_told_with_where_it_leads(
    action: ActionKind, steps: tuple[int, int], told: str
) -> None:
    decision = stories.decision(0, action, "web", steps, "rule", "because", severity="critical")
    assert words.deed(decision) == told


@pytest.mark.parametrize(
    ("kind", "max_mode", "what", "why"),
    [
        (OutcomeKind.WOULD_APPLY, Mode.LIVE, "would apply (dry run)", ""),
        (OutcomeKind.WOULD_APPLY, Mode.DRY_RUN, "would apply (dry run)", "no label"),
        (OutcomeKind.APPLIED, Mode.LIVE, "applied", "no label"),
        (OutcomeKind.REFUSED, Mode.LIVE, "refused", "no label"),
        (OutcomeKind.NOT_APPLIED, Mode.LIVE, "not applied", "no label"),
        (OutcomeKind.UNCONFIRMED, Mode.LIVE, "not known yet whether applied", "no label"),
    ],
)
def test_an_outcome_is_told_with_its_reason_unless_that_is_the_dry_run(
    kind: OutcomeKind, max_mode: Mode, what: str, why: str
) -> None:
    decision = dataclasses.replace(stories.SCALE, max_mode=max_mode)
    told = words.tell(Concluded(0, decision, stories.outcome(decision, kind, "no label")))
    assert told.what == f"shop_web: scale_up 2 -> 3: {what}"
    assert told.why == why


@pytest.mark.parametrize(
    ("ms", "told"),
    [(-1, "00:00:00"), (999, "00:00:00"), (61_000, "00:01:01"), (90_000_000, "25:00:00")],
)
def test_simulated_time_reads_as_a_clock(ms: int, told: str) -> None:
    assert words.clock(ms) == told


@pytest.mark.parametrize(
    ("live_at_ms", "told"),
    [
        (0, "Live from the start."),
        (20 * MINUTE, "Dry run until 00:20:00, then live."),
        (60 * MINUTE, "Dry run to the end."),
    ],
)
def test_the_opening_says_when_it_goes_live(live_at_ms: int, told: str) -> None:
    opening = dataclasses.replace(stories.OPENING, live_at_ms=live_at_ms, speed=None)
    assert words.opening_lines(opening)[-1] == f"{told} 01:00:00 in all, as fast as it goes."


# the chart


def drawn(
    glances: Sequence[Glance], width: int = 40, height: int = 2, *, plain_ascii: bool = False
) -> Sequence[str]:
    """A chart of an hour: a column is half a minute."""
    chart = Chart(60 * MINUTE)
    for glance in glances:
        chart.add(glance)
    rows = chart.draw(width, height, plain_ascii=plain_ascii)
    return [row[LABEL_WIDTH:] for row in rows]


def glance(half_minute: float, cpu: float | None, replicas: int = 2) -> Glance:
    return Glance(int(half_minute * MINUTE / 2), Mode.LIVE, replicas, replicas, cpu)


@pytest.mark.parametrize(
    ("cpu", "top", "bottom"),
    [
        (0.0, "", ""),
        (0.1, "", "▁"),
        (50.0, "", "█"),
        (56.0, "▁", "█"),
        (100.0, "█", "█"),
        (170.0, "█", "█"),
        (None, "", ""),
    ],
)
def test_cpu_fills_the_rows_from_below(cpu: float | None, top: str, bottom: str) -> None:
    assert drawn([glance(0, cpu)])[:2] == [top, bottom]


def test_a_column_is_the_mean_of_its_glances() -> None:
    assert drawn([glance(0, 0.0), glance(0.5, 50.0)], height=1)[0] == "▂"


def test_a_glance_holds_for_the_time_since_the_last_one() -> None:
    assert drawn([glance(0, 100.0), glance(3, 50.0, 3)])[1:3] == ["████", "23──"]


def test_of_an_hour_that_does_not_fit_the_last_part_is_shown() -> None:
    rows = drawn([glance(at, 100.0 if at >= 100 else 1.0) for at in range(120)], LABEL_WIDTH + 30)
    assert rows[1] == "▁" * 10 + "█" * 20
    assert rows[3] == "00:45 " + "─" * 18 + " 00:59"


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ([2, 2, 2, 3, 3], "2──3─"),
        ([9, 10, 10, 10], "910─"),
        ([2] * 29 + [10], "2" + "─" * 27 + "10"),
    ],
)
def test_replicas_are_a_line_with_a_number_at_each_change(counts: list[int], line: str) -> None:
    glances = [glance(at, 1.0, count) for at, count in enumerate(counts)]
    assert drawn(glances, LABEL_WIDTH + 30)[2] == line


def test_in_ascii_the_chart_is_no_less_a_chart() -> None:
    rows = drawn([glance(0, 100.0), glance(1, 30.0)], plain_ascii=True)
    assert rows == ["#", "#:", "2-", "00:00"]


# the closing


def summary_of(incidents: Sequence[Incident], decisions: Sequence[Conclusion]) -> list[list[str]]:
    """Per incident its decisions, and last those of none."""
    summary = summarise(Closing(0, incidents, decisions, interrupted=False))
    rows = [*(incident.decisions for incident in summary.incidents), summary.others]
    return [[f"{row.deed} by {row.rule.removeprefix('rule ')}" for row in each] for each in rows]


def restart(minute: int, rule: str = "stuck") -> Decision:
    return stories.decision(minute * MINUTE, ActionKind.RESTART, "shop_web", (0, 1), rule, "hung")


def page(minute: int, about: str, *, ends: bool = False) -> Decision:
    steps = (1, 0) if ends else (0, 1)
    return stories.decision(
        minute * MINUTE, ActionKind.ESCALATE, about, steps, "down", "it is", severity="warning"
    )


def trouble(
    opened: int, *, told: int | None = None, over: int | None = None, service: str = "shop_web"
) -> Incident:
    end = IncidentEnd.OPEN if over is None else IncidentEnd.CLEARED
    return stories.incident(
        service,
        "unhealthy",
        opened * MINUTE,
        end,
        detected_ms=opened * MINUTE,
        escalated_ms=None if told is None else told * MINUTE,
        recovered_ms=None if over is None else over * MINUTE,
    )


@pytest.mark.parametrize(
    ("minute", "where"),
    [(1, 2), (2, 0), (5, 0), (6, 2), (7, 1), (60, 1)],
)
def test_an_answer_to_failure_belongs_to_the_incident_that_was_going_on(
    minute: int, where: int
) -> None:
    incidents = (trouble(2, over=5), trouble(7))
    found = summary_of(incidents, [(restart(minute), None)])
    assert [bool(rows) for rows in found].index(True) == where
    assert sum(map(len, found)) == 1


def test_load_belongs_to_no_incident() -> None:
    busy = dataclasses.replace(stories.SCALE, service="shop_web", decided_at_ms=stories.START)
    assert summary_of([trouble(0)], [(busy, None)]) == [[], ["scale_up 2 -> 3 by cpu-high"]]


@pytest.mark.parametrize(
    ("about", "belongs"),
    [
        ("shop_web", True),
        ("shop_db", False),
        ("stack:shop", True),
        ("stack:blog", False),
        ("node:n1", True),
        ("swarm", True),
    ],
)
def test_a_page_belongs_to_the_incidents_that_it_tells_of(about: str, belongs: bool) -> None:
    found = summary_of([trouble(2, told=3)], [(page(3, about), None)])
    assert [bool(rows) for rows in found] == [belongs, not belongs]


def test_a_page_of_the_service_itself_goes_before_one_that_it_shares() -> None:
    both = [(page(3, "node:n1"), None), (page(3, "shop_web"), None)]
    assert [len(rows) for rows in summary_of([trouble(2, told=3)], both)] == [1, 1]


def test_a_page_that_rings_already_tells_of_a_later_incident_too() -> None:
    node = page(3, "node:n1")
    early, late = trouble(2, told=3), trouble(4, told=5, service="blog_web")
    assert [len(rows) for rows in summary_of([early, late], [(node, None)])] == [1, 1, 0]
    over = page(4, "node:n1", ends=True)
    ended = summary_of([early, late], [(node, None), (over, None)])
    assert [len(rows) for rows in ended] == [1, 0, 0]


def test_decisions_that_read_alike_share_a_row() -> None:
    twice = [(restart(1), None), (restart(2), None), (restart(3, "leak"), None)]
    others = summarise(Closing(0, (), twice, interrupted=False)).others
    assert [(row.rule, row.times) for row in others] == [("rule stuck", 2), ("rule leak", 1)]


def test_the_end_of_a_page_is_told_at_the_page_and_counts_as_none() -> None:
    rings = [(page(1, "shop_web"), None), (page(4, "shop_web", ends=True), None)]
    summary = summarise(Closing(0, (), rings, interrupted=False))
    assert [row.outcome for row in summary.others] == ["open, over after 3m"]
    assert summary.counts == "0 incidents; 0 actions; 1 page"
