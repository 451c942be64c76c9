"""What autoheal can do: one file per action, with its parameters, its plan and its words.

An action that changes a service names the one leaf of the spec it changes. To add an action: add
its file and its row in `ACTIONS`. `track` has no row: what it proposes is a scale_up or a
scale_down, and is carried out as that.
"""

from __future__ import annotations

from autoheal.actions.base import Action, Leaf, Plan, Proposal, Subject, Unable
from autoheal.actions.escalate import Escalate
from autoheal.actions.raise_memory import RaiseMemory
from autoheal.actions.restart import Restart
from autoheal.actions.scale_down import ScaleDown
from autoheal.actions.scale_up import ScaleUp
from autoheal.actions.track import Track
from autoheal.model import ActionKind

ACTIONS: dict[ActionKind, type[Action]] = {
    ActionKind.ESCALATE: Escalate,
    ActionKind.SCALE_UP: ScaleUp,
    ActionKind.RAISE_MEMORY: RaiseMemory,
    ActionKind.RESTART: Restart,
    ActionKind.SCALE_DOWN: ScaleDown,
}

__all__ = [
    "ACTIONS",
    "Action",
    "Escalate",
    "Leaf",
    "Plan",
    "Proposal",
    "RaiseMemory",
    "Restart",
    "ScaleDown",
    "ScaleUp",
    "Subject",
    "Track",
    "Unable",
]
