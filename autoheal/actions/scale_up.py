"""scale_up: add tasks to a replicated service, never past an explicit maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Subject, Unable
from autoheal.actions.replicas import REPLICAS, highest, outside_labels, too_few
from autoheal.model import ActionKind


@dataclass(frozen=True, slots=True)
class ScaleUp(Action):
    """Add `by` replicas, at most to `max`. A service already past `max` is left as it is."""

    kind: ClassVar[ActionKind] = ActionKind.SCALE_UP
    leaf: ClassVar[Leaf | None] = REPLICAS
    example: ClassVar[str] = "{action: scale_up, by: 1, max: 10}"

    max: int
    by: int = 1

    def plan(self, subject: Subject) -> Plan | Unable:
        """From the present count to the next one."""
        current = subject.service.replicas or 0
        bound, whose = highest(subject, self.max)
        if current >= bound:
            return Unable(f"{current} replicas, and {whose} is {bound}")
        target = min(current + self.by, bound)
        return outside_labels(subject, target) or Plan(
            current, target, f"scale up from {current} to {target}"
        )

    @classmethod
    def objection(cls, start: int, target: int) -> str | None:
        """A step up, to one task at least."""
        if reason := too_few(target):
            return reason
        return None if target > start else f"the target {target} is no more than {start}"
