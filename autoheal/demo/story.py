"""What happens in a demonstration, as its audience is told: facts in order, and glances between.

Times are milliseconds of simulated time since the demonstration began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autoheal.model import Decision, Incident, Mode, Outcome


@dataclass(frozen=True, slots=True)
class Opening:
    """What is about to be seen. `rules` names the rule files, `focus` the service of the chart.

    `speed` is simulated seconds a second, None for as fast as it goes; `started_ms` is the store's
    clock at the beginning, in milliseconds since 1970.
    """

    scenario: str
    about: str
    seed: int
    speed: float | None
    rules: Sequence[str]
    services: int
    nodes: int
    focus: str
    live_at_ms: int
    total_ms: int
    started_ms: int


@dataclass(frozen=True, slots=True)
class Happened:
    """Something the world does: people deploy, load comes and goes, a program breaks."""

    at_ms: int
    words: str


@dataclass(frozen=True, slots=True)
class WentLive:
    """From here on decisions are carried out where labels allow it."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Decided:
    """The engine wants something done, with its reason and evidence."""

    at_ms: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Concluded:
    """What became of a decision."""

    at_ms: int
    decision: Decision
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class IncidentEnded:
    """A service is well again, or gone."""

    at_ms: int
    incident: Incident


Fact = Happened | WentLive | Decided | Concluded | IncidentEnded


@dataclass(frozen=True, slots=True)
class Glance:
    """How the focus service stands. `cpu_percent` is the mean over its tasks, None without data."""

    at_ms: int
    mode: Mode
    replicas: int
    running: int
    cpu_percent: float | None


@dataclass(frozen=True, slots=True)
class Closing:
    """How it ended: every incident as it stood last, every decision with what became of it.

    `interrupted` says that somebody ended it early.
    """

    at_ms: int
    incidents: Sequence[Incident]
    decisions: Sequence[tuple[Decision, Outcome | None]]
    interrupted: bool


class Audience(Protocol):
    """Whoever is told: a terminal, a file, a program."""

    def open(self, opening: Opening) -> None:
        """Before anything happens."""
        ...

    def tell(self, fact: Fact) -> None:
        """Something happened."""
        ...

    def glance(self, glance: Glance) -> None:
        """Time has passed."""
        ...

    def close(self, closing: Closing) -> None:
        """It is over. Called once, also after an interruption."""
        ...
