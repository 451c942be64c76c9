"""A circuit breaker around Docker's writes, as a table; part of the decision state.

Closed lets actions through. After `failures` in a row it opens: nothing is let through for the
cool-off. Then it is half-open: one probe is let through; its success closes the breaker, its
failure opens it again. It reads no clock and outlives a restart with the state it is part of.
(Nygard, Release It!, 2nd ed., ch. 5.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Circuit(StrEnum):
    """The three states."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Signal(StrEnum):
    """What can happen to a breaker."""

    SUCCESS = "success"
    FAILURE = "failure"
    TOO_MANY = "too-many"
    COOLED = "cooled"


# What is not in the table leaves the circuit as it is.
TRANSITIONS: dict[tuple[Circuit, Signal], Circuit] = {
    (Circuit.CLOSED, Signal.TOO_MANY): Circuit.OPEN,
    (Circuit.OPEN, Signal.COOLED): Circuit.HALF_OPEN,
    (Circuit.HALF_OPEN, Signal.SUCCESS): Circuit.CLOSED,
    (Circuit.HALF_OPEN, Signal.FAILURE): Circuit.OPEN,
}


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit, the failures in a row, when it last opened, and the decision that probes."""

    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    opened_ms: int = 0
    probe: str = ""

    @property
    def admits(self) -> bool:
        """Whether one more action may be sent."""
        return self.circuit is Circuit.CLOSED or (
            self.circuit is Circuit.HALF_OPEN and not self.probe
        )

    def sent(self, decision: str) -> Breaker:
        """An action was sent: half-open, it is the probe."""
        if self.circuit is not Circuit.HALF_OPEN:
            return self
        return Breaker(self.circuit, self.failures, self.opened_ms, decision)

    def abandoned(self, decision: str) -> Breaker:
        """An action ended without telling anything of Docker: as a probe it may be sent again."""
        return Breaker(self.circuit, self.failures, self.opened_ms, self._probe_without(decision))

    def succeeded(self) -> Breaker:
        """Docker did as asked."""
        return Breaker(_next(self.circuit, Signal.SUCCESS), 0, self.opened_ms)

    def failed(self, decision: str, now_ms: int, limit: int) -> Breaker:
        """Docker failed us; `limit` failures in a row open the circuit."""
        failures = self.failures + 1
        circuit = _next(self.circuit, Signal.FAILURE)
        if failures >= limit:
            circuit = _next(circuit, Signal.TOO_MANY)
        opened = circuit is Circuit.OPEN and self.circuit is not Circuit.OPEN
        opened_ms = now_ms if opened else self.opened_ms
        return Breaker(circuit, failures, opened_ms, self._probe_without(decision))

    def at(self, now_ms: int, cool_off_ms: int) -> Breaker:
        """The breaker as time passes."""
        if self.circuit is Circuit.OPEN and now_ms - self.opened_ms >= cool_off_ms:
            circuit = _next(self.circuit, Signal.COOLED)
            return Breaker(circuit, self.failures, self.opened_ms, self.probe)
        return self

    def _probe_without(self, decision: str) -> str:
        return "" if self.probe == decision else self.probe


def _next(circuit: Circuit, signal: Signal) -> Circuit:
    return TRANSITIONS.get((circuit, signal), circuit)
