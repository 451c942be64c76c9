"""raise_memory: a higher memory limit after a kill, from the limit that was in force at the kill.

The limit grows as the Vertical Pod Autoscaler lets it: to the larger of `base + add` and
`base x factor`. The base is the limit at the kill, not the present one, so that a kill under an
older limit, or one that was counted late, never raises a limit that has been raised for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from autoheal.actions.base import Action, Leaf, Plan, Spec, Subject, Unable
from autoheal.actions.words import name_in_compose, replaces
from autoheal.model import ActionKind, Service
from autoheal.units import MIB, Size, format_compose_size, format_size

# The least that Docker takes.
MEMORY_MIN = 4 * MIB
MEMORY_MAX = 2**50
FACTOR_MAX = 10.0
ADD_DEFAULT = Size(100 * MIB)
_LIMIT_IN_COMPOSE = "deploy.resources.limits.memory"


def _read(spec: Spec) -> int | None:
    resources = (spec.get("TaskTemplate") or {}).get("Resources") or {}
    return (resources.get("Limits") or {}).get("MemoryBytes") or None


def _write(spec: Spec, limit: int) -> dict[str, Any]:
    changed = copy.deepcopy(dict(spec))
    changed["TaskTemplate"]["Resources"]["Limits"]["MemoryBytes"] = limit
    return changed


# Only a limit that exists is ever raised, so the maps around it exist too.
MEMORY_LIMIT = Leaf(path="TaskTemplate.Resources.Limits.MemoryBytes", read=_read, write=_write)


@dataclass(frozen=True, slots=True)
class RaiseMemory(Action):
    """Raise the memory limit by `factor`, by `add` at least, at most to `max`; never lower it."""

    kind: ClassVar[ActionKind] = ActionKind.RAISE_MEMORY
    leaf: ClassVar[Leaf | None] = MEMORY_LIMIT
    example: ClassVar[str] = "{action: raise_memory, factor: 1.2, add: 100MiB, max: 2GiB}"
    heals: ClassVar[bool] = True
    rolls: ClassVar[bool] = True
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "factor": (1.0, FACTOR_MAX),
        "add": (0, MEMORY_MAX),
        "max": (MEMORY_MIN, MEMORY_MAX),
    }

    max: Size
    factor: float = 1.2
    add: Size = ADD_DEFAULT

    def plan(self, subject: Subject) -> Plan | Unable:
        """From the present limit to the one that follows the limit at the kill."""
        service = subject.service
        present, killed = service.memory_limit, subject.killed_limit
        if present is None:
            words = "it has no memory limit, so it was the host that ran out"
            return Unable(words, fix=self.fix(subject))
        if killed is None:
            return Unable("the limit at the kill is not known", lasting=False)
        if present > killed:
            words = f"the limit has been raised to {format_size(present)} since the kill already"
            return Unable(words, lasting=False)
        target = self._after(killed)
        if target <= present:
            return Unable(self._no_higher(present), fix=self.fix(subject))
        return self._short_of_room(subject, target - present) or Plan(
            present, target, self._words(service, present, target)
        )

    def fix(self, subject: Subject) -> str:
        """The line of the compose file that would have prevented the kill."""
        service = subject.service
        present, killed = service.memory_limit, subject.killed_limit
        value = max(present or 0, 0 if killed is None else self._after(killed))
        if value == 0:
            return f"set {_LIMIT_IN_COMPOSE} in service {name_in_compose(service)}"
        # To name the very limit that it was killed at would be no help.
        enough = killed is None or value > killed
        return _set_limit(service, value, "to" if enough else "above")

    @classmethod
    def objection(cls, start: int, target: int) -> str | None:
        """A limit is only ever raised."""
        if target <= start:
            return f"{cls.shown(target)} is no more than {cls.shown(start)}"
        least = f"{cls.shown(target)} is below Docker's minimum of {cls.shown(MEMORY_MIN)}"
        return least if target < MEMORY_MIN else None

    @classmethod
    def shown(cls, value: int) -> str:
        """A limit as people write it."""
        return format_size(value)

    def _after(self, killed: int) -> int:
        """The limit that follows one that was too low, in whole MiB unless `max` is not."""
        raised = max(killed + self.add, round(killed * self.factor))
        return min(math.ceil(raised / MIB) * MIB, self.max)

    def _no_higher(self, present: int) -> str:
        if present < self.max:
            return f"factor {self.factor:g} and add {format_size(self.add)} raise nothing"
        maximum = format_size(self.max)
        return f"its limit is {format_size(present)}, and the rule's maximum is {maximum}"

    def _short_of_room(self, subject: Subject, more: int) -> Unable | None:
        if subject.room is None:
            return Unable("how much memory its nodes have left is not known", lasting=False)
        if more <= subject.room:
            return None
        room = format_size(max(0, subject.room))
        words = f"each task needs {format_size(more)} more, and its nodes have room for {room}"
        return Unable(words, fix=self.fix(subject))

    def _words(self, service: Service, present: int, target: int) -> str:
        return (
            f"raise the memory limit from {format_size(present)} to {format_size(target)}: "
            f"{replaces(service)}; to keep it, {_set_limit(service, target, 'to')}"
        )


def _set_limit(service: Service, limit: int, how: str) -> str:
    name, size = name_in_compose(service), format_compose_size(limit)
    return f"set {_LIMIT_IN_COMPOSE} {how} {size} in service {name}"
