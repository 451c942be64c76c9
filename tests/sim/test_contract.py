"""The simulated Swarm shows the facts that a real one has shown; see tests/swarm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sim.golden import difference
from sim.scenes import SCENES, SIDE_BY_SIDE, Scene, play_all
from sim.simulated_ground import SimulatedGround

LIMIT_S = 120.0


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_simulated_swarm_shows_the_facts_of_a_real_one(scene: Scene) -> None:
    assert not (found := differences([scene])), found


def test_services_of_a_simulated_swarm_do_not_disturb_one_another() -> None:
    assert not (found := differences(SIDE_BY_SIDE)), found


def test_twelve_scenes_make_the_contract() -> None:
    assert len(SCENES) == 12


def differences(scenes: Sequence[Scene]) -> str:
    played = play_all(SimulatedGround(), scenes, LIMIT_S)
    assert played.keys() == {scene.name for scene in scenes}
    return "".join(difference(name, facts) for name, facts in played.items())
