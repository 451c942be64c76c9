"""Escalations, and notifiers that remember what they were told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from autoheal.errors import RemoteError
from autoheal.model import ActionKind, Decision, Mode
from autoheal.notifier import Destination, NotifierLoop
from autoheal.ports import Alert
from autoheal.telemetry import Telemetry
from executor.fakes import KEY, FakeStore, World, a_decision


def an_escalation(world: World, *, firing: bool = True, **changes: Any) -> Decision:  # noqa: ANN401  # any field of a decision
    """A rule's alert on a service begins or ends now."""
    return a_decision(
        **{
            "action": ActionKind.ESCALATE,
            "rule": "crash-loop",
            "start": 0 if firing else 1,
            "target": 1 if firing else 0,
            "severity": "critical",
            "reason": "5 tasks failed in 10m",
            "decided_at_ms": world.clock.ms,
            "expires_at_ms": world.clock.ms + 60_000,
            **changes,
        }
    )


def fires(world: World, **changes: Any) -> Decision:  # noqa: ANN401  # as above
    return world.decide(an_escalation(world, **changes))


def ends(world: World, **changes: Any) -> Decision:  # noqa: ANN401  # as above
    return world.decide(an_escalation(world, firing=False, **changes))


@dataclass
class Told:
    """One call of `send`: when, and what of each alert."""

    at_s: float
    alerts: list[tuple[str, int, int | None]]


@dataclass
class FakeNotifier:
    """Fails while it has an error; each call may take time."""

    world: World
    name: str = "fake"
    error: RemoteError | None = None
    takes_s: float = 0.0
    calls: int = 0
    told: list[Told] = field(default_factory=list)

    def send(self, alerts: Sequence[Alert]) -> None:
        self.world.steps.point("before send")
        self.calls += 1
        self.world.clock.advance(self.takes_s)
        if self.error is not None:
            raise self.error
        rows = [(alert.decision.id, alert.started_ms, alert.ended_ms) for alert in alerts]
        self.told.append(Told(self.world.clock.monotonic(), rows))
        self.world.steps.point("after send")

    @property
    def rows(self) -> list[tuple[str, int, int | None]]:
        return [row for told in self.told for row in told.alerts]


def a_notifier(
    world: World, *destinations: Destination, mode: Mode = Mode.LIVE, key: bytes = KEY
) -> NotifierLoop:
    boot = world.boot()
    return NotifierLoop(
        store=FakeStore(world.store, world.steps, boot),
        destinations=destinations,
        clock=world.clock,
        telemetry=Telemetry(world.clock),
        key=key,
        holder=boot,
        mode=mode,
    )


def run(world: World, loop: NotifierLoop, seconds: int = 5) -> None:
    """Let it tick once a second; a store that is away does not end it."""
    for _ in range(seconds):
        try:
            loop.tick()
        except ConnectionError:
            world.steps.point("the store was away")
        world.clock.advance(1)
