"""The contract notices a simulator that deviates from Swarm: each deviation here breaks a scene."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from autoheal import records
from autoheal.sim import container, machine, restarts, rollout, swarm
from autoheal.sim.objects import Service, Task
from autoheal.sim.rollout import Config
from autoheal.sim.swarm import Swarm
from sim.golden import difference
from sim.scenes import SCENES, NotOverError, play_all
from sim.simulated_ground import SimulatedGround

Plant = Callable[[pytest.MonkeyPatch], None]
LIMIT_S = 120.0


def replaces_before_it_stops(patch: pytest.MonkeyPatch) -> None:
    original = Config.of

    def of(spec: Mapping[str, Any], name: str) -> Config:
        return dataclasses.replace(original(spec, name), starts_first=True)

    patch.setattr(rollout.Config, "of", of)


def goes_on_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    original = Config.of

    def of(spec: Mapping[str, Any], name: str) -> Config:
        return dataclasses.replace(original(spec, name), failure_action="continue")

    patch.setattr(rollout.Config, "of", of)


def remembers_one_task_more(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swarm, "TASK_HISTORY", swarm.TASK_HISTORY + 1)


def accepts_every_version(patch: pytest.MonkeyPatch) -> None:
    original = Swarm.update

    def update(
        self: Swarm, service: Service, version: int, spec: Mapping[str, Any], now_ms: int
    ) -> None:
        del version
        original(self, service, service.index, spec, now_ms)

    patch.setattr(Swarm, "update", update)


def restarts_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(restarts, "duration_ms", lambda *_: 0)


def never_gives_up(patch: pytest.MonkeyPatch) -> None:
    def may_restart(task: Task, now_ms: int) -> bool:
        del task, now_ms
        return True

    patch.setattr(restarts, "may_restart", may_restart)
    patch.setattr(swarm, "may_restart", may_restart)


def restarts_for_a_label(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swarm, "_key", lambda spec: records.digest(records.canonical(spec)))


def takes_a_kill_for_an_end(patch: pytest.MonkeyPatch) -> None:
    def kill(self: container.Container) -> None:
        self.exit_code = container.KILLED

    patch.setattr(container.Container, "kill", kill)


def brings_lost_tasks_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine, "LOST", 0)


def keeps_quiet_about_oom_kills(patch: pytest.MonkeyPatch) -> None:
    original = container.Container.live

    def live(
        self: container.Container, now_ms: int, elapsed_ms: int, wanted: float, used: float
    ) -> list[container.Sign]:
        happenings = original(self, now_ms, elapsed_ms, wanted, used)
        return [each for each in happenings if each is not container.Sign.OOM_KILLED]

    patch.setattr(container.Container, "live", live)


DEVIATIONS: tuple[tuple[Plant, str], ...] = (
    (replaces_before_it_stops, "restart"),
    (goes_on_after_a_failure, "pause"),
    (goes_on_after_a_failure, "rollback"),
    (remembers_one_task_more, "loop"),
    (accepts_every_version, "swap"),
    (restarts_for_a_label, "swap"),
    (restarts_at_once, "loop"),
    (never_gives_up, "policy"),
    (takes_a_kill_for_an_end, "place"),
    (brings_lost_tasks_back, "node"),
    (keeps_quiet_about_oom_kills, "oom"),
)


@pytest.mark.parametrize(("plant", "scene"), DEVIATIONS)
def test_a_simulator_that_deviates_breaks_a_scene(
    plant: Plant, scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (played,) = [each for each in SCENES if each.name == scene]
    plant(monkeypatch)
    try:
        facts = play_all(SimulatedGround(), [played], LIMIT_S)[scene]
    except NotOverError:
        return  # the scene never comes to its end
    assert difference(scene, facts)
