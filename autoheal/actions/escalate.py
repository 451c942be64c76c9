"""escalate: tell people, and tell them again when it is over. Touches no service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from autoheal.actions.base import Action, Leaf, Plan, Subject, Unable
from autoheal.model import ActionKind

Severity = Literal["critical", "warning", "info"]
# Worst first.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

QUIET = 0
FIRING = 1


@dataclass(frozen=True, slots=True)
class Escalate(Action):
    """Raise an alert of the given severity while the rule fires."""

    kind: ClassVar[ActionKind] = ActionKind.ESCALATE
    leaf: ClassVar[Leaf | None] = None
    example: ClassVar[str] = "{action: escalate, severity: critical}"
    heals: ClassVar[bool] = True

    severity: Severity = "warning"

    def plan(self, subject: Subject) -> Plan | Unable:
        """From quiet to firing; the way back is the rule's, not the action's."""
        return Plan(QUIET, FIRING, f"escalate ({self.severity})")

    @classmethod
    def steps(cls, start: int, target: int) -> str:
        """Nothing: it changes no leaf."""
        del start, target
        return ""
