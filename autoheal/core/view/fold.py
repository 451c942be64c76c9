"""From stream entries to what `decide` looks at.

Entries are folded in the order of their ids, which is the same for every reader, so the result does
not depend on how they were cut into ticks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoheal import records
from autoheal.actions.track import Track
from autoheal.core.limits import Limits
from autoheal.core.rule import RuleSet
from autoheal.core.view.happenings import UNHEALTHY, Happening, Happenings, tasks_of
from autoheal.core.view.node_window import NodeLoad, NodeWindow
from autoheal.core.view.readings import FigureCondition, Frame, Readings
from autoheal.core.view.service_series import BLIND, HEARD_BY, ServiceSeries
from autoheal.core.view.service_tasks import ServiceTasks, tasks_by_service
from autoheal.core.view.source_window import SourceState, SourceWindow
from autoheal.core.view.swarm_view import SwarmView
from autoheal.core.view.task_rows import TaskRows
from autoheal.core.view.track_readings import Tracked, TrackedTarget, TrackFrame
from autoheal.core.view.window import Window
from autoheal.errors import BadRecordError
from autoheal.metrics import METRIC_BY_NAME
from autoheal.model import Command, Intent, Inventory, Node, Outcome, Service

__all__ = [
    "Dated",
    "Fold",
    "Happening",
    "NodeLoad",
    "ServiceTasks",
    "Snapshot",
    "SourceState",
    "Tracked",
]

# Outcomes, intents and commands are kept this long: longer than an engine may hold still (one
# window, which is at most a day), because what was not decided on is still news then.
KEPT_MS = 25 * 3_600_000
# Where a service that has stopped ran, and why it stopped, is known this long at least.
ENDED_TASKS_KEPT_MS = 10 * 60_000

Record = TypeVar("Record")
Object = TypeVar("Object")


@dataclass(frozen=True, slots=True)
class Dated(Generic[Record]):
    """A record and the store's time at which it was written."""

    ms: int
    record: Record


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that `decide` may look at beside the rules and its state.

    `events` holds what happened per (kind, service), in order; `outcomes`, `intents` and `commands`
    are those of the recent past, older than this tick. `tasks` and `loads` have no entry where
    nothing is known. `nodes` are in the order of their ids. `sources` tells of every source by
    name, `tracked` of every target per service that its rule matches.
    """

    epoch: int
    inventory_at_ms: int
    services: tuple[Service, ...]
    nodes: tuple[Node, ...]
    tasks: Mapping[str, ServiceTasks]
    loads: Mapping[str, NodeLoad]
    readings: Mapping[FigureCondition, Readings]
    sources: Mapping[str, SourceState]
    tracked: Mapping[TrackedTarget, Tracked]
    events: Mapping[tuple[str, str], Sequence[Happening]]
    outcomes: Sequence[Dated[Outcome]]
    intents: Sequence[Dated[Intent]]
    commands: Sequence[Dated[Command]]


class Fold:
    """The recent past of the whole Swarm, built up from the streams."""

    STREAMS = (
        records.SAMPLES,
        records.EVENTS,
        records.INVENTORY,
        records.OUTCOMES,
        records.INTENTS,
        records.COMMANDS,
        records.SOURCES,
    )

    def __init__(self, rules: RuleSet, limits: Limits) -> None:
        self.swarm = SwarmView()
        self.window = Window(
            _sampled(rules), step_ms=limits.step_ms, longest_ms=rules.longest_window_ms
        )
        self.nodes = NodeWindow(
            step_ms=limits.step_ms,
            mean_ms=limits.saturated_window_ms,
            longest_ms=rules.longest_window_ms,
        )
        self.sources = SourceWindow(
            rules.sources, step_ms=limits.step_ms, longest_ms=rules.longest_source_window_ms
        )
        self._rules = rules
        self._limits = limits
        # An outage is told by what happened within its window, whatever the rules look back to.
        kept_ms = max(rules.longest_event_window_ms, limits.outage_window_ms)
        self._happenings = Happenings(kept_ms)
        self._tasks_kept_ms = max(self.window.slots * limits.step_ms, ENDED_TASKS_KEPT_MS)
        self._outcomes: list[Dated[Outcome]] = []
        self._intents: list[Dated[Intent]] = []
        self._commands: list[Dated[Command]] = []

    def fold(self, stream: str, ms: int, at_ms: int, fields: Mapping[str, bytes]) -> str | None:
        """Take in one entry, written at `ms`, true at `at_ms`.

        A spoilt one changes nothing; why it cannot be read is returned, None if it could.
        """
        try:
            self._fold(stream, ms, at_ms, fields)
        except BadRecordError as error:
            return str(error)
        return None

    def _fold(self, stream: str, ms: int, at_ms: int, fields: Mapping[str, bytes]) -> None:
        match stream:
            case records.SAMPLES:
                batch = records.unpack_samples(fields)
                self.window.fold(batch, at_ms, self.swarm.services, self.swarm.revision)
                self.nodes.fold(batch, at_ms)
            case records.INVENTORY:
                self._fold_inventory(records.unpack_inventory(fields), at_ms)
            case records.EVENTS:
                event = records.unpack_event(fields)
                span = self.swarm.spans.get(event.task)
                self._happenings.hear(event, at_ms, span.task.memory_limit if span else None)
            case records.OUTCOMES:
                self._outcomes.append(Dated(ms, records.unpack_outcome(fields)))
            case records.INTENTS:
                self._intents.append(Dated(ms, records.unpack_intent(fields)))
            case records.COMMANDS:
                self._commands.append(Dated(ms, records.unpack_command(fields)))
            case records.SOURCES:
                self.sources.fold(records.unpack_source(fields), at_ms)
            case _:
                raise BadRecordError(f"a stream that is not folded: {stream}")

    def _fold_inventory(self, inventory: Inventory, at_ms: int) -> None:
        for span in self.swarm.fold(inventory, at_ms):
            self._happenings.notice(span, at_ms)
        self._happenings.learn_limits(inventory.tasks)

    @property
    def ready(self) -> bool:
        """Whether a whole inventory has been seen: without one nothing can be decided."""
        return self.swarm.complete

    def snapshot(self, *, now_ms: int, since_ms: int, epoch: int) -> Snapshot:
        """The view at `now_ms`, before which everything has been folded.

        `since_ms` is the last tick's: of intents, outcomes and commands only what came after it is
        news.
        """
        services = _by_id(self.swarm.services)
        events = self._happenings.by_kind(now_ms)
        unhealthy = tasks_of(UNHEALTHY, events)
        rows = TaskRows(self.window, services, self.swarm.spans, warm_up_ms=self._limits.warm_up_ms)
        frame = self._frame(rows, services, now_ms, unhealthy)
        return Snapshot(
            epoch=epoch,
            inventory_at_ms=self.swarm.seen_at_ms or 0,
            services=services,
            nodes=_by_id(self.swarm.nodes),
            tasks=tasks_by_service(
                self.swarm,
                since_ms=now_ms - self._tasks_kept_ms,
                lately_ms=now_ms - self._limits.node_hold_ms,
                unhealthy=unhealthy,
            ),
            loads=self.nodes.loads(now_ms),
            readings={each: frame.read(each) for each in self._figure_conditions},
            sources=self.sources.states(now_ms),
            tracked=self._tracked(rows, services, now_ms),
            events=events,
            outcomes=_since(self._outcomes, since_ms),
            intents=_since(self._intents, since_ms),
            commands=_since(self._commands, since_ms),
        )

    @property
    def _figure_conditions(self) -> tuple[FigureCondition, ...]:
        return self._rules.metric_conditions + self._rules.source_conditions

    def _frame(
        self,
        rows: TaskRows,
        services: Sequence[Service],
        now_ms: int,
        unhealthy: Collection[str],
    ) -> Frame:
        limits = self._limits
        series = ServiceSeries(self.swarm, rows, self.nodes, services, limits, unhealthy)
        return Frame(rows, series, self.sources, now_ms=now_ms, step_ms=limits.step_ms)

    def _tracked(
        self, rows: TaskRows, services: Sequence[Service], now_ms: int
    ) -> dict[TrackedTarget, Tracked]:
        targets = self._rules.targets
        if not targets:
            return {}
        spans, step_ms = self.swarm.spans, self._limits.step_ms
        frame = TrackFrame(targets, rows, spans, self.sources, now_ms=now_ms, step_ms=step_ms)
        return {
            (service.id, target): frame.read(target, service.id)
            for rule in self._rules.rules
            if isinstance(rule.then, Track)
            for service in services
            if rule.match.holds(service)
            for target in rule.then.targets
        }

    def forget(self, now_ms: int) -> None:
        """Drop what is older than any rule looks back; no later snapshot differs for it."""
        self.window.forget()
        self.nodes.forget()
        self.sources.forget(now_ms)
        before_ms = now_ms - self._tasks_kept_ms
        held_ms = now_ms - self._limits.node_hold_ms
        self.swarm.forget(before_ms, downtimes_before_ms=min(before_ms, held_ms))
        self._happenings.forget(now_ms)
        oldest_ms = now_ms - KEPT_MS
        self._outcomes = list(_since(self._outcomes, oldest_ms))
        self._intents = list(_since(self._intents, oldest_ms))
        self._commands = list(_since(self._commands, oldest_ms))


def _sampled(rules: RuleSet) -> tuple[str, ...]:
    """The metrics whose samples the rules need."""
    of_tasks = {name for name in rules.metrics if not METRIC_BY_NAME[name].of_service}
    return tuple(sorted(of_tasks | ({HEARD_BY} if BLIND in rules.metrics else set())))


def _by_id(objects: Mapping[str, Object]) -> tuple[Object, ...]:
    return tuple(objects[identity] for identity in sorted(objects))


def _since(kept: Sequence[Dated[Record]], since_ms: int) -> tuple[Dated[Record], ...]:
    return tuple(each for each in kept if each.ms >= since_ms)
