"""What every action has: a kind, a plan in absolute terms, and the leaf of the spec it changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from autoheal.model import ActionKind, Evidence, Service

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """All that an action may look at.

    `minimum` and `maximum` are the replicas that the service's labels allow, None where they do not
    say. `killed_limit` is the memory limit, in bytes, that was in force at the newest kill that the
    rule counts; None if it counts none. `room` is the memory, in bytes, by which each task's limit
    could grow on the nodes that run them; None if that is not known. `tracked` is what target
    tracking came to, which rests on figures and on what was asked for before; None if it wants no
    other count, or nothing is tracked.
    """

    service: Service
    running: int = 0
    minimum: int | None = None
    maximum: int | None = None
    killed_limit: int | None = None
    room: int | None = None
    tracked: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the action would take the service: absolute, from `start` to `target`."""

    start: int
    target: int
    words: str


@dataclass(frozen=True, slots=True)
class Unable:
    """Why the action has nothing to do here; `words` complete 'it could not act:'.

    `lasting` says that waiting will not change it, so that the rule's `otherwise` is due; `fix` is
    what a person can do about it for good, "" if nothing is known; `held_by` names what stops it.
    """

    words: str
    lasting: bool = True
    fix: str = ""
    held_by: str = "bound"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a rule would have done to a service, or why it cannot be.

    `evidence` are the figures it rests on, where the rule's condition does not tell them.
    """

    kind: ActionKind
    plan: Plan | Unable
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Leaf:
    """The one value in a service spec that an action changes.

    `read` gives the present value, None where the spec has no such leaf; `write` gives a spec that
    differs from the given one in that leaf only and shares nothing mutable with it.
    """

    path: str
    read: Callable[[Spec], int | None]
    write: Callable[[Spec, int], dict[str, Any]]


class Action(ABC):
    """A rule's `then`, with its parameters; frozen and free of I/O.

    `kind` is what a decision of it is called; what may be of several kinds has none, but `kinds`.
    `leaf` is None for an action that touches no service. `example` is a `then` as people write it.
    `heals` marks actions that answer a failure, not load; `rolls` those that replace every task.
    `bounds` are the least and the greatest value, both allowed, that a rule may give a parameter.
    """

    kind: ClassVar[ActionKind]
    leaf: ClassVar[Leaf | None]
    example: ClassVar[str]
    heals: ClassVar[bool] = False
    rolls: ClassVar[bool] = False
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}

    @classmethod
    def kinds(cls) -> tuple[ActionKind, ...]:
        """What a decision of this action can be called."""
        return (cls.kind,)

    @abstractmethod
    def plan(self, subject: Subject) -> Plan | Unable:
        """What this action would do to the service as it is."""

    def propose(self, subject: Subject) -> Proposal | None:
        """The plan with the kind of action that it makes it; None if nothing is wanted."""
        return Proposal(self.kind, self.plan(subject))

    def fix(self, subject: Subject) -> str:
        """What a person can do for good about what this action answers; "" if nothing is known."""
        return ""

    @classmethod
    def objection(cls, start: int, target: int) -> str | None:
        """Why no plan of this kind may lead from `start` to `target`; None if one may."""
        del start, target
        return None

    @classmethod
    def shown(cls, value: int) -> str:
        """A value of the leaf, for people."""
        return str(value)

    @classmethod
    def steps(cls, start: int, target: int) -> str:
        """From where to where, for a log line or a table; "" where the action's name says it."""
        return f"{cls.shown(start)}->{cls.shown(target)}"
