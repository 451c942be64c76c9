"""Records the facts of all scenes from a rig of its own: PYTHONPATH=tests python -m sim.record

They are part of the tests: look at what changed before they are kept. With names of scenes, only
those are played.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rig.swarm import Rig
from sim import golden
from sim.rig_ground import RigGround
from sim.scenes import ALONE, SIDE_BY_SIDE, Scene, play_all

LIMIT_S = 120.0


def main(names: Sequence[str]) -> None:
    """Play and keep."""
    groups = (SIDE_BY_SIDE, *((scene,) for scene in ALONE))
    with Rig("record") as rig:
        for group in groups:
            _record(rig, [scene for scene in group if not names or scene.name in names])


def _record(rig: Rig, scenes: Sequence[Scene]) -> None:
    if not scenes:
        return
    with RigGround(rig) as ground:
        for name, facts in play_all(ground, scenes, LIMIT_S).items():
            golden.keep(name, facts)
    rig.reset()


if __name__ == "__main__":
    main(sys.argv[1:])
