"""Where scenes are played: what a real Swarm and a simulated one have in common.

Everything that is asserted is read through the product's own ports: `swarm` (raw JSON as Docker
sends it), `events()` and `figures()`. The rest of a ground does to the Swarm what the world does:
people who create services, programs that misbehave, machines that lose power.

The program of every service obeys orders; each container looks for them twice a second at least:

    crash   ends with exit code 3
    finish  ends with exit code 0
    fill    takes more memory than the limit, in its first process: the kernel kills that one
    job     takes more memory than the limit in a child, again and again: the kernel kills the child
    burn    uses as much CPU as its limit allows
    sick    its health check fails

RELEASE in its environment tells the release: `broken` ends with exit code 3 when it starts, any
other is well. A scene deploys by an update of the service that changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from autoheal.model import Event
from autoheal.ports import ContainerSource, StatsSource, SwarmWriter

MIB = 2**20
EVERYBODY = "all"
RELEASE = "RELEASE"
GOOD, BROKEN, OTHER = "good", "broken", "other"

Word = Literal["crash", "finish", "fill", "job", "burn", "sick"]


@dataclass(frozen=True)
class Rollout:
    """Docker's UpdateConfig; a rollback goes by the same. `delay_s` is between two tasks."""

    order: Literal["stop-first", "start-first"] = "stop-first"
    failure_action: Literal["pause", "continue", "rollback"] = "pause"
    parallelism: int = 1
    delay_s: int = 0
    monitor_s: int = 1


@dataclass(frozen=True)
class Restart:
    """Docker's RestartPolicy; 0 attempts means without end."""

    condition: Literal["any", "on-failure", "none"] = "any"
    delay_s: int = 1
    max_attempts: int = 0


@dataclass(frozen=True)
class Patient:
    """What a service is to be. Its stop grace period is 1 s.

    `has_health_check`: a check every second, unhealthy after two failures. `has_image`: False names
    an image that is in no registry. `heeds_term`: it ends with exit code 0 on TERM; else it ignores
    TERM and is killed. `is_broken`: its first release is.
    """

    replicas: int = 1
    memory_mib: int = 32
    cpus: float = 0.1
    rollout: Rollout = field(default_factory=Rollout)
    restart: Restart = field(default_factory=Restart)
    constraints: tuple[str, ...] = ()
    has_health_check: bool = False
    has_image: bool = True
    heeds_term: bool = True
    is_broken: bool = False


@dataclass(frozen=True)
class Figures:
    """A task's own figures, in percent of its limits; NaN is missing."""

    cpu_percent: float
    memory_percent: float


class Ground(Protocol):
    """One manager and two workers, no service on them at first."""

    @property
    def nodes(self) -> Sequence[str]:
        """The hostnames, the manager's first."""
        ...

    @property
    def swarm(self) -> SwarmWriter:
        """The manager's API."""
        ...

    def create(self, name: str, patient: Patient) -> str:
        """Create a service, its environment holding RELEASE=good or =broken; its id."""
        ...

    def order(self, name: str, word: Word, whom: str = EVERYBODY) -> None:
        """From now on all tasks of the service obey, new ones too; or one container, by its id."""
        ...

    def relieve(self, name: str, word: Word) -> None:
        """Take the order back."""
        ...

    def kill(self, container: str) -> None:
        """`docker kill` by a person."""
        ...

    def lose_node(self, hostname: str) -> None:
        """A worker loses its power: engine and containers are gone at once."""
        ...

    def return_node(self, hostname: str) -> None:
        """It has power again, and its engine starts."""
        ...

    def drain(self, hostname: str) -> None:
        """Set the node's availability."""
        ...

    def activate(self, hostname: str) -> None:
        """Set it back."""
        ...

    def events(self) -> Sequence[Event]:
        """All that the nodes' EventSources have told so far; in order for each container."""
        ...

    def figures(self) -> Mapping[str, Figures]:
        """By task, what the nodes' StatsSources tell now; CPU is since the last call."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass."""
        ...


def figures_of(source: ContainerSource, stats: StatsSource) -> dict[str, Figures]:
    """One node's figures, by task."""
    containers = source.containers()
    samples, rows = stats.sample(containers), stats.roster(containers)
    columns = dict(zip(samples.keys, samples.matrix.T.tolist(), strict=True))
    found = {}
    for row in rows:
        if row.key in columns and row.cpu_limit and row.memory_limit:
            figures = dict(zip(samples.metrics, columns[row.key], strict=True))
            found[row.task] = Figures(
                100 * figures["cpu_cores"] / row.cpu_limit,
                100 * figures["memory_bytes"] / row.memory_limit,
            )
    return found
