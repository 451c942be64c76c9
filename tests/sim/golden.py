"""The facts of each scene, as a real Swarm has shown them: facts/NAME.json."""

from __future__ import annotations

import json
from difflib import unified_diff
from pathlib import Path

from sim.observer import Facts

DIRECTORY = Path(__file__).parent / "facts"


def difference(scene: str, facts: Facts) -> str:
    """How the facts differ from those that every Swarm must show; empty where they do not."""
    kept = _path(scene).read_text().splitlines()
    return "\n".join(unified_diff(kept, _text(facts).splitlines(), scene, "seen", lineterm=""))


def keep(scene: str, facts: Facts) -> None:
    """Make these the facts."""
    _path(scene).write_text(_text(facts))


def _text(facts: Facts) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _path(scene: str) -> Path:
    return DIRECTORY / f"{scene}.json"
