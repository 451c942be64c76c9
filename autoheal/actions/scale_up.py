"""scale_up: add tasks to a replicated service, never past an explicit maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Unable
from autoheal.actions.replicas import REPLICAS
from autoheal.model import ActionKind, Service


@dataclass(frozen=True, slots=True)
class ScaleUp(Action):
    """Add `by` replicas, at most to `max`. A service already past `max` is left as it is."""

    kind: ClassVar[ActionKind] = ActionKind.SCALE_UP
    leaf: ClassVar[Leaf | None] = REPLICAS
    example: ClassVar[str] = "{action: scale_up, by: 1, max: 10}"

    max: int
    by: int = 1

    def plan(self, service: Service) -> Plan | Unable:
        """From the present count to the next one."""
        current = service.replicas or 0
        if current >= self.max:
            return Unable(f"{current} replicas, and the rule's maximum is {self.max}")
        target = min(current + self.by, self.max)
        return Plan(current, target, f"scale up from {current} to {target}")
