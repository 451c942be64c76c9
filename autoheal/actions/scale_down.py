"""scale_down: take tasks from a replicated service, never below an explicit minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Subject, Unable
from autoheal.actions.replicas import REPLICAS, lowest, outside_labels, too_few
from autoheal.model import ActionKind


@dataclass(frozen=True, slots=True)
class ScaleDown(Action):
    """Remove `by` replicas, at least `min` stay. A service already below `min` is left as it is."""

    kind: ClassVar[ActionKind] = ActionKind.SCALE_DOWN
    leaf: ClassVar[Leaf | None] = REPLICAS
    example: ClassVar[str] = "{action: scale_down, by: 1, min: 2}"

    min: int
    by: int = 1

    def plan(self, subject: Subject) -> Plan | Unable:
        """From the present count to the next one."""
        current = subject.service.replicas or 0
        bound, whose = lowest(subject, self.min)
        if current <= bound:
            return Unable(f"{current} replicas, and {whose} is {bound}")
        target = max(current - self.by, bound)
        return outside_labels(subject, target) or Plan(
            current, target, f"scale down from {current} to {target}"
        )

    @classmethod
    def objection(cls, start: int, target: int) -> str | None:
        """A step down, to one task at least."""
        if reason := too_few(target):
            return reason
        return None if target < start else f"the target {target} is no fewer than {start}"
