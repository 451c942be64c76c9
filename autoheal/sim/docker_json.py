"""Services, tasks and nodes as Docker's API shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from autoheal.sim.machine import Machine
from autoheal.sim.objects import NANO, Service, Task, TaskState, UpdateStatus

PID = 4242
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def service_json(service: Service) -> dict[str, Any]:
    """One element of GET /services."""
    shown: dict[str, Any] = {
        "ID": service.id,
        "Version": {"Index": service.index},
        "CreatedAt": _time(service.created_ms),
        "UpdatedAt": _time(service.updated_ms),
        "Spec": service.spec,
        "Endpoint": {"Spec": {}},
    }
    if service.previous is not None:
        shown["PreviousSpec"] = service.previous
    if service.update is not None:
        shown["UpdateStatus"] = _update_json(service.update)
    return shown


def task_json(task: Task) -> dict[str, Any]:
    """One element of GET /tasks."""
    shown: dict[str, Any] = {
        "ID": task.id,
        "Version": {"Index": task.index},
        "CreatedAt": _time(task.created_ms),
        "UpdatedAt": _time(task.updated_ms),
        "Spec": task.template,
        "ServiceID": task.service.id,
        "Slot": task.slot,
        "Status": _status_json(task),
        "DesiredState": task.desired.word,
    }
    if task.machine is not None:
        shown["NodeID"] = task.machine.id
    return shown


def node_json(machine: Machine) -> dict[str, Any]:
    """One element of GET /nodes."""
    resources = {"NanoCPUs": int(machine.cores * NANO), "MemoryBytes": machine.memory}
    shown: dict[str, Any] = {
        "ID": machine.id,
        "Version": {"Index": machine.index},
        "CreatedAt": _time(machine.created_ms),
        "UpdatedAt": _time(machine.updated_ms),
        "Spec": {
            "Labels": machine.labels,
            "Role": machine.role,
            "Availability": machine.availability,
        },
        "Description": {"Hostname": machine.hostname, "Resources": resources},
        "Status": {"State": machine.state},
    }
    if machine.role == "manager":
        shown["ManagerStatus"] = {"Leader": machine.is_leader, "Reachability": "reachable"}
    return shown


def info_json(machine: Machine) -> dict[str, Any]:
    """What GET /info tells of the engine's place in its Swarm."""
    return {
        "Name": machine.hostname,
        "Swarm": {
            "NodeID": machine.id,
            "LocalNodeState": "active",
            "ControlAvailable": machine.role == "manager",
        },
    }


def _status_json(task: Task) -> dict[str, Any]:
    status: dict[str, Any] = {
        "Timestamp": _time(task.state_since_ms),
        "State": task.state.word,
    }
    if task.error:
        status["Err"] = task.error
    container = task.container
    if container is not None:
        shown: dict[str, Any] = {"ContainerID": container.id}
        if not task.has_ended and task.state >= TaskState.STARTING:
            shown["PID"] = PID
        if task.exit_code:
            shown["ExitCode"] = task.exit_code
        status["ContainerStatus"] = shown
    return status


def _update_json(update: UpdateStatus) -> dict[str, Any]:
    shown = {
        "State": update.state,
        "StartedAt": _time(update.started_ms),
        "Message": update.message,
    }
    if update.completed_ms is not None:
        shown["CompletedAt"] = _time(update.completed_ms)
    return shown


def _time(ms: int) -> str:
    """RFC 3339, to the millisecond, in UTC."""
    text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
