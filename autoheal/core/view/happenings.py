"""What happened to each service, as conditions count it: events as told, and those derived.

That a task failed is told twice, by its node and by Swarm: it is counted once, when it is first
told. That one was rejected only Swarm tells.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoheal.core.view.swarm_view import REJECTED, Span
from autoheal.model import Event, Task

OOM_KILLED = "oom_killed"
DIED = "died"
UNHEALTHY = "unhealthy"
TASK_FAILED = "task_failed"
TASK_REJECTED = "task_rejected"

# Words in Swarm's and the engine's errors, lower case, by the kind of reason. The scheduler's come
# first: they are fixed, while an engine's error may quote anything.
_REASONS = {
    "placement": (
        "no longer meets constraints",
        "no suitable node",
        "constraints not satisfied",
        "insufficient resources",
        "unsupported platform",
        "max replicas per node",
        "port already in use",
    ),
    "image": (
        "no such image",
        "pull access denied",
        "access to the resource is denied",
        "error pulling",
        "failed to pull",
        "failed to resolve reference",
        "manifest",
        "registry",
        "repository",
        "authentication required",
        "unauthorized",
        "toomanyrequests",
    ),
}
OTHER = "other"

Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Happening:
    """An event on a service, as conditions count it: what is not known is None or ""."""

    ms: int
    task: str
    exit_code: int | None = None
    reason: str = ""
    memory_limit: int | None = None


def reason_of(error: str) -> str:
    """The kind of reason, one of metrics.REJECTIONS, that Swarm's error text gives."""
    text = error.lower()
    for reason, words in _REASONS.items():
        if any(word in text for word in words):
            return reason
    return OTHER


def tasks_of(kind: str, happenings: Mapping[Kind, Sequence[Happening]]) -> frozenset[str]:
    """The ids of the tasks, of all services, to which this happened."""
    told = (each for (name, _), each in happenings.items() if name == kind)
    return frozenset(happening.task for each in told for happening in each)


class Happenings:
    """Happenings per (kind, service), in the order of their times, each once, for `kept_ms`."""

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        self._lists: dict[Kind, list[Happening]] = {}
        self._derived: dict[Kind, Happening] = {}
        self._without_limit: set[str] = set()

    def hear(self, event: Event, at_ms: int, limit: int | None) -> None:
        """An event that a node told; `limit` is the task's memory limit, None if not known."""
        exit_code, memory_limit = event.exit_code, event.memory_limit
        if event.kind == OOM_KILLED and memory_limit is None:
            memory_limit = limit
            if limit is None:
                self._without_limit.add(event.task)
        happening = Happening(at_ms, event.task, exit_code, memory_limit=memory_limit)
        self._add((event.kind, event.service), happening)
        if event.kind == DIED and exit_code and event.stopped is False:
            self._derive(TASK_FAILED, event.service, Happening(at_ms, event.task, exit_code))

    def notice(self, span: Span, at_ms: int) -> None:
        """A task that Swarm calls failed or rejected, in an inventory true at `at_ms`.

        Swarm's history tells of old ones again and again: those are passed over.
        """
        task, ms = span.task, at_ms if span.ended_ms is None else span.ended_ms
        if ms <= at_ms - self._kept_ms:
            return
        if task.state == REJECTED:
            happening = Happening(ms, task.id, task.exit_code, reason_of(task.error))
            self._derive(TASK_REJECTED, task.service, happening)
        else:
            self._derive(TASK_FAILED, task.service, Happening(ms, task.id, task.exit_code))

    def learn_limits(self, tasks: Iterable[Task]) -> None:
        """Fill in the limits of tasks that were killed before an inventory showed them."""
        if not self._without_limit:
            return
        for task in tasks:
            if task.id in self._without_limit:
                self._without_limit.discard(task.id)
                self._limit_kills(task)

    def by_kind(self, now_ms: int) -> dict[Kind, tuple[Happening, ...]]:
        """All of the last `kept_ms`, by (kind, service)."""
        oldest_ms = now_ms - self._kept_ms
        return {
            kind: tuple(each[bisect.bisect_right(each, oldest_ms, key=_ms) :])
            for kind, each in self._lists.items()
            if each[-1].ms > oldest_ms
        }

    def forget(self, now_ms: int) -> None:
        """Drop what is older than `kept_ms`."""
        oldest_ms = now_ms - self._kept_ms
        for kind, happenings in list(self._lists.items()):
            old = bisect.bisect_right(happenings, oldest_ms, key=_ms)
            for each in happenings[:old]:
                self._derived.pop((kind[0], each.task), None)
                if kind[0] == OOM_KILLED:
                    self._without_limit.discard(each.task)
            del happenings[:old]
            if not happenings:
                del self._lists[kind]

    def _limit_kills(self, task: Task) -> None:
        kind = (OOM_KILLED, task.service)
        for each in list(self._lists.get(kind, ())):
            if each.task == task.id and each.memory_limit is None:
                changed = dataclasses.replace(each, memory_limit=task.memory_limit)
                self._replace(kind, each, changed)

    def _derive(self, name: str, service: str, happening: Happening) -> None:
        """Count it once per task; a later teller may still add the exit code."""
        known = self._derived.get((name, happening.task))
        if known is None:
            self._derived[name, happening.task] = happening
            self._add((name, service), happening)
        elif known.exit_code is None and happening.exit_code is not None:
            changed = dataclasses.replace(known, exit_code=happening.exit_code)
            self._replace((name, service), known, changed)
            self._derived[name, happening.task] = changed

    def _add(self, kind: Kind, happening: Happening) -> None:
        happenings = self._lists.setdefault(kind, [])
        place = bisect.bisect_left(happenings, _order(happening), key=_order)
        if happenings[place : place + 1] != [happening]:
            happenings.insert(place, happening)

    def _replace(self, kind: Kind, known: Happening, changed: Happening) -> None:
        self._lists[kind].remove(known)
        self._add(kind, changed)


def _ms(happening: Happening) -> int:
    return happening.ms


def _order(happening: Happening) -> tuple[int, str, int, str, int]:
    exit_code = -1 if happening.exit_code is None else happening.exit_code
    limit = -1 if happening.memory_limit is None else happening.memory_limit
    return happening.ms, happening.task, exit_code, happening.reason, limit
