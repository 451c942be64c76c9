"""scale_down: take tasks from a replicated service, never below an explicit minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Unable
from autoheal.actions.replicas import REPLICAS
from autoheal.model import ActionKind, Service


@dataclass(frozen=True, slots=True)
class ScaleDown(Action):
    """Remove `by` replicas, at least `min` stay. A service already below `min` is left as it is."""

    kind: ClassVar[ActionKind] = ActionKind.SCALE_DOWN
    leaf: ClassVar[Leaf | None] = REPLICAS
    example: ClassVar[str] = "{action: scale_down, by: 1, min: 2}"

    min: int
    by: int = 1

    def plan(self, service: Service) -> Plan | Unable:
        """From the present count to the next one."""
        current = service.replicas or 0
        if current <= self.min:
            return Unable(f"{current} replicas, and the rule's minimum is {self.min}")
        target = max(current - self.by, self.min)
        return Plan(current, target, f"scale down from {current} to {target}")
