"""A loop over sources that tell what the test gives them, on threads that the test starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from autoheal import records
from autoheal.core.rule import Source
from autoheal.errors import RemoteUnreachable
from autoheal.model import SourceValue
from autoheal.sources import SourceLoop
from autoheal.telemetry import Telemetry
from executor.fakes import FakeStore, World

STEP_S = 0.1
DOWN = RemoteUnreachable("http://shop:80: Connection refused")


def a_source(name: str = "jobs", **changes: Any) -> Source:  # noqa: ANN401  # any field of a source
    fields = {
        "kind": "json",
        "options": (("path", "a"), ("url", "http://shop")),
        "every_ms": 10_000,
        "timeout_ms": 2_000,
        "stale_after_ms": 60_000,
    }
    return Source(**{"name": name, **fields, **changes})


@dataclass
class Figure:
    """What one source tells: a value, or what it raises."""

    value: float = 5.0
    error: Exception | None = None
    asked_at: list[float] = field(default_factory=list)


@dataclass
class Scene:
    """One loop of a world, its figures by name, and the questions that nobody has answered yet."""

    world: World
    figures: dict[str, Figure] = field(default_factory=dict)
    waiting: list[Callable[[], None]] = field(default_factory=list)
    is_hanging: bool = False

    def __post_init__(self) -> None:
        self.telemetry = Telemetry(self.world.clock)
        boot = self.world.boot()
        self.loop = SourceLoop(
            store=FakeStore(self.world.store, self.world.steps, boot),
            adapter=lambda source: Asked(self, source),
            clock=self.world.clock,
            telemetry=self.telemetry,
            holder=boot,
            lease_ttl_s=15.0,
            start=self.waiting.append,
        )

    def figure(self, name: str = "jobs") -> Figure:
        return self.figures.setdefault(name, Figure())

    def answer(self) -> None:
        """The questions that wait come to an end."""
        questions, self.waiting[:] = list(self.waiting), []
        for question in questions:
            question()

    def play(self, seconds: float) -> None:
        """Tick as the runner does; a store that is away does not end it."""
        for _ in range(round(seconds / STEP_S)):
            try:
                self.loop.tick()
            except ConnectionError:
                self.world.steps.point("the store was away")
            if not self.is_hanging:
                self.answer()
            self.world.clock.advance(STEP_S)

    def metric(self, name: str, source: str = "jobs") -> float | None:
        return self.telemetry.registry.get_sample_value(f"autoheal_{name}", {"source": source})


@dataclass
class Asked:
    """The adapter of one source."""

    scene: Scene
    source: Source

    def read(self) -> float:
        figure = self.scene.figure(self.source.name)
        figure.asked_at.append(self.scene.world.clock.monotonic())
        if figure.error is not None:
            raise figure.error
        return figure.value


def told(world: World) -> list[SourceValue]:
    """What stands in the store, each value once, whichever question it answers."""
    values = [records.unpack_source(entry.fields) for entry in world.store.of(records.SOURCES)]
    return [dataclasses.replace(value, definition="") for value in values]


def told_at(world: World) -> list[float]:
    """When that was true, in seconds."""
    begin = world.clock.ms - round(world.clock.monotonic() * 1000)
    return [(entry.at_ms - begin) / 1000 for entry in world.store.of(records.SOURCES)]
