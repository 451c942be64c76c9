"""What autoheal does in each scenario that ships, played whole by the real command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoheal.cli import demo
from autoheal.demo.day import DEPLOYS, SENTINEL
from autoheal.demo.outage import LEANING
from autoheal.model import ActionKind, IncidentEnd, Mode, OutcomeKind
from demo.demo_process import QUICK, Ended, Line, Place, Running

MINUTE_MS = 60_000
MAKE = Callable[[], Place]


@pytest.fixture(scope="module")
def place() -> Iterator[MAKE]:
    with contextlib.ExitStack() as places:
        yield lambda: places.enter_context(Place())


@pytest.fixture(scope="module", autouse=True)
def day(place: MAKE) -> Running:
    """By far the longest: it plays while the others are looked at."""
    return place().start_unread("--json", "--scenario", "day", *QUICK)


@pytest.fixture(scope="module")
def two_tours(place: MAKE) -> tuple[Ended, Ended]:
    """At once, and unlike in all that must not matter."""
    first, second = (
        place().start_unread("--json", "--speed", speed, PYTHONHASHSEED=seed)
        for speed, seed in (("0", "0"), ("4000", "1"))
    )
    return first.end(), second.end()


@pytest.fixture(scope="module")
def tour(two_tours: tuple[Ended, Ended]) -> Ended:
    return two_tours[0]


@pytest.fixture(scope="module")
def outage(place: MAKE) -> Ended:
    return place().run("--json", "--scenario", "outage", *QUICK)


def of(ended: Ended, service: str) -> list[tuple[str, str, str]]:
    """Action, rule and outcome of every decision on a service, in order."""
    return [
        (made["decision"]["action"], made["decision"]["rule"], kind_of(made))
        for made in ended.decisions
        if made["decision"]["service_name"] == service
    ]


def kind_of(made: Line) -> str:
    return "" if made["outcome"] is None else str(made["outcome"]["kind"])


def services(ended: Ended) -> set[str]:
    return {made["decision"]["service_name"] for made in ended.decisions}


def incidents(ended: Ended, service: str) -> list[Line]:
    return [i for i in ended.lines[-1]["incidents"] if i["service_name"] == service]


def pages(ended: Ended) -> list[tuple[str, str, int]]:
    """What it is about, the rule, and whether it begins (1) or ends (0)."""
    made = [each["decision"] for each in ended.decisions]
    return [(d["service_name"], d["rule"], d["target"]) for d in made if d["action"] == "escalate"]


def at_ms(ended: Ended, words: str) -> int:
    (happened,) = (h for h in ended.told("happened") if words in h["words"])
    return int(happened["at_ms"])


# the tour


def test_the_tour_ends_well_and_says_nothing_else(tour: Ended) -> None:
    assert (tour.code, tour.errors) == (0, "")
    assert tour.lines[0]["type"] == "opening"
    closing = tour.lines[-1]
    assert closing["type"] == "closing"
    assert closing["at_ms"] == tour.lines[0]["total_ms"]
    assert not closing["interrupted"]


def test_the_tour_shows_every_action(tour: Ended) -> None:
    assert {made["decision"]["action"] for made in tour.decisions} == set(ActionKind)
    applied = {m["decision"]["action"] for m in tour.decisions if kind_of(m) == "APPLIED"}
    assert applied == set(ActionKind)


def test_nothing_is_applied_before_it_goes_live(tour: Ended) -> None:
    live_at_ms = tour.lines[0]["live_at_ms"]
    (went_live,) = tour.told("went_live")
    assert went_live["at_ms"] == live_at_ms
    modes = {
        (line["at_ms"] < live_at_ms, line["outcome"]["mode"], line["outcome"]["kind"])
        for line in tour.told("concluded")
    }
    assert modes == {
        (True, Mode.DRY_RUN, OutcomeKind.WOULD_APPLY),
        (False, Mode.LIVE, OutcomeKind.APPLIED),
        (False, Mode.DRY_RUN, OutcomeKind.WOULD_APPLY),  # wiki, without labels
    }


def test_web_is_scaled_with_its_load_first_only_in_words(tour: Ended) -> None:
    found = of(tour, "web")
    assert [*dict.fromkeys(found)] == [
        ("scale_up", "cpu-high", "WOULD_APPLY"),
        ("scale_up", "cpu-high", "APPLIED"),
        ("scale_down", "cpu-low", "APPLIED"),
    ]
    would = [m["decision"] for m in tour.decisions if kind_of(m) == "WOULD_APPLY"]
    assert {(d["start"], d["target"]) for d in would} == {(2, 3)}, "in dry run nothing changes"
    steps = [
        (m["decision"]["start"], m["decision"]["target"])
        for m in tour.decisions
        if m["decision"]["service_name"] == "web" and kind_of(m) == "APPLIED"
    ]
    assert steps == [(2, 3), (3, 4), (4, 3), (3, 2)]


@pytest.mark.parametrize(
    ("service", "action", "rule", "kind", "end"),
    [
        ("reports", "raise_memory", "oom", "APPLIED", IncidentEnd.REMEDIED),
        ("mailer", "restart", "stuck", "APPLIED", IncidentEnd.REMEDIED),
        ("search", "restart", "leak", "APPLIED", IncidentEnd.REMEDIED),
    ],
)
def test_each_trouble_gets_what_it_deserves(
    tour: Ended, service: str, action: str, rule: str, kind: str, end: str
) -> None:
    assert of(tour, service) == [(action, rule, kind)]
    last = incidents(tour, service)[-1]
    assert (last["rule"], last["end"]) == (rule, end)
    opened, detected = last["opened_ms"], last["detected_ms"]
    assert opened <= detected < last["acted_ms"] < last["recovered_ms"]
    (deed,) = last["deeds"]
    assert deed["action"] == action


def test_a_crash_loop_is_told_to_people_and_its_end_too(tour: Ended) -> None:
    assert pages(tour) == [("checkout", "crash-loop", 1), ("checkout", "crash-loop", 0)]
    assert of(tour, "checkout") == 2 * [("escalate", "crash-loop", "APPLIED")]
    (incident,) = incidents(tour, "checkout")
    assert incident["end"] == IncidentEnd.ESCALATED
    assert incident["acted_ms"] is None
    assert incident["detected_ms"] <= incident["escalated_ms"] < incident["recovered_ms"]


def test_one_crash_is_left_to_swarm(tour: Ended) -> None:
    crash, _leak = incidents(tour, "search")
    assert "task_failed" in crash["evidence"]
    assert (crash["end"], crash["rule"], crash["deeds"]) == (IncidentEnd.CLEARED, "", [])


def test_what_has_no_label_is_only_talked_about_even_when_live(tour: Ended) -> None:
    assert set(of(tour, "wiki")) == {("scale_up", "cpu-high", "WOULD_APPLY")}
    (first, *_) = (c for c in tour.told("concluded") if "autoheal.enable" in c["outcome"]["reason"])
    assert first["at_ms"] > tour.lines[0]["live_at_ms"]


def test_a_jvm_that_sits_near_its_limit_is_left_alone(tour: Ended) -> None:
    assert services(tour) == {"web", "reports", "mailer", "search", "checkout", "wiki"}
    assert incidents(tour, "cache") == []


def test_every_decision_says_why(tour: Ended) -> None:
    for made in tour.decisions:
        decision = made["decision"]
        assert decision["evidence"], decision
        what = decision["evidence"][0]["what"]
        assert what in decision["reason"], decision


def test_the_first_decision_falls_within_ten_seconds_at_the_usual_speed(tour: Ended) -> None:
    usual = next(option.default for option in demo.params if option.name == "speed")
    assert isinstance(usual, float)
    assert tour.told("decided")[0]["at_ms"] / 1000 / usual < 10


# what matters and what does not


def test_the_same_seed_gives_the_same_lines_whatever_the_hash_seed_the_speed_and_the_company(
    two_tours: tuple[Ended, Ended],
) -> None:
    first, second = two_tours
    assert second.code == 0
    assert (first.lines[0]["speed"], second.lines[0]["speed"]) == (None, 4000.0)
    assert first.output.splitlines()[1:] == second.output.splitlines()[1:]


def until_concluded(place: Place, *arguments: str, **environment: str) -> Ended:
    """Its beginning."""
    running = place.start("--json", *QUICK, *arguments, **environment)
    running.read_until('"concluded"')
    return running.stop_reading()


def test_another_seed_gives_other_figures(place: MAKE, tour: Ended) -> None:
    other, usual = (
        [glance["cpu_percent"] for glance in ended.told("glance")][1:3]
        for ended in (until_concluded(place(), "--seed", "2"), tour)
    )
    assert len({*other, *usual}) == 4


def test_settings_in_the_environment_change_nothing(place: MAKE, tour: Ended) -> None:
    begun = until_concluded(
        place(),
        AUTOHEAL_STORE_URL="redis://127.0.0.1:1",
        AUTOHEAL_RULES="/nowhere",
        AUTOHEAL_STEP="1s",
        AUTOHEAL_MODE="live",
        AUTOHEAL_LOG_LEVEL="debug",
        AUTOHEAL_CONFIG="/nowhere",
        AUTOHEAL_STOER_URL="misspelt",
        AUTOHEAL_SPEED="what",
    )
    assert begun.output == tour.output[: len(begun.output)]


IDLE = """
version: 1
rules:
  - name: half-asleep
    when: {metric: cpu_percent, over: 1m, below: 50}
    then: {action: scale_down, by: 1, min: 1}
"""


def test_other_rules_give_other_decisions(place: MAKE, tmp_path: Path) -> None:
    rules = tmp_path / "idle.yaml"
    rules.write_text(IDLE)
    ended = until_concluded(place(), "--rules", str(rules))
    assert ended.lines[0]["rules"] == [str(rules)]
    first = ended.told("decided")[0]["decision"]
    assert (first["rule"], first["action"], first["target"]) == ("half-asleep", "scale_down", 1)


def test_no_rules_no_decisions(place: MAKE, tour: Ended, tmp_path: Path) -> None:
    rules = tmp_path / "none.yaml"
    rules.write_text("version: 1\nrules: []\n")
    running = place().start("--json", *QUICK, "--rules", str(rules))
    running.read_until('"went_live"')
    ended = running.stop_reading()
    assert ended.told("decided") == []
    assert tour.told("decided")[0]["at_ms"] < ended.lines[-1]["at_ms"], "with rules there are some"


# the outage


def test_an_outage_is_one_page_for_the_node_and_one_for_the_swarm(outage: Ended) -> None:
    assert (outage.code, outage.errors) == (0, "")
    assert pages(outage) == [
        ("node worker-2", "node-down", 1),
        ("node worker-2", "node-down", 0),
        ("the swarm", "outage", 1),
        ("the swarm", "outage", 0),
    ]


def test_during_an_outage_nothing_is_done_and_afterwards_what_is_due(outage: Ended) -> None:
    began, over = (
        line["at_ms"] for line in outage.told("decided") if line["decision"]["rule"] == "outage"
    )
    assert began <= at_ms(outage, "the database is gone") + MINUTE_MS
    assert began < at_ms(outage, "triple the load") < at_ms(outage, "database is back") < over
    deeds = [line for line in outage.told("decided") if line["decision"]["action"] != "escalate"]
    assert min(line["at_ms"] for line in deeds) >= over
    assert of(outage, "front") == [("scale_up", "cpu-high", "APPLIED")]
    assert services(outage) == {"node worker-2", "the swarm", "front"}


def test_each_service_that_suffered_tells_its_times(outage: Ended) -> None:
    suffered = [i for i in outage.lines[-1]["incidents"] if i["rule"] == "crash-loop"]
    assert {incident["service_name"] for incident in suffered} == set(LEANING)
    for incident in suffered:
        assert incident["end"] == IncidentEnd.ESCALATED
        assert incident["opened_ms"] < incident["escalated_ms"] < incident["recovered_ms"]


# the day


def test_on_a_healthy_day_nobody_is_touched_but_the_sentinel(day: Running) -> None:
    ended = day.end()
    assert (ended.code, ended.errors) == (0, "")
    assert ended.lines[-1]["at_ms"] == 24 * 60 * MINUTE_MS
    deploys = [line for line in ended.told("happened") if "is deployed" in line["words"]]
    assert len(deploys) == len(DEPLOYS) >= 3
    assert services(ended) == {SENTINEL}
    assert set(of(ended, SENTINEL)) == {
        ("scale_up", "cpu-high", "APPLIED"),
        ("scale_down", "cpu-low", "APPLIED"),
    }
    assert pages(ended) == []
    assert ended.lines[-1]["incidents"] == []
