"""A store that can be away and remembers what it was given, and a telemetry that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoheal.ports import Write
from autoheal.telemetry import Telemetry


@dataclass
class Store:
    """A StreamWriter. `loses_replies` takes what it is given and says that it is away."""

    away: bool = False
    loses_replies: bool = False
    calls: list[list[Write]] = field(default_factory=list)
    kept: list[Write] = field(default_factory=list)

    def append(self, writes: Sequence[Write]) -> None:
        self.calls.append(list(writes))
        if self.away:
            raise ConnectionError("the store is away")
        self.kept.extend(writes)
        if self.loses_replies:
            raise ConnectionError("the reply was lost")

    @property
    def sequences(self) -> list[int]:
        return [write.sequence for write in self.kept]


def value(telemetry: Telemetry, name: str, **labels: str) -> float:
    """A metric's value now, 0 for one that was never touched."""
    return telemetry.registry.get_sample_value(name, labels) or 0.0
