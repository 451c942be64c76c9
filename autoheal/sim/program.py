"""What the containers of a service do: the load they carry, what they need, how they fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from autoheal.sim.load import Constant, Load

MIB = 2**20
RELEASE = "RELEASE"


class Order(StrEnum):
    """A way to fail, for as long as it is ordered.

    CRASH and FINISH end the process, with exit code 3 and 0. FILL makes it hold so many bytes more;
    JOB lets a child process need them every few seconds. LEAK loses so many bytes a second, SICK
    fails the health check. BURN uses as much CPU as the limit allows, IDLE carries no load.
    """

    CRASH = "crash"
    FINISH = "finish"
    FILL = "fill"
    JOB = "job"
    LEAK = "leak"
    SICK = "sick"
    BURN = "burn"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Program:
    """One program, as it runs in every container of a service.

    `load` is what all tasks together are asked for, in cores; those that serve share it evenly.
    Memory is in bytes: at rest, and for each core in use. A container starts to serve
    `start_up_ms` after its process began, and burns `start_up_cores` until then. On TERM it ends
    with `exit_on_term` after `stop_ms`; None ignores the signal until it is killed. `broken` names
    the releases (the variable RELEASE of the task's environment) that end at once with exit code 3;
    `has_image` tells whether a node can get the image.
    """

    load: Load = field(default_factory=lambda: Constant(0.0))
    memory: int = 32 * MIB
    memory_per_core: int = 0
    start_up_ms: int = 0
    start_up_cores: float = 0.0
    stop_ms: int = 100
    exit_on_term: int | None = 0
    broken: frozenset[str] = frozenset({"broken"})
    has_image: bool = True


class Orders:
    """The orders in force for one service, to all of its containers or to one."""

    def __init__(self) -> None:
        self._given: dict[Order, tuple[str | None, int]] = {}

    def give(self, order: Order, amount: int = 0, *, to: str | None = None) -> None:
        """Order it of the container `to`, None for all: those that come later too."""
        self._given[order] = (to, amount)

    def relieve(self, order: Order) -> None:
        """Take it back. What has happened has happened."""
        self._given.pop(order, None)

    def amount(self, order: Order, container: str) -> int | None:
        """How much is ordered of this container, None for nothing."""
        to, amount = self._given.get(order, ("", 0))
        return amount if to is None or to == container else None

    def holds(self, order: Order, container: str) -> bool:
        """Whether it is ordered of this container."""
        return bool(self._given) and self.amount(order, container) is not None


def release_of(task_template: Mapping[str, object]) -> str:
    """The release that a task template names, "" for none."""
    container = task_template.get("ContainerSpec")
    lines = container.get("Env") if isinstance(container, Mapping) else None
    prefix = f"{RELEASE}="
    return next((line.removeprefix(prefix) for line in lines or () if line.startswith(prefix)), "")
