"""A rule whose source has no value is held where people see it, and nothing is done by it."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.actions.track import Target, Track
from autoheal.core.decision.sources import is_in_the_dark, sources_of, what_is_missing
from autoheal.core.decision.tick import Held
from autoheal.core.rule import DAY_MS, Combinator, Combined, Period, Rule, Schedule, Zone
from autoheal.core.view.fold import SourceState, Tracked
from autoheal.model import LABEL_ROLE, OutcomeKind, Verdict
from builders import (
    MINUTE,
    NOW,
    SECOND,
    Scene,
    escalate,
    metric_condition,
    rule_set,
    scale_down,
    scale_up,
    scene,
    service,
    source_condition,
)

JOBS = source_condition()
MAILS = source_condition("mails")
FRESH = SourceState(90.0, 5 * SECOND)
STALE = SourceState(None, 2 * MINUTE, "connection refused", NOW - 2 * MINUTE)


def both(first: object, second: object, how: Combinator = Combinator.ALL) -> Combined:
    return Combined(how, (first, second))  # type: ignore[arg-type]  # any two conditions


def dark(*rules: Rule, figures: dict[str, float | None] | None = None) -> Scene:
    """A world in which the source `jobs` has no value."""
    world = scene(*rules, figures=figures)
    world.sources["jobs"] = STALE
    world.figures_for[JOBS] = dict.fromkeys(world.services, None)
    return world


def held_words(world: Scene) -> list[Held]:
    assert world.last is not None
    return list(world.last.held)


def test_it_is_held_on_each_service_it_matches_once_per_tick() -> None:
    world = dark(scale_up(when=JOBS, match="w*"), figures={"web": 1.0, "work": 1.0, "db": 1.0})
    words = "jobs: no value for 2m: connection refused"
    for _ in range(2):
        assert world.tick() == ()
        assert held_words(world) == [
            Held("web", "cpu-high", "source", words),
            Held("work", "cpu-high", "source", words),
        ]
    assert world.state.services["web"].rules == {}


def test_once_there_is_a_value_it_acts() -> None:
    world = dark(scale_up(when=JOBS))
    world.tick()
    world.sources["jobs"] = FRESH
    world.figures_for[JOBS] = {"web": 90.0}
    assert [d.rule for d in world.tick()] == ["cpu-high"]
    assert world.held() == {}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (SourceState(), "jobs: no value yet"),
        (SourceState(error="HTTP 401"), "jobs: no value yet: HTTP 401"),
        (SourceState(None, 0), "jobs: no value for 0s"),
        (SourceState(None, 90_999, "timed out"), "jobs: no value for 1m30s: timed out"),
        (SourceState(None, 61_000), "jobs: no value for 1m1s"),
        (SourceState(0.0, 5_000), ""),
        (SourceState(1.0, 5_000, "timed out", NOW), ""),
    ],
)
def test_what_is_missing_is_told_in_words(state: SourceState, words: str) -> None:
    assert what_is_missing(scale_up(when=JOBS), {"jobs": state}) == words


def test_each_of_its_sources_is_named_that_has_no_value() -> None:
    rule = scale_up(when=both(MAILS, both(JOBS, metric_condition())))
    assert sources_of(rule) == ("mails", "jobs")
    assert what_is_missing(rule, {"mails": SourceState()}) == (
        "mails: no value yet; jobs: no value yet"
    )
    assert what_is_missing(rule, {"mails": FRESH, "jobs": STALE}).startswith("jobs: ")


def test_a_source_that_fails_but_whose_value_still_counts_holds_nobody() -> None:
    world = scene(scale_up(when=JOBS))
    world.sources["jobs"] = dataclasses.replace(FRESH, error="timed out", failing_since_ms=NOW)
    world.figures_for[JOBS] = {"web": None}
    world.tick()
    assert world.held() == {}


@pytest.mark.parametrize(
    ("how", "cpu", "held", "decided"),
    [
        (Combinator.ALL, 90.0, {"cpu-high": "source"}, []),
        (Combinator.ALL, 10.0, {}, []),
        (Combinator.ALL, None, {"cpu-high": "source"}, []),
        (Combinator.ANY, 90.0, {}, ["cpu-high"]),
        (Combinator.ANY, 10.0, {"cpu-high": "source"}, []),
        (Combinator.ANY, None, {"cpu-high": "source"}, []),
    ],
)
def test_it_is_held_only_where_the_source_matters(
    how: Combinator, cpu: float | None, held: dict[str, str], decided: list[str]
) -> None:
    world = dark(scale_up(when=both(JOBS, metric_condition(), how)), figures={"web": cpu})
    assert [made.rule for made in world.tick()] == decided
    assert world.held() == held


def test_a_rule_without_a_source_is_not_held_for_what_else_is_missing() -> None:
    world = scene(scale_up(), figures={"web": None})
    world.tick()
    assert world.held() == {}


def test_outside_its_hours_it_is_not_held() -> None:
    first_minute = Schedule(Zone("UTC", ((0, 0),)), (Period(tuple(range(7)), 0, 1),))
    assert NOW % DAY_MS > 2 * MINUTE
    world = dark(dataclasses.replace(scale_up(when=JOBS), schedule=first_minute))
    world.tick()
    assert world.held() == {}


def test_what_is_off_and_what_is_ours_is_not_acted_on_anyway() -> None:
    world = dark(scale_up(when=JOBS), figures={"off": 1.0, "own": 1.0})
    world.put(service("off", replicas=0), service("own", labels={LABEL_ROLE: "store"}))
    world.tick()
    assert held_words(world) == []


def test_it_blocks_nobody() -> None:
    world = dark(scale_up(when=JOBS), scale_down(when=metric_condition(threshold=50.0)))
    assert [made.rule for made in world.tick()] == ["cpu-low"]
    assert world.held() == {"cpu-high": "source"}


def test_an_alarm_goes_on_while_nobody_can_tell_and_is_shown_as_held() -> None:
    world = dark(escalate(when=JOBS))
    world.sources["jobs"] = FRESH
    world.figures_for[JOBS] = {"web": 90.0}
    assert [made.target for made in world.tick()] == [1]
    world.sources["jobs"] = STALE
    world.figures_for[JOBS] = {"web": None}
    assert world.wait(MINUTE) == ()
    assert world.held() == {"page": "source"}
    world.sources["jobs"] = FRESH
    world.figures_for[JOBS] = {"web": 10.0}
    assert [made.target for made in world.tick()] == [0]


def test_while_it_is_held_it_is_not_pending_and_an_action_in_flight_goes_its_way() -> None:
    world = dark(scale_up(when=JOBS, for_ms=MINUTE))
    world.sources["jobs"] = FRESH
    world.figures_for[JOBS] = {"web": 90.0}
    world.wait(MINUTE)
    (made,) = world.tick()
    world.sources["jobs"] = STALE
    world.figures_for[JOBS] = {"web": None}
    world.tick()
    assert world.held() == {"cpu-high": "source"}
    world.report(made, OutcomeKind.WOULD_APPLY)
    world.tick()
    assert world.state.services["web"].acted == {"cpu-high": (world.now_ms - 5 * SECOND,)}


# what target tracking looks at

CPU = Target(70.0, MINUTE, metric="cpu_percent")
QUEUE = Target(50.0, MINUTE, source="jobs")
ALWAYS = Combined(Combinator.ALL, ())
TRACKING = dataclasses.replace(scale_up(), then=Track((CPU, QUEUE), 1, 9), when=ALWAYS)


def tracking(cpu: float, queued: float | None) -> Scene:
    """Two tasks that use so much of their CPU, and so many jobs in the queue."""
    world = scene(TRACKING)
    world.tracked["web", CPU] = Tracked(values=(cpu, cpu), total=2)
    world.tracked["web", QUEUE] = Tracked(figure=queued, total=2)
    world.sources["jobs"] = FRESH if queued is not None else STALE
    return world


def test_a_target_names_its_source_as_a_condition_does() -> None:
    assert sources_of(TRACKING) == ("jobs",)
    assert what_is_missing(TRACKING, {"jobs": STALE}) == "jobs: no value for 2m: connection refused"


@pytest.mark.parametrize(
    ("cpu", "queued", "held"),
    [(70.0, 50.0, {}), (70.0, None, {"cpu-high": "source"}), (10.0, None, {"cpu-high": "source"})],
)
def test_a_rule_that_tracks_is_held_where_a_silent_target_might_ask_for_more(
    cpu: float, queued: float | None, held: dict[str, str]
) -> None:
    world = tracking(cpu, queued)
    assert world.tick() == ()
    assert world.held() == held
    assert world.state.services["web"].rules["cpu-high"].held == held.get("cpu-high", "")


@pytest.mark.parametrize("targets", [(QUEUE,), (CPU, QUEUE)])
def test_a_rule_that_tracks_is_held_once_and_with_the_reason_of_its_source(
    targets: tuple[Target, ...],
) -> None:
    rule = dataclasses.replace(TRACKING, then=Track(targets, 1, 9))
    world = dark(rule, scale_up("jobs-high", when=JOBS))
    world.tracked["web", CPU] = Tracked(values=(10.0, 10.0), total=2)
    world.tracked["web", QUEUE] = Tracked(total=2)
    world.tick()
    words = "jobs: no value for 2m: connection refused"
    assert held_words(world) == [
        Held("web", "cpu-high", "source", words),
        Held("web", "jobs-high", "source", words),
    ]
    assert world.state.services["web"].rules["cpu-high"].held == "source"


def test_a_rule_that_tracks_is_held_once_even_where_a_stronger_one_goes_first() -> None:
    world = tracking(10.0, None)
    world.rules = rule_set(TRACKING, scale_up("busy", when=metric_condition(threshold=1.0)))
    world.figures["web"] = 90.0
    assert [made.rule for made in world.tick()] == ["busy"]
    assert world.held() == {"cpu-high": "source"}
    assert len(held_words(world)) == 1


def test_what_asks_for_more_already_is_done() -> None:
    world = tracking(100.0, None)
    assert [made.target for made in world.tick()] == [3]
    assert world.held() == {}


@pytest.mark.parametrize(
    ("rule", "verdict", "is_dark"),
    [
        (TRACKING, Verdict.TRUE, False),
        (TRACKING, Verdict.FALSE, True),
        (TRACKING, Verdict.NO_DATA, True),
        (scale_up(when=JOBS), Verdict.TRUE, False),
        (scale_up(when=JOBS), Verdict.FALSE, False),
        (scale_up(when=JOBS), Verdict.NO_DATA, True),
    ],
)
def test_a_rule_that_wants_nothing_is_in_the_dark_if_it_cannot_know(
    rule: Rule, verdict: Verdict, *, is_dark: bool
) -> None:
    assert is_in_the_dark(rule, service(), verdict) is is_dark
