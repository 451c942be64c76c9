"""From stream entries to what `decide` looks at.

Entries are folded in the order of their ids, which is the same for every reader, so the result does
not depend on how they were cut into ticks.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoheal import records
from autoheal.core.readings import Frame, Readings
from autoheal.core.rule import MetricCondition, RuleSet
from autoheal.core.swarm_view import Span, SwarmView
from autoheal.core.window import Window
from autoheal.errors import BadRecordError
from autoheal.model import Intent, Outcome, Service

# Outcomes and intents are kept this long: longer than an engine may hold still (one window, which
# is at most a day), because what was not decided on is still news then.
KEPT_MS = 25 * 3_600_000

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Dated(Generic[Record]):
    """A record and the store's time at which it was written."""

    ms: int
    record: Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that `decide` may look at beside the rules and its state.

    `running` counts the running tasks per service; `events` holds times per (kind, service), in
    order; `outcomes` and `intents` are those of the recent past, older than this tick.
    """

    epoch: int
    inventory_at_ms: int
    services: tuple[Service, ...]
    running: Mapping[str, int]
    readings: Mapping[MetricCondition, Readings]
    events: Mapping[tuple[str, str], Sequence[int]]
    outcomes: Sequence[Dated[Outcome]]
    intents: Sequence[Dated[Intent]]


class Fold:
    """The recent past of the whole Swarm, built up from the streams."""

    STREAMS = (
        records.SAMPLES,
        records.EVENTS,
        records.INVENTORY,
        records.OUTCOMES,
        records.INTENTS,
    )

    def __init__(self, rules: RuleSet, *, step_ms: int, warm_up_ms: int) -> None:
        self.swarm = SwarmView()
        self.window = Window(rules.metrics, step_ms=step_ms, longest_ms=rules.longest_window_ms)
        self.bad_entries = 0
        self._rules = rules
        self._warm_up_ms = warm_up_ms
        self._events: dict[tuple[str, str], list[int]] = {}
        self._outcomes: list[Dated[Outcome]] = []
        self._intents: list[Dated[Intent]] = []

    def fold(self, stream: str, ms: int, at_ms: int, fields: Mapping[str, bytes]) -> None:
        """Take in one entry, written at `ms`, true at `at_ms`. A spoilt one is counted, no more."""
        try:
            self._fold(stream, ms, at_ms, fields)
        except BadRecordError:
            self.bad_entries += 1

    def _fold(self, stream: str, ms: int, at_ms: int, fields: Mapping[str, bytes]) -> None:
        match stream:
            case records.SAMPLES:
                batch = records.unpack_samples(fields)
                self.window.fold(batch, at_ms, self.swarm.services, self.swarm.revision)
            case records.INVENTORY:
                self.swarm.fold(records.unpack_inventory(fields), at_ms)
            case records.EVENTS:
                event = records.unpack_event(fields)
                bisect.insort(self._events.setdefault((event.kind, event.service), []), at_ms)
            case records.OUTCOMES:
                self._outcomes.append(Dated(ms, records.unpack_outcome(fields)))
            case records.INTENTS:
                self._intents.append(Dated(ms, records.unpack_intent(fields)))
            case _:
                raise BadRecordError(f"a stream that is not folded: {stream}")

    @property
    def ready(self) -> bool:
        """Whether a whole inventory has been seen: without one nothing can be decided."""
        return self.swarm.complete

    def snapshot(self, *, now_ms: int, since_ms: int, epoch: int) -> Snapshot:
        """The view at `now_ms`, before which everything has been folded.

        `since_ms` is the last tick's: of intents and outcomes only what came after it is news.
        """
        services = tuple(sorted(self.swarm.services.values(), key=lambda service: service.id))
        frame = Frame(
            self.window,
            services,
            self.swarm.spans,
            now_ms=now_ms,
            warm_up_ms=self._warm_up_ms,
        )
        conditions = {r.when for r in self._rules.rules if isinstance(r.when, MetricCondition)}
        return Snapshot(
            epoch=epoch,
            inventory_at_ms=self.swarm.seen_at_ms or 0,
            services=services,
            running=_running(self.swarm.spans),
            readings={condition: frame.read(condition) for condition in conditions},
            events={key: tuple(times) for key, times in self._events.items()},
            outcomes=tuple(each for each in self._outcomes if each.ms >= since_ms),
            intents=tuple(each for each in self._intents if each.ms >= since_ms),
        )

    def forget(self, now_ms: int) -> None:
        """Drop what is older than any rule looks back; no later snapshot differs for it."""
        self.window.forget()
        self.swarm.forget(now_ms - self.window.slots * self.window.step_ms)
        oldest_event_ms = now_ms - self._rules.longest_event_window_ms
        for key, times in list(self._events.items()):
            del times[: bisect.bisect_right(times, oldest_event_ms)]
            if not times:
                del self._events[key]
        self._outcomes = [each for each in self._outcomes if each.ms >= now_ms - KEPT_MS]
        self._intents = [each for each in self._intents if each.ms >= now_ms - KEPT_MS]


def _running(spans: Mapping[str, Span]) -> dict[str, int]:
    running: dict[str, int] = {}
    for span in spans.values():
        if span.is_running:
            running[span.task.service] = running.get(span.task.service, 0) + 1
    return running
