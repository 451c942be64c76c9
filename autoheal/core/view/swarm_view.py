"""The Swarm as the inventory stream tells it: services, nodes, tasks, and their recent past.

Publishers can overlap when the Swarm's leader changes, so an object is replaced only by one with a
higher raft index, and only an inventory at least as new as anything seen can say that one is gone.
Swarm's times are wall-clock times of the publisher; they are moved onto the store's clock by the
offset between the entry's time and the clock reading that it carries. What was entered cannot have
happened after it was seen.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoheal.model import Inventory, Node, Service, ServiceMode, Task

RUNNING = "running"
COMPLETE = "complete"
FAILED = "failed"
REJECTED = "rejected"
ORPHANED = "orphaned"
REMOVE = "remove"
DOWN = "down"
SILENCE_MS = 60_000
# Later than any time: the end of what has not ended.
NEVER_MS = 1 << 62

Slot = tuple[str, int, str]

UNPLACED_STATES = frozenset({"new", "pending"})
STARTING_STATES = UNPLACED_STATES | {"assigned", "accepted", "preparing", "ready", "starting"}
ENDED_STATES = frozenset({COMPLETE, "shutdown", FAILED, REJECTED, ORPHANED, REMOVE})
# A job's task is meant to end by itself.
LEAVING_STATES = ENDED_STATES - {COMPLETE}
JOBS = frozenset({ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB})


@dataclass(frozen=True, slots=True)
class Stay:
    """When something was so: [`from_ms`, `to_ms`), each None if not (yet)."""

    from_ms: int | None = None
    to_ms: int | None = None

    def after(self, *, is_so: bool, since_ms: int, until_ms: int) -> Stay:
        """The same after a look: if it is so, since then; if it is not, until then. It comes once.

        Later tries of Swarm's scheduler set a state's time anew; it is so since the first.
        """
        if self.from_ms is None:
            return Stay(since_ms) if is_so else self
        return self if is_so or self.to_ms is not None else Stay(self.from_ms, until_ms)


@dataclass(frozen=True, slots=True)
class Span:
    """One task and the time it ran: [`running_from_ms`, `ended_ms`), each None if not (yet).

    A task that is to stop counts as ended from when that is seen. `since_ms` is when its state was
    entered; `pending` is when it should run and had no node, `starting` when it was on its way,
    waiting for its restart included. `gone_ms` is when Swarm removed it, or was seen to want to.
    """

    task: Task
    running_from_ms: int | None
    ended_ms: int | None
    since_ms: int = 0
    pending: Stay = Stay()
    starting: Stay = Stay()
    gone_ms: int | None = None

    @property
    def began_ms(self) -> int:
        """When it was first alive, as far as that was seen."""
        seen = (self.starting.from_ms, self.running_from_ms, self.since_ms)
        return min(ms for ms in seen if ms is not None)

    @property
    def is_complete(self) -> bool:
        """Whether it ended without an error."""
        return self.task.state == COMPLETE and not self.task.exit_code

    @property
    def is_running(self) -> bool:
        """Whether it runs and is meant to; a job's task is meant to run to completion."""
        meant_to = self.task.desired_state in (RUNNING, COMPLETE)
        return self.ended_ms is None and self.task.state == RUNNING and meant_to


@dataclass(frozen=True, slots=True)
class Finish:
    """When a slot needed no task: its last one had ended without an error, and none came after.

    [`from_ms`, `to_ms`), None while it is so. `task` is that last one.
    """

    task: Task
    from_ms: int
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What was wanted of a service, and how its rollout stood, from `ms` on."""

    ms: int
    replicas: int | None
    update_state: str


@dataclass(frozen=True, slots=True)
class Downtime:
    """When a node was down: [`from_ms`, `to_ms`), None while it is."""

    node: str
    from_ms: int
    to_ms: int | None = None

    def took(self, span: Span) -> bool:
        """Whether the node went with this task running on it."""
        if span.task.node != self.node:
            return False
        if span.running_from_ms is not None:
            return span.running_from_ms <= self.from_ms <= _or_never(span.ended_ms)
        # Seen only after Swarm had given it up; that its node never told of its end tells the rest.
        given_up_ms = _or_never(span.ended_ms)
        return span.task.state == RUNNING and self.from_ms <= given_up_ms < _or_never(self.to_ms)


class SwarmView:
    """A fold over inventories.

    `seen_ms` holds the times at which the whole was known, `wishes` each service's past; both reach
    back as far as `forget` leaves them, and a little more. `settled_ms` is since when each node has
    been what Swarm's scheduler looks at.
    """

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.nodes: dict[str, Node] = {}
        self.spans: dict[str, Span] = {}
        self.wishes: dict[str, list[Wish]] = {}
        self.seen_ms: list[int] = []
        self.settled_ms: dict[str, int] = {}
        self.index = 0
        self.seen_at_ms: int | None = None
        self.complete = False
        self.revision = 0
        self._now_ms = 0
        self._down_ms: dict[str, int] = {}
        self._past_downtimes: list[Downtime] = []

    @property
    def downtimes(self) -> Sequence[Downtime]:
        """When nodes were down, those that are down still last, by node."""
        still = (Downtime(node, self._down_ms[node]) for node in sorted(self._down_ms))
        return (*self._past_downtimes, *still)

    def finishes(self) -> Sequence[Finish]:
        """When slots of services that are no jobs needed no task, as far as is remembered."""
        slots: dict[Slot, list[Span]] = {
            _slot(span): [] for span in self.spans.values() if self._may_finish(span)
        }
        services = {service for service, _, _ in slots}
        for span in self.spans.values():
            if span.task.service not in services:
                continue
            if (of_slot := slots.get(_slot(span))) is not None:
                of_slot.append(span)
        return [finish for of_slot in slots.values() for finish in _finishes(of_slot)]

    def _may_finish(self, span: Span) -> bool:
        service = self.services.get(span.task.service)
        return span.is_complete and service is not None and service.mode not in JOBS

    def fold(self, inventory: Inventory, at_ms: int) -> Sequence[Span]:
        """Take in one entry, true at `at_ms`. Returns the tasks that newly failed or were rejected.

        One that was to stop before it ended did neither.
        """
        self._now_ms = max(self._now_ms, at_ms)
        offset_ms = at_ms - inventory.clock_ms
        newest = inventory.index >= self.index or self._is_silent(at_ms)
        # What an old inventory shows and the newest does not have is gone, not new.
        closed = self.complete and not newest
        for service in inventory.services:
            if service.id in self.services or not closed:
                self._fold_service(service, offset_ms)
        for node in inventory.nodes:
            if node.id in self.nodes or not closed:
                self._fold_node(node)
        spans = [self._fold_task(task, offset_ms, at_ms) for task in inventory.tasks]
        if newest:
            self._remove(self._gone(inventory), at_ms)
            self.index = inventory.index
            self.seen_at_ms = at_ms
            self.complete = self.complete or inventory.keyframe
            if self.complete:
                self.seen_ms.append(self._now_ms)
        return [span for span in spans if span is not None]

    def _is_silent(self, at_ms: int) -> bool:
        """Whether nobody as new as the newest has spoken for long: then it speaks no more.

        (The newest object may have been removed before a new leader first looked.)
        """
        return self.seen_at_ms is not None and at_ms - self.seen_at_ms >= SILENCE_MS

    def forget(self, before_ms: int, *, downtimes_before_ms: int | None = None) -> None:
        """Drop what was over before this time; downtimes, before another if one is given.

        A task that a node took with it stays as long as the node's downtime does, one that finished
        its slot as long as the slot is finished.
        """
        oldest_ms = before_ms if downtimes_before_ms is None else downtimes_before_ms
        self._past_downtimes = [
            downtime for downtime in self._past_downtimes if _or_never(downtime.to_ms) >= oldest_ms
        ]
        finishing = {
            finish.task.id for finish in self.finishes() if _or_never(finish.to_ms) >= before_ms
        }
        old = {
            identity: span
            for identity, span in self.spans.items()
            if span.ended_ms is not None and span.ended_ms < before_ms
        }
        downtimes = self.downtimes
        for identity, span in old.items():
            if identity in finishing:
                continue
            if not any(downtime.took(span) for downtime in downtimes):
                del self.spans[identity]
        del self.seen_ms[: max(0, bisect.bisect_right(self.seen_ms, before_ms) - 1)]
        for wishes in self.wishes.values():
            del wishes[: max(0, bisect.bisect_right(wishes, before_ms, key=_wish_ms) - 1)]

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
        if known is None:
            self.wishes[service.id] = []
        elif (known.replicas, known.update_state) == (service.replicas, service.update_state):
            return
        wish = Wish(self._now_ms, service.replicas, service.update_state)
        self.wishes[service.id].append(wish)

    def _fold_node(self, node: Node) -> None:
        known = self.nodes.get(node.id)
        if known is not None and node.index <= known.index:
            return
        self.nodes[node.id] = node
        if known is None or _for_scheduler(known) != _for_scheduler(node):
            self.settled_ms[node.id] = self._now_ms
        if node.state == DOWN:
            self._down_ms.setdefault(node.id, self._now_ms)
        else:
            self._end_downtime(node.id)

    def _end_downtime(self, node: str) -> None:
        from_ms = self._down_ms.pop(node, None)
        if from_ms is not None:
            self._past_downtimes.append(Downtime(node, from_ms, self._now_ms))

    def _fold_task(self, task: Task, offset_ms: int, at_ms: int) -> Span | None:
        """Take in one task; its span if it newly failed or was rejected."""
        known = self.spans.get(task.id)
        if known is not None and task.index <= known.task.index:
            return None
        since_ms = min(task.state_since_ms + offset_ms, at_ms)
        span = _next(known or Span(task, None, None), task, since_ms, at_ms)
        self.spans[task.id] = span
        was_over = known is not None and known.ended_ms is not None
        return span if task.state in (FAILED, REJECTED) and not was_over else None

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
                del self.wishes[each]
            if self.nodes.pop(each, None) is not None:
                self._end_downtime(each)
                del self.settled_ms[each]
            if each in self.spans:
                # Its samples stay in the window's past, so the task stays known until they leave.
                self.spans[each] = _removed(self.spans[each], at_ms)


def _removed(span: Span, at_ms: int) -> Span:
    """A task's span after it has been seen no more."""
    gone = span if span.gone_ms is not None else dataclasses.replace(span, gone_ms=at_ms)
    if span.ended_ms is not None:
        return gone
    return dataclasses.replace(
        gone,
        ended_ms=at_ms,
        pending=span.pending.after(is_so=False, since_ms=at_ms, until_ms=at_ms),
        starting=span.starting.after(is_so=False, since_ms=at_ms, until_ms=at_ms),
    )


def _next(known: Span, task: Task, since_ms: int, at_ms: int) -> Span:
    """A task's span after it has been seen like this."""
    running_from_ms, ended_ms = known.running_from_ms, known.ended_ms
    # On a node that is lost a task stays "running" for a day; that it is to stop is known.
    leaving = task.desired_state in LEAVING_STATES
    if task.state == RUNNING and not leaving and running_from_ms is None:
        running_from_ms = since_ms
    if ended_ms is None and task.state in ENDED_STATES:
        ended_ms = since_ms
    elif ended_ms is None and leaving:
        ended_ms = at_ms
    is_unplaced, is_starting = task.state in UNPLACED_STATES, task.state in STARTING_STATES
    return Span(
        task,
        running_from_ms,
        ended_ms,
        since_ms,
        pending=known.pending.after(
            is_so=is_unplaced and task.desired_state == RUNNING and ended_ms is None,
            since_ms=since_ms,
            until_ms=at_ms if is_unplaced else since_ms,
        ),
        starting=known.starting.after(
            is_so=is_starting and ended_ms is None,
            since_ms=since_ms,
            until_ms=at_ms if is_starting else since_ms,
        ),
        gone_ms=_gone_ms(known, task, since_ms, at_ms),
    )


def _gone_ms(known: Span, task: Task, since_ms: int, at_ms: int) -> int | None:
    if task.desired_state != REMOVE or known.gone_ms is not None:
        return known.gone_ms if task.desired_state == REMOVE else None
    # First seen when it was over and to be removed: it never stood for its slot.
    return since_ms if known.ended_ms is None else at_ms


def _slot(span: Span) -> Slot:
    """What Swarm keeps one task in: a numbered slot, or the node for a global service."""
    task = span.task
    return task.service, task.slot, "" if task.slot else task.node


def _finishes(of_slot: Iterable[Span]) -> Iterable[Finish]:
    """Which tasks of one slot finished it, until the next one began or they were removed."""
    newest_first = sorted(of_slot, key=_since, reverse=True)
    alive = (span.began_ms for span in newest_first if span.ended_ms is None)
    next_ms = min(alive, default=NEVER_MS)
    for span in newest_first:
        if span.is_complete and span.ended_ms is not None:
            end_ms = min(max(next_ms, span.ended_ms), _or_never(span.gone_ms))
            yield Finish(span.task, span.ended_ms, None if end_ms == NEVER_MS else end_ms)
        # Swarm gives up a task of a lost node for good long after it has replaced it.
        if span.task.state != ORPHANED:
            next_ms = min(next_ms, span.began_ms)


def _for_scheduler(node: Node) -> tuple[object, ...]:
    labels = tuple(sorted(node.labels.items()))
    return node.hostname, node.role, node.availability, node.state, labels


def _since(span: Span) -> tuple[int, str]:
    return span.since_ms, span.task.id


def _or_never(ms: int | None) -> int:
    return NEVER_MS if ms is None else ms


def _wish_ms(wish: Wish) -> int:
    return wish.ms
