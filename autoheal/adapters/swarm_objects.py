"""Docker's JSON of services, tasks and nodes as the facts that everything else speaks of. Pure.

Docker leaves out fields that hold nothing and writes 0 where nothing is set: both are None here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from autoheal.core.view.swarm_view import ENDED_STATES
from autoheal.model import OWN_LABELS, Node, Service, ServiceMode, Task
from autoheal.records import canonical, digest

LABEL_CHARACTERS = 512
ERROR_CHARACTERS = 200
NANO = 10**9
# What Swarm does where a service does not say.
UPDATE_ORDER = "stop-first"
RESTART_CONDITION = "any"

Json = Mapping[str, Any]

_MODES = {
    "Replicated": ServiceMode.REPLICATED,
    "Global": ServiceMode.GLOBAL,
    "ReplicatedJob": ServiceMode.REPLICATED_JOB,
    "GlobalJob": ServiceMode.GLOBAL_JOB,
}
_KEPT_MOUNTS = frozenset({"volume", "bind", "cluster"})
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def service_from(raw: Json) -> Service:
    """One element of GET /services. Raises ValueError on a mode or a time that is none."""
    spec = raw.get("Spec") or {}
    task = spec.get("TaskTemplate") or {}
    mode = _mode(spec)
    return Service(
        id=raw["ID"],
        name=spec.get("Name") or "",
        index=_index(raw),
        mode=mode,
        replicas=_at(spec, "Mode", "Replicated", "Replicas"),
        content=content_digest(spec),
        force_update=task.get("ForceUpdate") or 0,
        cpu_limit=_cores(_at(task, "Resources", "Limits", "NanoCPUs")),
        cpu_reservation=_cores(_at(task, "Resources", "Reservations", "NanoCPUs")),
        memory_limit=_at(task, "Resources", "Limits", "MemoryBytes") or None,
        update_state=_at(raw, "UpdateStatus", "State") or "",
        created_at_ms=milliseconds(raw.get("CreatedAt")),
        updated_at_ms=milliseconds(raw.get("UpdatedAt")),
        pinned="@sha256:" in (_at(task, "ContainerSpec", "Image") or ""),
        stateful=_writes_to_mount(_at(task, "ContainerSpec", "Mounts")),
        update_order=_at(spec, "UpdateConfig", "Order") or UPDATE_ORDER,
        restart_condition=_at(task, "RestartPolicy", "Condition") or RESTART_CONDITION,
        constraints=tuple(_at(task, "Placement", "Constraints") or ()),
        labels=_labels(spec.get("Labels")),
    )


def task_from(raw: Json) -> Task:
    """One element of GET /tasks. Raises ValueError on a time that is none."""
    spec = raw.get("Spec") or {}
    status = raw.get("Status") or {}
    return Task(
        id=raw["ID"],
        index=_index(raw),
        service=raw.get("ServiceID") or "",
        node=raw.get("NodeID") or "",
        slot=raw.get("Slot") or 0,
        container=_at(status, "ContainerStatus", "ContainerID") or "",
        state=status.get("State") or "",
        desired_state=raw.get("DesiredState") or "",
        state_since_ms=milliseconds(status.get("Timestamp")),
        force_update=spec.get("ForceUpdate") or 0,
        memory_limit=_at(spec, "Resources", "Limits", "MemoryBytes") or None,
        exit_code=_exit_code(status),
        error=" ".join((status.get("Err") or "").split())[:ERROR_CHARACTERS],
    )


def node_from(raw: Json) -> Node:
    """One element of GET /nodes."""
    spec = raw.get("Spec") or {}
    return Node(
        id=raw["ID"],
        index=_index(raw),
        hostname=_at(raw, "Description", "Hostname") or "",
        role=spec.get("Role") or "",
        availability=spec.get("Availability") or "",
        state=_at(raw, "Status", "State") or "",
        cores=_cores(_at(raw, "Description", "Resources", "NanoCPUs")) or 0.0,
        memory=_at(raw, "Description", "Resources", "MemoryBytes") or 0,
        leader=bool(_at(raw, "ManagerStatus", "Leader")),
        labels=_labels(spec.get("Labels")),
    )


def content_digest(spec: Json) -> str:
    """A digest of what people deployed: the spec without the leaves that autoheal may change.

    Those are the replicas, ForceUpdate, the memory limit and `autoheal.*` labels. Maps that only
    held such a leaf are as if absent, so that adding the first one does not look like a deploy.
    """
    content = dict(spec)
    _without_own_labels(content)
    _without(content, ("Mode", "Replicated", "Replicas"))
    _without(content, ("TaskTemplate", "ForceUpdate"))
    _without(content, ("TaskTemplate", "Resources", "Limits", "MemoryBytes"))
    task = content.get("TaskTemplate")
    if isinstance(task, dict):
        _drop_empty(task, "Resources", "Limits")
        _drop_empty(task, "Resources")
    return digest(canonical(content))


def milliseconds(text: str | None) -> int:
    """RFC 3339 with any fraction -> milliseconds since 1970; Go's zero time and None are 0.

    Raises ValueError on anything else.
    """
    if not text:
        return 0
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not an RFC 3339 time')
    *parts, fraction, sign, hours, minutes = found.groups()
    year, month, day, hour, minute, second = (int(part) for part in parts)
    moment = datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second)
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        moment += offset if sign == "-" else -offset
    whole = (moment - _EPOCH) // timedelta(milliseconds=1)
    return max(0, whole + int((fraction or "0").ljust(3, "0")[:3]))


def _mode(spec: Json) -> ServiceMode:
    raw = spec.get("Mode") or {}
    for word, mode in _MODES.items():
        if raw.get(word) is not None:
            return mode
    raise ValueError(f"service {spec.get('Name')!r} has a mode we do not know: {sorted(raw)}")


def _at(raw: Json, *path: str) -> Any:  # noqa: ANN401  # a leaf of Docker's JSON
    """The leaf at a path, None where the path ends early."""
    value: Any = raw
    for key in path:
        if not value:
            return None
        value = value.get(key)
    return value


def _index(raw: Json) -> int:
    return _at(raw, "Version", "Index") or 0


def _cores(nano: int | None) -> float | None:
    return nano / NANO if nano else None


def _writes_to_mount(mounts: Sequence[Json] | None) -> bool:
    """Whether tasks may write to something that outlives them."""
    return any(
        mount.get("Type") in _KEPT_MOUNTS and not mount.get("ReadOnly") for mount in mounts or ()
    )


def _exit_code(status: Json) -> int | None:
    """How the container of a task that has ended did; None if there was none, or none is known.

    A task whose node is lost ends with the last that was known of its container: a process and a
    code of 0. So does one whose container was started again behind Swarm's back.
    """
    container = status.get("ContainerStatus") or {}
    lives = container.get("PID") or not container.get("ContainerID")
    if lives or status.get("State") not in ENDED_STATES:
        return None
    return container.get("ExitCode") or 0


def _labels(raw: Mapping[str, str] | None) -> dict[str, str]:
    return {name: value[:LABEL_CHARACTERS] for name, value in (raw or {}).items()}


def _without_own_labels(content: dict[str, Any]) -> None:
    labels = content.pop("Labels", None) or {}
    kept = {name: value for name, value in labels.items() if not name.startswith(OWN_LABELS)}
    if kept:
        content["Labels"] = kept


def _without(content: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove a leaf; the maps on the way to it are copied, never changed."""
    *parents, leaf = path
    for key in parents:
        inner = content.get(key)
        if not isinstance(inner, dict):
            return
        content[key] = content = dict(inner)
    content.pop(leaf, None)


def _drop_empty(content: dict[str, Any], *path: str) -> None:
    """Remove what is at the path, in maps that `_without` copied, where it holds nothing."""
    *parents, leaf = path
    for key in parents:
        inner = content.get(key)
        if not isinstance(inner, dict):
            return
        content = inner
    if not content.get(leaf):
        content.pop(leaf, None)
