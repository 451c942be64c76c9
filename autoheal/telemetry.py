"""What autoheal says of itself: one registry, each metric named once, and the age of each loop.

Names follow Prometheus' conventions; labels have few values. The loops are handed this object and
never touch prometheus_client themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from autoheal.ports import Clock

# From one tick to an hour: seconds of an incident.
INCIDENT_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600)


class Telemetry:
    """All metrics of one process."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._last_tick: dict[str, float] = {}
        self._limit: dict[str, float] = {}
        self._make_loop_metrics()
        self._make_flow_metrics()
        self._make_incident_metrics()

    def _make_loop_metrics(self) -> None:
        counter, gauge = self._counter, self._gauge
        self._ticks = counter("loop_ticks", "Completed ticks of a loop", "loop")
        self._failures = counter("loop_failures", "Ticks that ended in an error", "loop")
        self._duration = self._histogram(
            "loop_duration_seconds", "Time one tick took", "loop", buckets=Histogram.DEFAULT_BUCKETS
        )
        self._age = gauge(
            "loop_last_tick_age_seconds", "Time since the loop last completed a tick", "loop"
        )
        self.skipped = counter("ticks_skipped", "Scheduled ticks that did not run")
        self.leader = gauge("leader", "1 while this process holds the lease", "lease")

    def _make_flow_metrics(self) -> None:
        counter, gauge = self._counter, self._gauge
        self.samples = counter("samples", "Container samples taken on this node")
        self.samples_missing = counter(
            "samples_missing", "Container samples that could not be read"
        )
        self.events = counter("events", "Docker events written to the store", "kind")
        self.buffered = gauge("outbox_entries", "Entries waiting for the store", "outbox")
        self.dropped = counter("outbox_dropped", "Entries lost to a full buffer", "outbox")
        self.decisions = counter("decisions", "Decisions made", "action", "max_mode")
        self.held = counter("held", "Proposals held back, by guard", "guard")
        self.outcomes = counter("outcomes", "What became of decisions", "outcome")
        self.breaker_open = gauge(
            "breaker_open", "0 closed, 1 half-open, 2 open: whether Docker writes are let through"
        )
        self.source_age = gauge(
            "source_value_age_seconds", "Time since the source last told its figure", "source"
        )
        self.source_failures = counter(
            "source_failures", "Turns at which the source could not be read", "source"
        )
        self.notifications = counter("notifications", "Deliveries", "notifier", "result")
        self.rules = gauge("rules", "Rules in force")
        self.reload_successful = gauge(
            "rules_reload_successful", "1 unless the rule files hold a mistake"
        )
        self.reload_success = gauge(
            "rules_reload_success_timestamp_seconds", "When rules were last read without a mistake"
        )
        # Where no rules are read there is no mistake in them.
        self.reload_successful.set(1)

    def _make_incident_metrics(self) -> None:
        since = "from the first evidence of an incident"
        self.bad_entries = self._counter(
            "bad_entries", "Entries of the store that could not be read", "stream"
        )
        self.incidents = self._counter(
            "incidents", "Incidents that are over, by what they came to", "end"
        )
        self.time_to_detect = self._histogram(
            "time_to_detect_seconds", f"Time {since} until a rule fired", buckets=INCIDENT_S
        )
        self.time_to_act = self._histogram(
            "time_to_act_seconds", f"Time {since} until an action was taken", buckets=INCIDENT_S
        )
        self.time_to_recover = self._histogram(
            "time_to_recover_seconds", f"Time {since} until all was well", buckets=INCIDENT_S
        )
        self.quarantined = self._gauge(
            "quarantined", "Rules that may not act on a service until a person resets them"
        )
        self.outage = self._gauge(
            "outage", "1 while so many services are sick that nothing is done"
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"autoheal_{name}", documentation, labels, registry=self.registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"autoheal_{name}", documentation, labels, registry=self.registry)

    def _histogram(
        self, name: str, documentation: str, *labels: str, buckets: Sequence[float]
    ) -> Histogram:
        return Histogram(
            f"autoheal_{name}", documentation, labels, registry=self.registry, buckets=buckets
        )

    def expect(self, loop: str, limit_s: float) -> None:
        """Declare a loop; it counts as stale when it has not ticked for `limit_s`."""
        self._limit[loop] = limit_s
        self._last_tick[loop] = self._clock.monotonic()
        self._age.labels(loop).set_function(lambda: self.age(loop))

    def ticked(self, loop: str, duration_s: float) -> None:
        """A tick ended well."""
        self._ticks.labels(loop).inc()
        self._duration.labels(loop).observe(duration_s)
        self._last_tick[loop] = self._clock.monotonic()

    def failed(self, loop: str) -> None:
        """A tick ended in an error. It does not count as a sign of life."""
        self._failures.labels(loop).inc()

    def age(self, loop: str) -> float:
        """Seconds since the loop last ticked."""
        return self._clock.monotonic() - self._last_tick[loop]

    def limit(self, loop: str) -> float:
        """Seconds after which the loop counts as stale."""
        return self._limit[loop]

    def stale(self) -> dict[str, float]:
        """The loops that are late, with their age in seconds."""
        ages = {loop: self.age(loop) for loop in self._limit}
        return {loop: age for loop, age in ages.items() if age > self._limit[loop]}
