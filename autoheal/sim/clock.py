"""Time that moves only when it is told to."""

from __future__ import annotations


class SimulatedClock:
    """Both clocks of every process of a simulation, in one: they never drift apart."""

    def __init__(self, start_ms: int) -> None:
        self.now_ms = start_ms

    def monotonic(self) -> float:
        """Seconds since 1970, in simulated time."""
        return self.now_ms / 1000

    def wall_ms(self) -> int:
        """Milliseconds since 1970, in simulated time."""
        return self.now_ms

    def advance_to(self, ms: int) -> None:
        """Let it be `ms`. Raises ValueError for a time that is past."""
        if ms < self.now_ms:
            raise ValueError(f"time does not go back from {self.now_ms} to {ms}")
        self.now_ms = ms
