"""restart: replace every task of a service by a new one, through its ForceUpdate."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Spec, Subject, Unable
from autoheal.actions.words import replaces
from autoheal.model import ActionKind


def _read(spec: Spec) -> int:
    return int((spec.get("TaskTemplate") or {}).get("ForceUpdate") or 0)


def _write(spec: Spec, number: int) -> dict[str, Any]:
    changed = copy.deepcopy(dict(spec))
    changed["TaskTemplate"] = {**(changed.get("TaskTemplate") or {}), "ForceUpdate": number}
    return changed


# Swarm leaves the field out until the first forced update: that is 0.
FORCE_UPDATE = Leaf(path="TaskTemplate.ForceUpdate", read=_read, write=_write)


@dataclass(frozen=True, slots=True)
class Restart(Action):
    """Replace all tasks as the service's update settings say: in what order, how many at a time."""

    kind: ClassVar[ActionKind] = ActionKind.RESTART
    leaf: ClassVar[Leaf | None] = FORCE_UPDATE
    example: ClassVar[str] = "{action: restart}"
    heals: ClassVar[bool] = True
    rolls: ClassVar[bool] = True

    def plan(self, subject: Subject) -> Plan | Unable:
        """To the next ForceUpdate."""
        start = subject.service.force_update
        return Plan(start, start + 1, f"restart: {replaces(subject.service)}")

    @classmethod
    def objection(cls, start: int, target: int) -> str | None:
        """A restart is one step."""
        return None if target == start + 1 else f"{cls.shown(target)} is not one restart further"

    @classmethod
    def shown(cls, value: int) -> str:
        """A count of forced updates, which means nothing without its name."""
        return f"ForceUpdate {value}"

    @classmethod
    def steps(cls, start: int, target: int) -> str:
        """Nothing: every restart is alike."""
        del start, target
        return ""
