"""One rolling update of a service, after swarmkit's orchestrator/update/updater.go.

Slots are replaced some at a time; one that has a task of the present template already only loses
its others. A task that this rollout made and that ends before it has run for the monitoring time
counts as a failure; too many of them pause the rollout, or roll it back. Failures are looked at
while slots wait for their turn and once all are done; not while the last ones are on their way.
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
# The last slot's delay is over before its monitoring begins, and must not use it up.
MONITOR_BEYOND_DELAY_MS = 1_000
UPDATING = "updating"
PAUSED = "paused"
COMPLETED = "completed"
ROLLBACK_STARTED = "rollback_started"
ROLLBACK_PAUSED = "rollback_paused"
ROLLBACK_COMPLETED = "rollback_completed"


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
    is_new: bool
    done_at_ms: int | None = None

    @property
    def has_come(self) -> bool:
        """Whether the slot is done, but for the delay after it."""
        if self.is_new:
            return self.task.state >= TaskState.RUNNING
        return self.task.desired >= TaskState.RUNNING


class Rollout:
    """The update of the slots that are outdated when it begins."""

    def __init__(self, swarm: Swarm, service: Service, slots: Sequence[int], now_ms: int) -> None:
        self._swarm = swarm
        self._service = service
        self._is_rollback = _state(service) == ROLLBACK_STARTED
        name = "RollbackConfig" if self._is_rollback else "UpdateConfig"
        self._config = Config.of(service.spec, name)
        self._monitor_ms = self._config.monitor_ms
        self._waiting = deque(slots)
        self._count = len(slots)
        self._working: list[_Work] = []
        self._made: dict[Task, int | None] = {}
        self._failed: set[Task] = set()
        self._monitored_until_ms: int | None = None
        self._is_paused = False
        if service.update is None:
            service.update = UpdateStatus(UPDATING, "update in progress", now_ms)
            swarm.touch(service)
        self._status = service.update

    def step(self, now_ms: int) -> None:
        """Go on as far as possible now."""
        for task, since_ms in self._made.items():
            if since_ms is None and task.state >= TaskState.RUNNING:
                self._made[task] = now_ms
        self._finish_slots(now_ms)
        if self._is_paused:
            self._end_if_idle()
            return
        is_done = not self._waiting and not self._working
        if is_done and self._monitored_until_ms is None:
            self._begin_monitoring(now_ms)
        if (self._waiting or is_done) and self._has_failed(now_ms):
            return
        self._begin_slots(now_ms)
        self._complete_if_due(now_ms)

    def _has_failed(self, now_ms: int) -> bool:
        """Whether too many new tasks failed: then no further slot is begun."""
        for task, since_ms in self._made.items():
            early = since_ms is None or now_ms - since_ms <= self._monitor_ms
            if task.has_ended and early and task not in self._failed:
                self._failed.add(task)
                if len(self._failed) / self._count > self._config.max_failure_ratio:
                    return self._give_up(task)
        return False

    def _give_up(self, task: Task) -> bool:
        because = f"due to failure or early termination of task {task.id}"
        previous = self._service.previous
        match self._config.failure_action:
            case "continue":
                return False
            case "rollback" if previous is not None:
                self._tell(ROLLBACK_STARTED, f"update rolled back {because}")
                self._swarm.set_spec(self._service, previous, previous=None)
                self._service.rollout = None
            case action:
                what = "rollback" if action == "rollback" else "update"
                state = ROLLBACK_PAUSED if self._is_rollback else PAUSED
                self._tell(state, f"{what} paused {because}")
                self._is_paused = True
        return True

    def _finish_slots(self, now_ms: int) -> None:
        for work in list(self._working):
            if work.has_come and work.done_at_ms is None:
                work.done_at_ms = now_ms + self._config.delay_ms
                if work.task.state is TaskState.RUNNING and self._config.starts_first:
                    self._retire_others(work.task)
            if work.done_at_ms is not None and now_ms >= work.done_at_ms:
                self._working.remove(work)

    def _begin_slots(self, now_ms: int) -> None:
        at_once = self._config.parallelism or self._count
        while self._waiting and len(self._working) < at_once:
            self._working.append(self._renew(self._waiting.popleft(), now_ms))

    def _renew(self, slot: int, now_ms: int) -> _Work:
        wanted = [task for task in self._service.tasks if task.slot == slot and task.is_wanted]
        present = [task for task in wanted if task.template_key == self._service.template_key]
        if not present:
            return _Work(self._replace(slot, wanted, now_ms), is_new=True)
        kept = max(present, key=lambda task: task.desired)
        if kept.desired < TaskState.RUNNING:
            kept.start_at_ms = now_ms
            kept.waits_for = next((each for each in wanted if each is not kept), None)
        self._retire_others(kept)
        return _Work(kept, is_new=False)

    def _replace(self, slot: int, old: Sequence[Task], now_ms: int) -> Task:
        """Make the new task of a slot, after or before the old one stops."""
        new = self._swarm.create_task(self._service, slot)
        new.desired = TaskState.READY
        new.start_at_ms = now_ms
        self._made[new] = None
        if not self._config.starts_first:
            new.waits_for = next((task for task in old if not task.has_ended), None)
            for task in old:
                self._swarm.want(task, TaskState.SHUTDOWN)
        return new

    def _retire_others(self, kept: Task) -> None:
        """The others of its slot may go."""
        for task in self._service.tasks:
            if task.slot == kept.slot and task is not kept and task.is_wanted:
                self._swarm.want(task, TaskState.SHUTDOWN)

    def _end_if_idle(self) -> None:
        """A paused rollout ends with the slots that were on their way."""
        if not self._working:
            self._service.rollout = None

    def _begin_monitoring(self, now_ms: int) -> None:
        """All slots are done: look for failures a while longer, where there were any slots."""
        if self._config.delay_ms >= self._monitor_ms:
            self._monitor_ms = self._config.delay_ms + MONITOR_BEYOND_DELAY_MS
        self._monitored_until_ms = now_ms + (self._monitor_ms if self._count else 0)

    def _complete_if_due(self, now_ms: int) -> None:
        if self._monitored_until_ms is None or now_ms < self._monitored_until_ms:
            return
        state = ROLLBACK_COMPLETED if self._is_rollback else COMPLETED
        words = f"{'rollback' if self._is_rollback else 'update'} completed"
        self._tell(state, words, completed_ms=now_ms)
        self._service.rollout = None

    def _tell(self, state: str, message: str, *, completed_ms: int | None = None) -> None:
        self._status.state = state
        self._status.message = message
        self._status.completed_ms = completed_ms
        self._swarm.touch(self._service)


def _state(service: Service) -> str:
    return "" if service.update is None else service.update.state
