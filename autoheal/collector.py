"""What every node tells: the figures of its containers each tick, and Docker's events at once.

One tick: the list of containers, their figures, the node's own, packed into one entry; with it,
when the containers changed and every few minutes, the roster: whose they are and their limits.
Events have a thread and an outbox of their own, so that nothing delays them.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from autoheal.records import EVENTS, SAMPLES, SampleBatch, pack_event, pack_samples

if TYPE_CHECKING:
    from autoheal.model import Event, RosterRow
    from autoheal.outbox import Outbox
    from autoheal.ports import (
        Clock,
        Container,
        ContainerSource,
        EventSource,
        NodeSource,
        StatsSource,
    )
    from autoheal.telemetry import Telemetry

EVENTS_LOOP = "events"
ROSTER_EVERY_S = 300.0
ROSTER_AGAIN_S = 5.0
RECONNECT_FIRST_S = 1.0
RECONNECT_MAX_S = 30.0
STOP_S = 2.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """What this node can be asked for."""

    containers: ContainerSource
    stats: StatsSource
    node: NodeSource
    events: EventSource


class Collector:
    """The loop of one node: `tick()` for the figures, `hear()` for the events.

    Each belongs to one thread, which may be the same; `start()` gives `hear()` one of its own.
    `node` is Swarm's id of this node. `samples` and `events` are two outboxes: an event must not
    wait behind samples.
    """

    def __init__(
        self,
        node: str,
        sources: Sources,
        clock: Clock,
        telemetry: Telemetry,
        *,
        samples: Outbox,
        events: Outbox,
    ) -> None:
        self._node = node
        self._sources = sources
        self._clock = clock
        self._telemetry = telemetry
        self._samples = samples
        self._events = events
        self._roster: dict[str, RosterRow] = {}
        self._earlier: dict[str, RosterRow] = {}
        self._roster_due_at = clock.monotonic()
        self._roster_asked_at = 0.0
        self._asked: frozenset[str] = frozenset()
        self._breaks_seen = 0
        self._stream: Iterator[Event | None] | None = None
        self._pause_s = RECONNECT_FIRST_S
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Take one sample of everything and send it, with all that still waits.

        Raises RemoteError (Docker does not answer) and ConnectionError (the store is away; what
        could not be sent waits).
        """
        try:
            self._sample()
        finally:
            sent = self._samples.flush()
        if not sent:
            raise ConnectionError("the store is away: samples wait")

    def hear(self) -> bool:
        """Take in Docker's events up to its next sign of life; False: the stream ended without one.

        Raises RemoteError (Docker does not answer). After that, and after False, the next call
        follows anew.
        """
        stream = self._stream or self._sources.events.events(self._stopping.is_set)
        self._stream = None
        for event in stream:
            self._tell(event)
            self._pause_s = RECONNECT_FIRST_S
            if event is None:
                self._stream = stream
                return True
        return False

    def start(self) -> None:
        """Follow Docker's events from now on, on a thread."""
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the events' thread; one that waits for a hanging Docker is left behind."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _sample(self) -> None:
        containers = self._sources.containers.containers()
        taken = self._clock.monotonic()
        batch = self._batch(containers)
        self._samples.put(SAMPLES, pack_samples(batch), taken)
        count = len(batch.samples.keys)
        self._telemetry.samples.inc(count)
        self._telemetry.samples_missing.inc(len(containers) - count)

    def _batch(self, containers: Sequence[Container]) -> SampleBatch:
        samples = self._sources.stats.sample(containers)
        figures = self._sources.node.figures()
        return SampleBatch(self._node, samples, figures, self._roster_if_due(containers))

    def _roster_if_due(self, containers: Sequence[Container]) -> tuple[RosterRow, ...] | None:
        """The roster when it changed, every few minutes, and when a reader may lack the last."""
        now = self._clock.monotonic()
        breaks = self._samples.breaks
        ids = frozenset(container.id for container in containers)
        # A container that cannot be read is asked for again, but not at every tick.
        missing = self._roster.keys() != ids and now >= self._roster_asked_at + ROSTER_AGAIN_S
        unchanged = ids == self._asked and not missing
        if unchanged and now < self._roster_due_at and breaks == self._breaks_seen:
            return None
        self._asked, self._roster_asked_at = ids, now
        rows = self._sources.stats.roster(containers)
        self._earlier, self._roster = self._roster, {row.container: row for row in rows}
        self._roster_due_at = now + ROSTER_EVERY_S
        self._breaks_seen = breaks
        return rows

    # the events' thread

    def _follow(self) -> None:
        """Until stopped: hear; when the stream breaks, wait a little longer each time."""
        self._pause_s = RECONNECT_FIRST_S
        while not self._stopping.is_set():
            try:
                alive = self.hear()
            except Exception as error:  # noqa: BLE001  # the edge of a thread: told, and tried again
                _log.warning("Docker's events are not heard for %g s: %s", self._pause_s, error)
                self._telemetry.failed(EVENTS_LOOP)
                alive = False
            if not alive:
                self._stopping.wait(self._pause_s)
                self._pause_s = min(2 * self._pause_s, RECONNECT_MAX_S)

    def _tell(self, event: Event | None) -> None:
        """Write an event at once; None, a sign of life, is the time to send what waits."""
        began = self._clock.monotonic()
        if event is not None:
            limited = dataclasses.replace(event, memory_limit=self._memory_limit(event.container))
            self._events.put(EVENTS, pack_event(limited), began)
            self._telemetry.events.labels(event.kind).inc()
        if self._events.flush():
            self._telemetry.ticked(EVENTS_LOOP, self._clock.monotonic() - began)
        else:
            self._telemetry.failed(EVENTS_LOOP)

    def _memory_limit(self, container: str) -> int | None:
        """The limit in force, also of a container that has just left the roster."""
        row = self._roster.get(container) or self._earlier.get(container)
        return row.memory_limit if row else None
