"""Services that follow figures from elsewhere, on a real Swarm: one run, told by many tests.

A pool of workers follows the length of a real Redis list, a shop a query to a real Prometheus, and
a service that hangs is known by its heartbeat, a number in JSON. Each source is lost in the middle,
just when there would be something to do.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters.web import Request, Site, hangs, serving
from autoheal import app, records
from autoheal.model import ActionKind, Decision, IncidentEnd, OutcomeKind, SourceValue
from autoheal.settings import load_settings
from parts import Parts, until
from rig.alertmanager import free_port
from rig.prometheus import Prometheus
from rig.swarm import Rig
from store.servers import TcpServer, raw

pytestmark = pytest.mark.timeout(900)  # one long run, told by many tests

ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up,scale_down,restart"}
SERVICES = {"pool": "jobs", "shop": "visitors", "heart": "silence"}
RULES_OF = {"pool": {"backlog", "drained"}, "shop": {"crowded", "empty"}, "heart": {"hung"}}
STALE_S = 4.0
LOST_TICKS = 15
RULES = """
version: 1
sources:
  jobs: {{redis: "{redis}", list: jobs, every: 1s, timeout: 500ms, stale_after: 4s}}
  visitors: {{prometheus: "{prometheus}", query: sum(shop_visitors), every: 1s, timeout: 900ms,
    stale_after: 4s}}
  silence: {{json: "{heart}/health", path: "beats[0].silent_s", every: 1s, timeout: 500ms,
    stale_after: 4s}}
rules:
  - name: backlog
    match: {{service: pool}}
    when: {{source: jobs, per: task, over: 3s, above: 10}}
    then: {{action: scale_up, by: 1, max: 3}}
    cooldown: 2s
  - name: drained
    match: {{service: pool}}
    when: {{source: jobs, per: task, over: 4s, below: 1}}
    then: {{action: scale_down, by: 1, min: 1}}
    cooldown: 2s
  - name: crowded
    match: {{service: shop}}
    when: {{source: visitors, over: 3s, above: 50}}
    then: {{action: scale_up, by: 1, max: 2}}
    cooldown: 2s
  - name: empty
    match: {{service: shop}}
    when: {{source: visitors, over: 4s, below: 10}}
    then: {{action: scale_down, by: 1, min: 1}}
    cooldown: 2s
  - name: hung
    match: {{service: heart}}
    when: {{source: silence, over: 3s, over_time: min, above: 5}}
    then: {{action: restart}}
    allow_risk: [single, volume, unpinned]
    limit: {{times: 3, per: 10m}}
    clears_within: 30s
    otherwise: {{action: escalate, severity: critical}}
"""
# It beats until the switch names this very task: its replacement beats again.
HEART = """
while :; do
    if [ "$(cat /switch/hang 2>/dev/null)" = "$(hostname)" ]; then sleep 100000; fi
    touch /beats/beat
    sleep 0.3
done
"""


@dataclass
class Elsewhere:
    """The three places that figures come from, and what they tell."""

    queue: TcpServer
    prometheus: Prometheus
    health: Site
    beat: Path
    visitors: int = 0

    def exposed(self, request: Request) -> None:
        text = f"# TYPE shop_visitors gauge\nshop_visitors {self.visitors}\n"
        request.answer(200, text.encode(), **{"Content-Type": "text/plain; version=0.0.4"})

    def healthy(self, request: Request) -> None:
        silent_s = time.time() - self.beat.stat().st_mtime
        request.answer(200, json.dumps({"beats": [{"silent_s": silent_s}]}).encode())

    def push(self, jobs: int) -> None:
        with raw(self.queue.url) as client:
            client.rpush("jobs", *range(jobs))

    def lose(self) -> None:
        """The queue's server and Prometheus die, the health endpoint hangs."""
        self.queue.kill()
        self.prometheus.kill()
        self.health.behaviour = hangs

    def bring_back(self) -> None:
        """The queue is empty: its server kept nothing."""
        self.queue.restart()
        self.prometheus.start()
        self.health.behaviour = self.healthy


@dataclass
class Look:
    """What a person would see at one moment."""

    status: dict[str, Any]
    text: str
    metrics: dict[str, float]
    replicas: dict[str, int | None]
    restarts: int
    ticks: int
    decisions: list[Decision]

    def of(self, service: str) -> list[Decision]:
        return [decision for decision in self.decisions if decision.service_name == service]

    def source(self, name: str) -> dict[str, Any]:
        (found,) = [line for line in self.status["sources"] if line["name"] == name]
        return dict(found)

    def held(self, service: str) -> dict[str, str]:
        (found,) = [line for line in self.status["services"] if line["name"] == service]
        return {rule["rule"]: rule["held"] for rule in found["rules"] if rule["held"]}


@dataclass
class Run:
    """Looks at the moments that count, by name, and the outcomes at the end."""

    looks: dict[str, Look] = field(default_factory=dict)
    outcomes: dict[str, OutcomeKind] = field(default_factory=dict)
    values: list[SourceValue] = field(default_factory=list)


class Stage:
    """The Swarm, autoheal and the sources, and what is done with them."""

    def __init__(self, rig: Rig, parts: Parts, elsewhere: Elsewhere, metrics_url: str) -> None:
        self.rig = rig
        self.parts = parts
        self.elsewhere = elsewhere
        self._metrics_url = metrics_url

    def hang(self) -> None:
        """The heart's task goes on running and does nothing more."""
        (task,) = self.rig.wait_running("heart", 1)
        part = self.rig.switch_dir / ".hang.part"
        part.write_text(task.container_id[:12])
        part.rename(self.rig.switch_dir / "hang")

    @property
    def restarts(self) -> int:
        return int(self.rig.spec("heart")["TaskTemplate"].get("ForceUpdate", 0))

    def is_cured(self) -> bool:
        """Whether the restart of the heart has been judged, and was a success."""
        incidents = [each for each in self.parts.incidents() if each.service_name == "heart"]
        return bool(incidents) and incidents[-1].end == IncidentEnd.REMEDIED

    def is_lost(self) -> bool:
        """Whether the status shows that each service is held by its source."""
        look = self.look()
        return all(set(look.held(name).values()) == {"source"} for name in SERVICES)

    def is_read(self) -> bool:
        """Whether each source has a value that counts, and nothing is in flight."""
        look = self.look()
        idle = all(line["in_flight"] in ("", "-") for line in look.status["services"])
        return idle and all(look.source(name)["value"] != "no value" for name in SERVICES.values())

    def look(self) -> Look:
        settings = load_settings({"AUTOHEAL_STORE_URL": self.parts.store.url})
        return Look(
            json.loads(app.read_status(settings, as_json=True)),
            app.read_status(settings, as_json=False),
            self._metrics(),
            {name: self.rig.replicas(name) for name in SERVICES},
            self.restarts,
            len(self.parts.ticks()),
            self.parts.decisions(),
        )

    def _metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(self._metrics_url, timeout=5) as response:  # noqa: S310  # loopback
            lines = response.read().decode().splitlines()
        rows = (line.rpartition(" ") for line in lines if line.startswith("autoheal_source_"))
        return {name: float(value) for name, _, value in rows}


@pytest.fixture(scope="module")
def run(swarm_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    if not Prometheus.is_installed():
        if os.environ.get("AUTOHEAL_REQUIRE_RIG") == "1":
            pytest.fail("no Prometheus is installed, and AUTOHEAL_REQUIRE_RIG=1 asks for one")
        pytest.skip("no Prometheus is installed")
    directory = tmp_path_factory.mktemp("sources")
    try:
        with ExitStack() as stack:
            elsewhere = _elsewhere(stack, directory)
            rules = RULES.format(
                redis=elsewhere.queue.url,
                prometheus=elsewhere.prometheus.url,
                heart=elsewhere.health.url,
            )
            (directory / "autoheal").mkdir()
            parts = stack.enter_context(
                Parts(swarm_rig, directory / "autoheal", rules, AUTOHEAL_ACTIONS_AT_ONCE="10")
            )
            yield _play(swarm_rig, parts, elsewhere)
    finally:
        (swarm_rig.switch_dir / "hang").unlink(missing_ok=True)
        swarm_rig.reset()


def _elsewhere(stack: ExitStack, directory: Path) -> Elsewhere:
    for name in ("queue", "beats"):
        (directory / name).mkdir()
    beat = directory / "beats" / "beat"
    beat.touch()
    queue = TcpServer("redis", directory / "queue", "--save", "", "--appendonly", "no")
    stack.callback(queue.stop)
    exposed, health = stack.enter_context(serving()), stack.enter_context(serving())
    prometheus = stack.enter_context(Prometheus(f"127.0.0.1:{exposed.port}"))
    elsewhere = Elsewhere(queue, prometheus, health, beat)
    exposed.behaviour, health.behaviour = elsewhere.exposed, elsewhere.healthy
    return elsewhere


def _play(rig: Rig, parts: Parts, elsewhere: Elsewhere) -> Run:
    """Nothing to do; work for two of them; the sources are lost; they are back; all is quiet."""
    rig.create_service("pool", labels=ARMED)
    rig.create_service("shop", labels=ARMED)
    mount = f"--mount=type=bind,source={elsewhere.beat.parent},target=/beats"
    rig.create_service("heart", labels=ARMED, command=["sh", "-c", HEART], extra=[mount])
    for name in SERVICES:
        rig.wait_running(name, 1)
    port = free_port()
    parts.collectors()
    parts.start("engine", "engine", AUTOHEAL_LISTEN=f"127.0.0.1:{port}")
    parts.executor("live")
    until(lambda: len(parts.ticks()) > 2, 60, "the engine ticks")
    stage = Stage(rig, parts, elsewhere, f"http://127.0.0.1:{port}/metrics")
    until(stage.is_read, 60, "every source is read")
    run = Run({"quiet": stage.look()})

    elsewhere.push(200)
    stage.hang()
    until(lambda: rig.replicas("pool") == 3, 90, "the pool is at its maximum")
    until(lambda: stage.restarts == 1, 90, "the heart is restarted")
    rig.wait_running("heart", 1)
    until(stage.is_cured, 60, "the heart is well again")
    until(stage.is_read, 90, "all actions have ended")
    run.looks["busy"] = stage.look()

    elsewhere.lose()
    elsewhere.visitors = 100
    stage.hang()
    until(stage.is_lost, 60, "every service is held by its source")
    run.looks["lost"] = lost = stage.look()
    until(lambda: len(parts.ticks()) > lost.ticks + LOST_TICKS, 120, "time goes by")
    run.looks["still lost"] = stage.look()

    elsewhere.bring_back()
    until(lambda: rig.replicas("shop") == 2, 90, "the shop is scaled up")
    until(lambda: rig.replicas("pool") == 1, 90, "the pool is at its minimum")
    until(lambda: stage.restarts == 2, 90, "the heart is restarted again")
    until(stage.is_cured, 60, "the heart is well again")
    elsewhere.visitors = 0
    until(lambda: rig.replicas("shop") == 1, 90, "the shop is scaled down")
    until(stage.is_read, 90, "all actions have ended")
    run.looks["over"] = stage.look()
    run.outcomes = {outcome.decision: outcome.kind for outcome in parts.outcomes()}
    run.values = [records.unpack_source(e.fields) for e in parts.entries(records.SOURCES)]
    parts.stop()
    return run


def acts(look: Look, service: str) -> list[tuple[ActionKind, str, int | None]]:
    return [(each.action, each.rule, each.target) for each in look.of(service)]


def test_where_there_is_nothing_to_do_nothing_is_done(run: Run) -> None:
    assert run.looks["quiet"].replicas == {"pool": 1, "shop": 1, "heart": 1}
    assert run.looks["quiet"].decisions == []


def test_the_pool_grows_with_the_list_and_shrinks_when_it_is_empty(run: Run) -> None:
    assert acts(run.looks["over"], "pool") == [
        (ActionKind.SCALE_UP, "backlog", 2),
        (ActionKind.SCALE_UP, "backlog", 3),
        (ActionKind.SCALE_DOWN, "drained", 2),
        (ActionKind.SCALE_DOWN, "drained", 1),
    ]


def test_the_shop_follows_the_query(run: Run) -> None:
    assert acts(run.looks["over"], "shop") == [
        (ActionKind.SCALE_UP, "crowded", 2),
        (ActionKind.SCALE_DOWN, "empty", 1),
    ]


def test_a_service_that_hangs_is_restarted_once_each_time(run: Run) -> None:
    assert {(kind, rule) for kind, rule, _ in acts(run.looks["over"], "heart")} == {
        (ActionKind.RESTART, "hung")
    }
    assert [run.looks[name].restarts for name in ("quiet", "busy", "still lost", "over")] == [
        0,
        1,
        1,
        2,
    ]


def test_every_decision_was_carried_out_and_told_its_figure(run: Run) -> None:
    for decision in run.looks["over"].decisions:
        assert run.outcomes[decision.id] is OutcomeKind.APPLIED, decision
        assert SERVICES[decision.service_name] in decision.reason


@pytest.mark.parametrize("moment", ["lost", "still lost"])
@pytest.mark.parametrize("service", list(SERVICES))
def test_while_its_source_is_lost_a_service_is_held_and_that_is_seen(
    run: Run, service: str, moment: str
) -> None:
    look = run.looks[moment]
    assert look.held(service) == dict.fromkeys(RULES_OF[service], "source")
    assert look.source(SERVICES[service])["value"] == "no value"


@pytest.mark.parametrize("service", list(SERVICES))
def test_while_its_source_is_lost_nothing_is_done(run: Run, service: str) -> None:
    """The list is gone, the shop is full and the heart hangs: each would be acted on."""
    lost, later = run.looks["lost"], run.looks["still lost"]
    assert later.ticks - lost.ticks > LOST_TICKS
    assert later.of(service) == run.looks["busy"].of(service)
    assert later.replicas[service] == run.looks["busy"].replicas[service]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("jobs", "Connection refused"),
        ("visitors", "Connection refused"),
        ("silence", "no answer within 500ms"),
    ],
)
def test_the_status_says_why_a_source_cannot_be_read(run: Run, source: str, words: str) -> None:
    look = run.looks["still lost"]
    assert words in look.source(source)["error"]
    assert words in look.text
    assert run.looks["over"].source(source)["error"] == ""


@pytest.mark.parametrize("source", list(SERVICES.values()))
def test_the_metrics_tell_of_a_lost_source(run: Run, source: str) -> None:
    quiet, lost, over = (run.looks[name].metrics for name in ("quiet", "still lost", "over"))
    age = f'autoheal_source_value_age_seconds{{source="{source}"}}'
    failures = f'autoheal_source_failures_total{{source="{source}"}}'
    assert lost[age] > STALE_S
    assert lost[age] > max(quiet[age], over[age])
    assert lost[failures] >= LOST_TICKS / 2
    assert lost[failures] > quiet.get(failures, 0)


@pytest.mark.parametrize("source", list(SERVICES.values()))
def test_a_failure_is_not_written_at_every_turn(run: Run, source: str) -> None:
    told = [value for value in run.values if value.source == source]
    failures = [value for value in told if value.value is None]
    assert len({value.error for value in failures}) <= len(failures) <= 6
    assert len(told) > 20
