"""One rolling update of a service, after swarmkit's orchestrator/update/updater.go.

Slots are replaced some at a time. A task that this rollout made and that ends before it has run for
the monitoring time counts as a failure; too many of them pause the rollout, or roll it back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autoheal.sim.objects import Service, Task, TaskState, UpdateStatus, duration_ms, section

if TYPE_CHECKING:
    from autoheal.sim.swarm import Swarm

MONITOR_MS = 5_000
UPDATING = "updating"
PAUSED = "paused"
COMPLETED = "completed"
ROLLBACK_STARTED = "rollback_started"
ROLLBACK_PAUSED = "rollback_paused"
ROLLBACK_COMPLETED = "rollback_completed"
HALTED = frozenset({PAUSED, ROLLBACK_PAUSED})


@dataclass(frozen=True, slots=True)
class Config:
    """How a service is to be updated; `parallelism` 0 is all at once."""

    parallelism: int
    delay_ms: int
    failure_action: str
    monitor_ms: int
    max_failure_ratio: float
    starts_first: bool

    @classmethod
    def of(cls, spec: Mapping[str, Any], name: str) -> Config:
        """The section `name` of a spec (UpdateConfig, RollbackConfig) with Swarm's defaults."""
        given = section(spec, name)
        return cls(
            parallelism=given.get("Parallelism", 0) if given else 1,
            delay_ms=duration_ms(given, "Delay", 0),
            failure_action=given.get("FailureAction") or "pause",
            monitor_ms=duration_ms(given, "Monitor", 0) or MONITOR_MS,
            max_failure_ratio=given.get("MaxFailureRatio") or 0.0,
            starts_first=given.get("Order") == "start-first",
        )


@dataclass(slots=True)
class _Work:
    """One slot on its way: the task that comes, and when the next slot may follow."""

    task: Task
    done_at_ms: int | None = None


class Rollout:
    """The update of the slots that are outdated when it begins."""

    def __init__(self, swarm: Swarm, service: Service, slots: Sequence[int], now_ms: int) -> None:
        self._swarm = swarm
        self._service = service
        self._is_rollback = _state(service) == ROLLBACK_STARTED
        name = "RollbackConfig" if self._is_rollback else "UpdateConfig"
        self._config = Config.of(service.spec, name)
        self._waiting = deque(slots)
        self._count = len(slots)
        self._working: list[_Work] = []
        self._made: dict[Task, int | None] = {}
        self._failed: set[Task] = set()
        self._monitored_until_ms: int | None = None
        if not self._is_rollback:
            service.update = UpdateStatus(UPDATING, "update in progress", now_ms)
            swarm.touch(service)

    def step(self, now_ms: int) -> None:
        """Go on as far as possible now."""
        for task, since_ms in self._made.items():
            if since_ms is None and task.state >= TaskState.RUNNING:
                self._made[task] = now_ms
        if self._has_failed(now_ms):
            return
        self._finish_slots(now_ms)
        self._begin_slots(now_ms)
        self._complete_if_done(now_ms)

    def _has_failed(self, now_ms: int) -> bool:
        """Whether too many new tasks failed: then this rollout is over."""
        for task, since_ms in self._made.items():
            early = since_ms is None or now_ms - since_ms <= self._config.monitor_ms
            if task.has_ended and early and task not in self._failed:
                self._failed.add(task)
                if len(self._failed) / self._count > self._config.max_failure_ratio:
                    return self._give_up(task, now_ms)
        return False

    def _give_up(self, task: Task, now_ms: int) -> bool:
        because = f"due to failure or early termination of task {task.id}"
        match self._config.failure_action:
            case "continue":
                return False
            case "rollback" if not self._is_rollback:
                self._roll_back(because, now_ms)
            case _:
                state = ROLLBACK_PAUSED if self._is_rollback else PAUSED
                words = "rollback" if self._is_rollback else "update"
                self._tell(state, f"{words} paused {because}")
        self._service.rollout = None
        return True

    def _roll_back(self, because: str, now_ms: int) -> None:
        previous = self._service.previous
        if previous is None:
            self._tell(PAUSED, f"update paused {because}")
            return
        started = now_ms if self._service.update is None else self._service.update.started_ms
        words = f"update rolled back {because}"
        self._swarm.set_spec(self._service, previous, previous=None)
        self._service.update = UpdateStatus(ROLLBACK_STARTED, words, started)

    def _finish_slots(self, now_ms: int) -> None:
        for work in list(self._working):
            if work.task.state >= TaskState.RUNNING and work.done_at_ms is None:
                work.done_at_ms = now_ms + self._config.delay_ms
                if work.task.state is TaskState.RUNNING and self._config.starts_first:
                    self._retire(work.task)
            if work.done_at_ms is not None and now_ms >= work.done_at_ms:
                self._working.remove(work)

    def _begin_slots(self, now_ms: int) -> None:
        at_once = self._config.parallelism or self._count
        while self._waiting and len(self._working) < at_once:
            self._working.append(_Work(self._replace(self._waiting.popleft(), now_ms)))

    def _replace(self, slot: int, now_ms: int) -> Task:
        """Make the new task of a slot, after or before the old one stops."""
        old = [task for task in self._service.tasks if task.slot == slot and task.is_wanted]
        new = self._swarm.create_task(self._service, slot)
        new.desired = TaskState.READY
        new.start_at_ms = now_ms
        self._made[new] = None
        if not self._config.starts_first:
            new.waits_for = next((task for task in old if not task.has_ended), None)
            for task in old:
                self._swarm.want(task, TaskState.SHUTDOWN)
        return new

    def _retire(self, new: Task) -> None:
        """The new task runs: the others of its slot may go."""
        for task in self._service.tasks:
            if task.slot == new.slot and task is not new and task.is_wanted:
                self._swarm.want(task, TaskState.SHUTDOWN)

    def _complete_if_done(self, now_ms: int) -> None:
        if self._waiting or self._working:
            return
        if self._monitored_until_ms is None:
            self._monitored_until_ms = now_ms + self._config.monitor_ms
        if now_ms < self._monitored_until_ms:
            return
        state = ROLLBACK_COMPLETED if self._is_rollback else COMPLETED
        self._tell(state, f"{'rollback' if self._is_rollback else 'update'} completed")
        if self._service.update is not None:
            self._service.update.completed_ms = now_ms
        self._service.rollout = None

    def _tell(self, state: str, message: str) -> None:
        if self._service.update is not None:
            self._service.update.state = state
            self._service.update.message = message
            self._swarm.touch(self._service)


def _state(service: Service) -> str:
    return "" if service.update is None else service.update.state
