"""What becomes of a task that ended or lost its node, after swarmkit's orchestrator/restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from autoheal.sim.objects import Restarts, Task, TaskState, duration_ms, section

if TYPE_CHECKING:
    from autoheal.sim.objects import Service

DELAY_MS = 5_000
# How long a task waits for the one it replaces to stop.
STOP_TIMEOUT_MS = 60_000


def may_restart(task: Task, ended_ms: int) -> bool:
    """Whether the restart policy that the task was made under allows another.

    Of a number of attempts in a window, those count that were made in the window before its end.
    """
    policy = section(task.template, "RestartPolicy")
    condition = policy.get("Condition") or "any"
    if condition == "none" or (condition == "on-failure" and task.state is TaskState.COMPLETE):
        return False
    attempts = policy.get("MaxAttempts") or 0
    history = task.service.restarts.get(task.slot)
    if not attempts or history is None or history.template_key != task.template_key:
        return True
    window_ms = duration_ms(policy, "Window", 0)
    if not window_ms:
        return len(history.at_ms) < attempts
    return sum(ended_ms - window_ms < at_ms < ended_ms for at_ms in history.at_ms) < attempts


def restart(task: Task, now_ms: int, create: Callable[[Service, int], Task]) -> None:
    """Give the task up and, where its policy allows, have it replaced after the policy's delay."""
    task.desired = max(task.desired, TaskState.SHUTDOWN)
    if not may_restart(task, task.state_since_ms):
        return
    machine = task.machine
    is_drained = machine is not None and machine.availability == "drain"
    policy = section(task.template, "RestartPolicy")
    delay_ms = 0 if is_drained else duration_ms(policy, "Delay", DELAY_MS)
    replacement = create(task.service, task.slot)
    _note(replacement, now_ms)
    replacement.desired = TaskState.READY
    replacement.start_at_ms = now_ms + delay_ms
    replacement.waits_for = None if task.has_ended else task


def start_if_due(task: Task, now_ms: int) -> bool:
    """Let a task that waited run, once its time has come and what it replaces has stopped."""
    if task.desired is not TaskState.READY or task.start_at_ms is None:
        return False
    if now_ms < task.start_at_ms:
        return False
    before = task.waits_for
    is_stopped = before is None or before.has_ended or _is_lost(before)
    if not is_stopped and now_ms < task.start_at_ms + STOP_TIMEOUT_MS:
        return False
    task.desired = TaskState.RUNNING
    task.start_at_ms = task.waits_for = None
    return True


def _is_lost(task: Task) -> bool:
    return task.machine is not None and task.machine.state == "down"


def _note(replacement: Task, now_ms: int) -> None:
    """Remember the restart, where a number of attempts is set; a new template starts anew."""
    if not section(replacement.template, "RestartPolicy").get("MaxAttempts"):
        return
    restarts, slot, key = replacement.service.restarts, replacement.slot, replacement.template_key
    history = restarts.get(slot)
    if history is None or history.template_key != key:
        history = restarts[slot] = Restarts(key)
    history.at_ms.append(now_ms)
