"""The replica count of a replicated service: the leaf that scale_up and scale_down share."""

from __future__ import annotations

import copy
from typing import Any

from autoheal.actions.base import Leaf, Spec


def _read(spec: Spec) -> int | None:
    replicated = spec.get("Mode", {}).get("Replicated")
    if replicated is None:
        return None
    # Swarm stores an omitted count as 1 (swarmkit defaults), but an old spec may lack the field.
    return int(replicated.get("Replicas", 1))


def _write(spec: Spec, replicas: int) -> dict[str, Any]:
    changed = copy.deepcopy(dict(spec))
    changed["Mode"]["Replicated"]["Replicas"] = replicas
    return changed


REPLICAS = Leaf(path="Mode.Replicated.Replicas", read=_read, write=_write)
