"""The whole loop, live, on a real Swarm: one run, and what Docker itself showed during it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autoheal.core.state import unpack
from autoheal.model import LABEL_DECISION, OutcomeKind
from parts import Parts, until
from rig.alertmanager import Alertmanager
from rig.swarm import Rig

pytestmark = pytest.mark.timeout(1500)  # one long run, told by many tests

ARMED = {"autoheal.enable": "true", "autoheal.allow": "scale_up,scale_down"}
DEPLOY_HOLD_S = 15.0
OPERATOR_HOLD_S = 10.0
UP_WINDOW_S = 6.0
DOWN_WINDOW_S = 12.0
COOLDOWN_S = 4.0
TICKS = 200
RULES = """
version: 1
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 6s, above: 50}
    then: {action: scale_up, by: 1, max: 3}
    cooldown: 4s
  - name: cpu-low
    match: {service: "web"}
    when: {metric: cpu_percent, over: 12s, below: 20}
    then: {action: scale_down, by: 1, min: 1}
    cooldown: 4s
  # These three would act at every tick, whatever the load, if a guard did not hold them.
  - name: off-too
    match: {service: "off"}
    when: {event: died, over: 1m, below: 1000}
    then: {action: scale_up, max: 3}
  - name: job-too
    match: {service: "job"}
    when: {event: died, over: 1m, below: 1000}
    then: {action: scale_up, max: 3}
  - name: global-too
    match: {service: "everywhere"}
    when: {event: died, over: 1m, below: 1000}
    then: {action: scale_up, max: 3}
  - name: alarm
    match: {service: "alarm"}
    when: {metric: cpu_percent, over: 4s, above: 50}
    then: {action: escalate, severity: critical}
"""


@dataclass(frozen=True)
class Look:
    """One look at one service through Docker's own API."""

    at: float
    replicas: int | None
    spec: dict[str, Any]
    version: int
    tasks: dict[str, str]


@dataclass
class Observer:
    """Looks at services again and again, on a thread of its own."""

    rig: Rig
    services: tuple[str, ...]
    looks: dict[str, list[Look]] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer")
        self._thread.start()

    def _watch(self) -> None:
        try:
            while not self._stopping.wait(0.3):
                for name in self.services:
                    self.looks.setdefault(name, []).append(self._look(name))
        except BaseException as error:  # noqa: BLE001  # told by stop(), on the test's own thread
            self.failures.append(error)

    def _look(self, name: str) -> Look:
        service = self.rig.service(name)
        running = {task.task_id: task.node.name for task in self.rig.running_tasks(name)}
        replicated = service["Spec"]["Mode"].get("Replicated")
        return Look(
            time.time(),
            None if replicated is None else replicated["Replicas"],
            service["Spec"],
            service["Version"]["Index"],
            running,
        )

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        assert not self.failures, self.failures

    def last(self, name: str) -> int | None:
        """The count that was seen last."""
        looks = self.looks.get(name)
        return looks[-1].replicas if looks else None

    def steps(self, name: str) -> list[tuple[float, int | None]]:
        """(when first seen, replicas) for each count in a row."""
        steps: list[tuple[float, int | None]] = []
        for look in self.looks[name]:
            if not steps or steps[-1][1] != look.replicas:
                steps.append((look.at, look.replicas))
        return steps


@dataclass
class Run:
    """What one live run showed."""

    parts: Parts
    observer: Observer
    specs: dict[str, dict[str, Any]]
    versions: dict[str, int]
    idle_at: float
    deployed_at: float
    operated_at: float
    firing: list[dict[str, Any]]
    alertmanager_received: dict[str, float]
    held: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def run(swarm_rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    rig = swarm_rig
    directory = tmp_path_factory.mktemp("live")
    with Alertmanager() as alertmanager:
        parts = Parts(
            rig,
            directory,
            RULES,
            AUTOHEAL_DEPLOY_HOLD=f"{DEPLOY_HOLD_S:g}s",
            AUTOHEAL_OPERATOR_HOLD=f"{OPERATOR_HOLD_S:g}s",
            AUTOHEAL_ALERTMANAGER_URL=alertmanager.url,
        )
        try:
            with parts:
                yield _play(rig, parts, alertmanager)
        finally:
            rig.reset()


def _play(rig: Rig, parts: Parts, alertmanager: Alertmanager) -> Run:
    """The scenes, one beside the other; `web` is the sentinel that must be acted on."""
    names = ("web", "plain", "everywhere", "job", "rolling", "fresh", "off", "manual", "alarm")
    create = partial(rig.create_service, cpus=0.05)
    for name in ("web", "fresh", "manual"):
        create(name, labels=ARMED)
    create("plain")
    create("alarm")  # an escalation needs no label
    create("everywhere", mode="global", labels=ARMED)
    create("job", mode="replicated-job", labels=ARMED)
    create("off", replicas=0, labels=ARMED)
    create("rolling", replicas=2, labels=ARMED, extra=["--update-delay=10m"])
    rig.wait_running("web", 1)
    rig.wait_running("rolling", 2)
    for name in names:
        rig.burn(name)
    rig.update_service("rolling", "--env-add", "RELEASE=2")
    rig.wait(
        lambda: rig.service("rolling").get("UpdateStatus", {}).get("State") == "updating",
        what="the rollout begins",
    )
    time.sleep(DEPLOY_HOLD_S)
    rig.update_service("fresh", "--env-add", "RELEASE=2")
    deployed_at = time.time()
    specs = {name: rig.spec(name) for name in names}
    versions = {name: rig.version(name) for name in names}
    observer = Observer(rig, names)
    try:
        parts.everything("live")
        until(lambda: observer.last("manual") == 2, 90, "manual is scaled up")
        operated_at = time.time()
        rig.manager.docker("service", "scale", "--detach", "manual=1")
        until(lambda: rig.replicas("web") == 3, 90, "web is at its maximum")
        until(lambda: rig.replicas("fresh") == 3, 90, "fresh is acted on after its hold")
        until(alertmanager.alerts, 60, "Alertmanager has the alert")
        firing = alertmanager.alerts()
        rig.wait_running("web", 3)
        idle_at = time.time()
        for name in ("web", "alarm"):
            rig.burn(name, on=False)
        until(lambda: rig.replicas("web") == 1, 120, "web is back at its minimum")
        until(
            lambda: alertmanager.history().get("resolved", 0) > 0, 60, "Alertmanager hears the end"
        )
        until(lambda: len(parts.ticks()) >= TICKS, 240, f"{TICKS} ticks")
        held = held_back(parts)
    finally:
        observer.stop()
    received = alertmanager.history()
    parts.stop()
    return Run(
        parts, observer, specs, versions, idle_at, deployed_at, operated_at, firing, received, held
    )


def held_back(parts: Parts) -> dict[str, dict[str, str]]:
    """Per service, the rules that want to act now and the guard that holds each back."""
    services = unpack(parts.memory.state()).services.values()
    return {
        service.name: {name: rule.held for name, rule in service.rules.items() if rule.held}
        for service in services
    }


def test_a_busy_service_goes_up_step_by_step_and_back_down(run: Run) -> None:
    counts = [count for _, count in run.observer.steps("web")]
    assert counts == [1, 2, 3, 2, 1]


def test_its_tasks_ran_on_all_three_nodes(run: Run) -> None:
    widest = max(run.observer.looks["web"], key=lambda look: len(look.tasks))
    assert sorted(widest.tasks.values()) == ["m1", "w1", "w2"]


def test_no_running_task_was_lost_by_scaling(run: Run) -> None:
    looks = run.observer.looks["web"]
    for before, after in pairwise(looks):
        lost = before.tasks.keys() - after.tasks.keys()
        assert len(lost) <= 1, "at most the one that a scale-down took"
        if after.at < run.idle_at:
            assert not lost
    ever = {task for look in looks for task in look.tasks}
    assert len(ever) == 3, "no task was replaced"


def test_the_steps_keep_the_windows_and_the_cooldown(run: Run) -> None:
    steps = run.observer.steps("web")
    times = [at for at, _ in steps]
    # Seen at most one look later than done; a look takes well under a second.
    slack = 1.5
    assert times[2] - times[1] >= COOLDOWN_S - slack
    assert times[3] - run.idle_at >= 0.8 * DOWN_WINDOW_S - slack
    assert times[3] - times[2] >= DOWN_WINDOW_S - slack
    assert times[4] - times[3] >= COOLDOWN_S - slack


def test_a_service_without_the_label_gets_would_apply_only(run: Run) -> None:
    assert run.parts.kinds_of("plain") == {OutcomeKind.WOULD_APPLY}
    assert_untouched(run, "plain")


@pytest.mark.parametrize(
    ("name", "guard"),
    [("everywhere", "mode"), ("job", "mode"), ("off", "off"), ("rolling", "rollout")],
)
def test_what_must_be_left_alone_is_left_alone_while_the_sentinel_is_acted_on(
    run: Run, name: str, guard: str
) -> None:
    assert run.parts.decisions(name) == []
    # Of several rules that want to act one contends with the guards, the others with it.
    assert guard in run.held[name].values(), "it wanted to act, and that is what held it back"
    assert_untouched(run, name)
    assert OutcomeKind.APPLIED in run.parts.kinds_of("web")


def assert_untouched(run: Run, name: str) -> None:
    """Docker shows the same spec throughout; where nobody else updates it, the same version."""
    looks = run.observer.looks[name]
    assert all(look.spec == run.specs[name] for look in looks)
    if name not in ("rolling", "job"):  # Swarm itself moves the version of these
        assert {look.version for look in looks} == {run.versions[name]}


def test_a_service_just_deployed_is_left_alone_for_the_hold_and_then_acted_on(run: Run) -> None:
    acted_at, _ = next(step for step in run.observer.steps("fresh") if step[1] == 2)
    assert acted_at - run.deployed_at >= DEPLOY_HOLD_S - 1
    web_at, _ = next(step for step in run.observer.steps("web") if step[1] == 2)
    assert web_at < acted_at, "the sentinel was acted on during the hold"


def test_an_operators_scale_is_respected_for_the_hold(run: Run) -> None:
    after = [s for s in run.observer.steps("manual") if s[0] >= run.operated_at and s[1] == 1]
    assert after, "the operator's count was seen"
    again = [at for at, count in run.observer.steps("manual") if count == 2 and at > after[0][0]]
    assert all(at - run.operated_at >= OPERATOR_HOLD_S - 1 for at in again)
    decided = run.parts.decisions("manual")
    assert [(d.start, d.target) for d in decided[:1]] == [(1, 2)]
    assert all(d.start == 1 for d in decided[1:2]), "it decided anew from the operator's count"


def test_an_escalation_reaches_alertmanager_and_is_resolved(run: Run) -> None:
    (alert,) = run.firing
    assert alert["labels"]["rule"] == "alarm"
    assert alert["labels"]["service"] == "alarm"
    assert alert["labels"]["severity"] == "critical"
    assert [(d.start, d.target) for d in run.parts.decisions("alarm") if d.rule == "alarm"] == [
        (0, 1),
        (1, 0),
    ]
    assert run.alertmanager_received["resolved"] > 0
    assert run.observer.steps("alarm")[-1][1] == 1, "an escalation changes no service"


def test_each_update_changed_one_leaf_and_our_label(run: Run) -> None:
    for before, after in pairwise(run.observer.looks["web"]):
        assert _without_ours(before.spec) == _without_ours(after.spec)


def _without_ours(spec: dict[str, Any]) -> dict[str, Any]:
    labels = {k: v for k, v in spec["Labels"].items() if k != LABEL_DECISION}
    replicated = {k: v for k, v in spec["Mode"]["Replicated"].items() if k != "Replicas"}
    return {**spec, "Labels": labels, "Mode": {**spec["Mode"], "Replicated": replicated}}


def test_recorded_ticks_decided_again_give_the_same_bytes_whatever_the_hash_seed(run: Run) -> None:
    assert len(run.parts.ticks()) >= TICKS
    outputs = [_replayed(run.parts.store.url, seed) for seed in ("1", "2")]
    assert outputs[0] == outputs[1]
    lines = outputs[0].splitlines()
    assert len(lines) >= TICKS
    assert all(line.startswith("same ") for line in lines), [x for x in lines if x[:4] != "same"]
    assert sum(int(line.split()[2]) for line in lines) == len(run.parts.decisions())


REPLAY = """
import sys
from autoheal import app, replay
from autoheal.settings import load_settings
memory = app.open_memory(load_settings({"AUTOHEAL_STORE_URL": sys.argv[1]}))
for tick in replay.repeat(memory):
    bodies = b"|".join(tick.repeated).decode()
    word = "same" if tick.agrees else "DIFFERENT"
    print(word, tick.tick.number, len(tick.repeated), tick.state_digest, bodies)
"""


def _replayed(url: str, seed: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, url],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
