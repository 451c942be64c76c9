"""Hand-made parts: a clock that tests move, a reader that answers from a table, containers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoheal.adapters.containers import TaskContainer
from autoheal.errors import RemoteError, RemoteRefused
from autoheal.metrics import MEASURED
from autoheal.records import Samples, container_key


@dataclass
class HandClock:
    """Stands still until told otherwise."""

    now: float = 100.0
    wall: int = 1_700_000_000_000

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds
        self.wall += int(1000 * seconds)


@dataclass
class TableReader:
    """A SwarmReader that answers from a table, or fails."""

    answers: dict[str, Any] = field(default_factory=dict)
    failure: RemoteError | None = None
    asked: list[str] = field(default_factory=list)

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401, ARG002  # as the port
        self.asked.append(path)
        if self.failure is not None:
            raise self.failure
        if path not in self.answers:
            raise RemoteRefused(404, f"no such thing: {path}")
        return self.answers[path]


def container(letter: str) -> TaskContainer:
    """One whose id is 64 times the same digit."""
    return TaskContainer(letter * 64, f"task-{letter}", f"service-{letter}")


def figures(samples: Samples, container_id: str) -> dict[str, float]:
    """One container's column by metric."""
    column = samples.keys.index(container_key(container_id))
    return dict(zip(MEASURED, samples.matrix[:, column].tolist(), strict=True))


def write(root: Path, files: dict[str, str]) -> None:
    """Make a tree of files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
