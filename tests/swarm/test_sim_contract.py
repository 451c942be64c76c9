"""A real Swarm shows the facts that are asked of the simulated one; see sim.record."""

from __future__ import annotations

from collections.abc import Sequence

from rig.swarm import Rig
from sim.golden import difference
from sim.rig_ground import RigGround
from sim.scenes import ALONE, SIDE_BY_SIDE, Scene, play_all

LIMIT_S = 100.0


def test_scenes_played_side_by_side_show_their_facts(swarm: Rig) -> None:
    assert not (found := differences(swarm, SIDE_BY_SIDE)), found


def test_a_node_that_is_lost_and_one_that_is_drained_show_their_facts(swarm: Rig) -> None:
    assert not (found := differences(swarm, ALONE)), found


def differences(rig: Rig, scenes: Sequence[Scene]) -> str:
    with RigGround(rig) as ground:
        played = play_all(ground, scenes, LIMIT_S)
    assert played.keys() == {scene.name for scene in scenes}
    return "".join(difference(name, facts) for name, facts in played.items())
