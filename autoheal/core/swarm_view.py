"""The Swarm as the inventory stream tells it: services, nodes, and when each task was running.

Publishers can overlap when the Swarm's leader changes, so an object is replaced only by one with a
higher raft index, and only an inventory at least as new as anything seen can say that one is gone.
Swarm's times are wall-clock times of the publisher; they are moved onto the store's clock by the
offset between the entry's time and the clock reading that it carries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from autoheal.model import Inventory, Node, Service, Task

RUNNING = "running"
COMPLETE = "complete"
SILENCE_MS = 60_000
ENDED_STATES = frozenset({COMPLETE, "shutdown", "failed", "rejected", "orphaned", "remove"})


@dataclass(frozen=True, slots=True)
class Span:
    """One task and the time it ran: [`running_from_ms`, `ended_ms`), each None if not (yet).

    A task that is to stop counts as ended from when that is seen.
    """

    task: Task
    running_from_ms: int | None
    ended_ms: int | None

    @property
    def is_running(self) -> bool:
        """Whether it runs and is meant to; a job's task is meant to run to completion."""
        return self.task.state == RUNNING and self.task.desired_state in (RUNNING, COMPLETE)


class SwarmView:
    """A fold over inventories."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        self.spans: dict[str, Span] = {}
        self.index = 0
        self.seen_at_ms: int | None = None
        self.complete = False
        self.revision = 0

    def fold(self, inventory: Inventory, at_ms: int) -> None:
        """Take in one entry, true at `at_ms`."""
        offset_ms = at_ms - inventory.clock_ms
        newest = inventory.index >= self.index or self._is_silent(at_ms)
        # What an old inventory shows and the newest does not have is gone, not new.
        closed = self.complete and not newest
        for service in inventory.services:
            if service.id in self.services or not closed:
                self._fold_service(service, offset_ms)
        for node in inventory.nodes:
            known = self.nodes.get(node.id)
            if (known is None and not closed) or (known and node.index > known.index):
                self.nodes[node.id] = node
        for task in inventory.tasks:
            self._fold_task(task, offset_ms, at_ms)
        if newest:
            self._remove(self._gone(inventory), at_ms)
            self.index = inventory.index
            self.seen_at_ms = at_ms
            self.complete = self.complete or inventory.keyframe

    def _is_silent(self, at_ms: int) -> bool:
        """Whether nobody as new as the newest has spoken for long: then it speaks no more.

        (The newest object may have been removed before a new leader first looked.)
        """
        return self.seen_at_ms is not None and at_ms - self.seen_at_ms >= SILENCE_MS

    def forget(self, before_ms: int) -> None:
        """Drop tasks that ended before this time."""
        old = [
            task
            for task, span in self.spans.items()
            if span.ended_ms is not None and span.ended_ms < before_ms
        ]
        for task in old:
            del self.spans[task]

    def _fold_service(self, service: Service, offset_ms: int) -> None:
        known = self.services.get(service.id)
        if known is not None and service.index <= known.index:
            return
        self.revision += 1
        self.services[service.id] = dataclasses.replace(
            service,
            created_at_ms=service.created_at_ms + offset_ms,
            updated_at_ms=service.updated_at_ms + offset_ms,
        )

    def _fold_task(self, task: Task, offset_ms: int, at_ms: int) -> None:
        known = self.spans.get(task.id)
        if known is not None and task.index <= known.task.index:
            return
        since_ms = task.state_since_ms + offset_ms
        running_from_ms = known.running_from_ms if known else None
        ended_ms = known.ended_ms if known else None
        # On a node that is lost a task stays "running" for a day; that it is to stop is known.
        leaving = task.desired_state in ENDED_STATES - {COMPLETE}
        if task.state == RUNNING and not leaving and running_from_ms is None:
            running_from_ms = since_ms
        if ended_ms is None and task.state in ENDED_STATES:
            ended_ms = since_ms
        elif ended_ms is None and leaving:
            ended_ms = at_ms
        self.spans[task.id] = Span(task, running_from_ms, ended_ms)

    def _gone(self, inventory: Inventory) -> Iterable[str]:
        if not inventory.keyframe:
            return inventory.gone
        present = {s.id for s in inventory.services}
        present |= {t.id for t in inventory.tasks}
        present |= {n.id for n in inventory.nodes}
        return [
            each for group in (self.services, self.spans, self.nodes) for each in group
            if each not in present
        ]  # fmt: skip

    def _remove(self, gone: Iterable[str], at_ms: int) -> None:
        for each in gone:
            if self.services.pop(each, None) is not None:
                self.revision += 1
            self.nodes.pop(each, None)
            span = self.spans.get(each)
            if span is not None and span.ended_ms is None:
                # Its samples stay in the window's past, so the task stays known until they leave.
                self.spans[each] = dataclasses.replace(span, ended_ms=at_ms)
