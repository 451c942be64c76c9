"""What every action has: a kind, a plan in absolute terms, and the leaf of the spec it changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from autoheal.model import ActionKind, Service

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the action would take the service: absolute, from `start` to `target`."""

    start: int
    target: int
    words: str


@dataclass(frozen=True, slots=True)
class Unable:
    """Why the action has nothing to do here; `words` complete 'it could not act:'."""

    words: str


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

    `leaf` is None for an action that touches no service. `example` is a `then` as people write it.
    """

    kind: ClassVar[ActionKind]
    leaf: ClassVar[Leaf | None]
    example: ClassVar[str]

    @abstractmethod
    def plan(self, service: Service) -> Plan | Unable:
        """What this action would do to the service as it is."""
