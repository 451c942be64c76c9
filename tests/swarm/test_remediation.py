"""Every failure gets what it deserves and nothing more: the shipped rules, on containers that fail.

The scenes play side by side in one run that is told by many tests; the whole Swarm's outage has a
run of its own. The rules are the shipped ones for a world that is twenty times faster.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoheal.core.state import State, unpack
from autoheal.model import LABEL_DECISION, ActionKind, Decision, IncidentEnd, OutcomeKind
from autoheal.units import MIB
from parts import Parts, clean_environment, quickened, until
from rig.alertmanager import Alertmanager
from rig.swarm import Rig, bytes_of
from swarm.failures import (
    CRASH_LOOP,
    DRAINED,
    ESCALATE,
    NODE_SCENES,
    OOM,
    RESOLVE,
    SCENES,
    STILL_STUCK,
    Course,
    Deserved,
    Play,
    Scene,
    Stage,
    action_of,
    applied,
    play_all,
    table,
    told,
)

pytestmark = pytest.mark.timeout(1500)  # one long run, told by many tests

PACK = Path(__file__).parents[2] / "rules" / "remediation.yaml"
RULES = quickened(PACK.read_text(), 20)
QUICKER = {
    "AUTOHEAL_GROUP_WAIT": "3s",
    "AUTOHEAL_NODE_HOLD": "20s",
    "AUTOHEAL_STABLE_AFTER": "3s",
    "AUTOHEAL_RECOVERY_AFTER": "5s",
    "AUTOHEAL_SATURATED_WINDOW": "6s",
    "AUTOHEAL_ACTIONS_AT_ONCE": "20",
    "AUTOHEAL_ACTIONS_PER_HOUR": "100",
}
# So many scenes at once would be an outage.
NO_OUTAGE = {"AUTOHEAL_OUTAGE_SERVICES": "1000"}
RAISED = 116 * MIB
PLAYED = (*SCENES, DRAINED, *NODE_SCENES)
WELL = 9
SICK = 4  # more than three, and than a fifth of all


@dataclass
class Run:
    """What one run showed: autoheal's records of each scene, and Docker's own view at its end."""

    plays: dict[str, Play]
    specs: dict[str, dict[str, Any]]
    state: State
    others: list[str]
    received: dict[str, float]
    said: str


@pytest.fixture(scope="module")
def run(swarm_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("remediation")
    try:
        with (
            Alertmanager() as alertmanager,
            Parts(
                swarm_rig,
                directory,
                RULES,
                **QUICKER,
                **NO_OUTAGE,
                AUTOHEAL_ALERTMANAGER_URL=alertmanager.url,
            ) as parts,
        ):
            parts.everything("live")
            yield _play(Stage(swarm_rig, parts), alertmanager)
    finally:
        swarm_rig.reset()


def _play(stage: Stage, alertmanager: Alertmanager) -> Run:
    """The scenes; those that need a node to themselves play when the others are over."""
    plays = play_all(stage, SCENES, 300)
    state = unpack(stage.parts.memory.state())
    said = _reset(stage)
    specs = {name: stage.rig.spec(name) for name in plays if name != CRASH_LOOP.name}
    for name in specs:
        stage.rig.remove_service(name)
    plays |= play_all(stage, [DRAINED], 90)
    specs[DRAINED.name] = stage.rig.spec(DRAINED.name)
    stage.rig.remove_service(DRAINED.name)
    plays |= play_all(stage, NODE_SCENES, 180)
    specs |= {scene.name: stage.rig.spec(scene.name) for scene in NODE_SCENES}
    stage.look()
    names = {name for play in plays.values() for name in (play.name, play.scene.told_as)}
    others = [d.reason for d in stage.decisions if d.service_name not in names]
    stage.parts.stop()
    return Run(plays, specs, state, others, alertmanager.history(), said)


def _reset(stage: Stage) -> str:
    """A person sets the quarantined rule free; what the command said."""
    done = subprocess.run(
        [sys.executable, "-m", "autoheal", "reset", STILL_STUCK.name, "stuck"],
        env={**clean_environment(), "AUTOHEAL_STORE_URL": stage.parts.store.url},
        capture_output=True,
        text=True,
        check=True,
    )
    until(lambda: not quarantined(unpack(stage.parts.memory.state())), 20, "nothing is quarantined")
    return done.stdout


def quarantined(state: State) -> dict[str, set[str]]:
    """The rules in quarantine, by service."""
    services = state.services.values()
    return {service.name: set(service.quarantined) for service in services if service.quarantined}


# The crash loop's service is removed in the end.
LEFT = [scene.name for scene in PLAYED if scene is not CRASH_LOOP]


@pytest.fixture(params=[scene.name for scene in PLAYED])
def play(request: pytest.FixtureRequest, run: Run) -> Play:
    return run.plays[request.param]


def test_each_failure_is_decided_on_as_it_deserves(play: Play) -> None:
    assert tuple(map(action_of, play.decisions)) == play.scene.deserved.decided


def test_what_is_decided_is_done_once(play: Play) -> None:
    assert [outcome.kind for outcome in play.outcomes] == [OutcomeKind.APPLIED] * len(
        play.decisions
    )
    assert applied(play) == play.decisions


def test_people_are_told_of_the_end_of_everything_they_were_told_of(run: Run) -> None:
    begun, ended = (told(run.plays.values(), action) for action in (ESCALATE, RESOLVE))
    assert len(begun) == len(ended) > 0
    # Alertmanager counts what it receives: each alert once, and again when it is told again.
    assert run.received["firing"] >= len(begun)
    assert run.received["resolved"] >= len(ended)


def test_each_failure_is_one_incident_that_ends_as_it_deserves(play: Play) -> None:
    deserved = play.scene.deserved
    if not deserved.evidence:
        assert play.incidents == []
        return
    (incident,) = play.incidents
    assert incident.evidence.startswith(deserved.evidence)
    assert incident.end == deserved.end
    assert tuple(deed.judgement for deed in incident.deeds) == deserved.judgements


def test_times_follow_one_another(play: Play) -> None:
    for incident in play.incidents:
        # Docker tells its own clock's time, the injection is told by the store's.
        times = [incident.opened_ms, incident.detected_ms, incident.acted_ms, incident.recovered_ms]
        known = [ms for ms in times if ms is not None]
        assert known == sorted(known)
        # What is removed does not recover.
        assert (incident.recovered_ms is None) == (play.name == CRASH_LOOP.name)


@pytest.mark.parametrize("name", LEFT)
def test_docker_shows_what_was_done_and_nothing_else(run: Run, name: str) -> None:
    play, spec = run.plays[name], run.specs[name]
    template = spec["TaskTemplate"]
    limit = template["Resources"]["Limits"]["MemoryBytes"]
    decided = play.scene.deserved.decided
    assert limit == (RAISED if "raise_memory" in decided else bytes_of(play.scene.memory))
    assert template.get("ForceUpdate", 0) == decided.count("restart")
    assert spec["Mode"]["Replicated"]["Replicas"] == play.scene.replicas
    acted = {"raise_memory", "restart"} & set(decided)
    assert (LABEL_DECISION in spec["Labels"]) == bool(acted)


def test_nothing_is_decided_beside_the_scenes(run: Run) -> None:
    assert run.others == []


def test_the_page_of_a_raise_that_is_due_names_the_line_to_change(run: Run) -> None:
    (decision,) = run.plays[OOM.name].decisions
    assert decision.target == RAISED
    assert "deploy.resources.limits.memory to 116M in service oom" in decision.reason


def test_a_crash_loop_is_never_acted_on_however_long_it_lasts(run: Run) -> None:
    decisions = run.plays[CRASH_LOOP.name].decisions
    assert {decision.action for decision in decisions} == {ActionKind.ESCALATE}
    assert decisions[-1].reason == "resolved: the service was removed"


def test_a_rule_that_did_not_help_is_in_quarantine_there_until_a_person_resets_it(
    run: Run,
) -> None:
    assert quarantined(run.state) == {STILL_STUCK.name: {"stuck"}}
    assert STILL_STUCK.name in run.said


# A third of the services at once ------------------------------------------------------------------


def _falls_sick(play: Play) -> Course:
    """Falls sick with the others, and its load goes down again when people have been told."""
    play.create()
    yield play.runs()
    yield play.others_run(SICK_NAMES)
    yield play.rests()  # what ails when autoheal first looks is no outage
    play.inject()
    play.order("fill")
    yield play.has_decided(1)
    yield play.rests()
    play.relieve("fill")
    yield play.is_over()


def _stays_well(play: Play) -> Course:
    play.create()
    yield play.runs()


def _falls_sick_and_stays_so(play: Play) -> Course:
    """Falls sick with the others, and its load stays: it needs more memory."""
    play.create()
    yield play.runs()
    yield play.others_run(SICK_NAMES)
    yield play.rests()  # what ails when autoheal first looks is no outage
    play.inject()
    play.order("fill")
    yield play.is_over()


SICK_NAMES = ("sentinel", *(f"sick-{number}" for number in range(1, SICK)))
SICK_SCENE = Scene(
    "sick",
    "30 % of the services killed for memory at once",
    Deserved("oom_killed", ("escalate", "resolve"), IncidentEnd.ESCALATED),
    _falls_sick,
    memory=OOM.memory,
    options=("--update-order=start-first",),
    told_as="the swarm",
)
# It would be acted on if it were alone; it is, once the others are well.
SENTINEL = dataclasses.replace(
    SICK_SCENE.called("sentinel"), course=_falls_sick_and_stays_so, told_as=""
)
OUTAGE_SCENES = (
    SENTINEL,
    *(SICK_SCENE.called(name) for name in SICK_NAMES[1:]),
    *(
        Scene(f"well-{number}", "nothing", Deserved(""), _stays_well)
        for number in range(1, WELL + 1)
    ),
)


@dataclass
class Outage:
    """What the outage's run showed."""

    plays: dict[str, Play]
    decisions: list[Decision]


@pytest.fixture(scope="module")
def outage(swarm_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    directory = tmp_path_factory.mktemp("outage")
    parts = Parts(swarm_rig, directory, RULES, **QUICKER, AUTOHEAL_OUTAGE_WINDOW="10s")
    try:
        with parts:
            parts.everything("live")
            stage = Stage(swarm_rig, parts)
            plays = play_all(stage, OUTAGE_SCENES, 180)
            stage.look()
            parts.stop()
            yield Outage(plays, stage.decisions)
    finally:
        swarm_rig.reset()


def test_a_third_of_the_services_sick_at_once_is_one_page_and_no_action_while_it_lasts(
    outage: Outage,
) -> None:
    page, resolved, *after = outage.decisions
    assert [action_of(page), action_of(resolved)] == ["escalate", "resolve"]
    assert page.service_name == resolved.service_name == "the swarm"
    assert f"{SICK} services" in page.reason
    # The sentinel was as sick as they were all the time.
    assert [(d.service_name, action_of(d)) for d in after] == [("sentinel", "raise_memory")]
    assert outage.plays["sentinel"].injected_ms < page.decided_at_ms


# The table ----------------------------------------------------------------------------------------


def test_the_table_of_what_was_injected_seen_decided_and_done(
    run: Run,
    outage: Outage,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    played = [*run.plays.values(), outage.plays["sick-1"], outage.plays["sentinel"]]
    rows = [play.row for play in played]
    for play, row in zip(played, rows, strict=True):
        assert (row.decided == "nothing") == (not play.scene.deserved.decided)
        assert (row.evidence == "-") == (not play.scene.deserved.evidence)
    text = table(rows)
    (tmp_path / "remediation.txt").write_text(text)
    with capsys.disabled():
        print(f"\n{text}")  # noqa: T201  # the table is what the run is for
