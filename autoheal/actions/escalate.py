"""escalate: tell people, and tell them again when it is over. Touches no service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from autoheal.actions.base import Action, Leaf, Plan, Unable
from autoheal.model import ActionKind, Service

Severity = Literal["critical", "warning", "info"]

QUIET = 0
FIRING = 1


@dataclass(frozen=True, slots=True)
class Escalate(Action):
    """Raise an alert of the given severity while the rule fires."""

    kind: ClassVar[ActionKind] = ActionKind.ESCALATE
    leaf: ClassVar[Leaf | None] = None
    example: ClassVar[str] = "{action: escalate, severity: critical}"

    severity: Severity = "warning"

    def plan(self, service: Service) -> Plan | Unable:
        """From quiet to firing; the way back is the rule's, not the action's."""
        return Plan(QUIET, FIRING, f"escalate ({self.severity})")
