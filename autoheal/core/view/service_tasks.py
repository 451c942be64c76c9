"""The tasks of each service now: which run, where, and what Swarm says is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoheal.core.view.placement import can_judge, could_take
from autoheal.core.view.swarm_view import (
    FAILED,
    JOBS,
    REJECTED,
    RUNNING,
    Downtime,
    Finish,
    Span,
    SwarmView,
)
from autoheal.model import Service, ServiceMode, Task

_WENT_WRONG = (FAILED, REJECTED)


@dataclass(frozen=True, slots=True)
class ServiceTasks:
    """The tasks of one service now.

    `running` are the ids of those that run and are meant to, sorted; `current` counts those of them
    that were made from the service's present ForceUpdate and memory limit. `hosts` are the nodes
    that run them, or ran the last ones, with how many; `lost_on` the nodes that are down and had
    some, `lost_lately` those that went down or came back within the node hold. `complaint` is the
    newest error that Swarm tells of a task that should run. `finished` counts the slots whose last
    task ended by itself, without an error, and that Swarm leaves at that; `wanted` is how many
    tasks should run or have finished: 0 for jobs, for global services one per node that could take
    it.
    """

    running: tuple[str, ...] = ()
    current: int = 0
    hosts: Mapping[str, int] = field(default_factory=dict)
    lost_on: tuple[str, ...] = ()
    lost_lately: tuple[str, ...] = ()
    complaint: str = ""
    finished: int = 0
    wanted: int = 0


def tasks_by_service(
    view: SwarmView, *, since_ms: int, lately_ms: int, unhealthy: Collection[str]
) -> dict[str, ServiceTasks]:
    """The tasks of every service that wants or has some, had since `since_ms`, or lost some.

    Nodes that came back after `lately_ms` went lately. `unhealthy` are tasks told to be so.
    """
    spans: dict[str, list[Span]] = {}
    for span in view.spans.values():
        if span.ended_ms is None or span.ended_ms >= since_ms:
            spans.setdefault(span.task.service, []).append(span)
    lost = _lost(view, lately_ms)
    over = (finish for finish in finishes(view, unhealthy) if finish.to_ms is None)
    finished = Counter(finish.task.service for finish in over)
    able = _able_nodes(view)
    found: dict[str, ServiceTasks] = {}
    for identity, service in sorted(view.services.items()):
        wanted = _wanted(service, able)
        if wanted or identity in spans or identity in lost:
            tasks = _tasks(service, spans.get(identity, ()), lost.get(identity, ()), lately_ms)
            found[identity] = replace(tasks, finished=finished[identity], wanted=wanted)
    return found


def finishes(view: SwarmView, unhealthy: Collection[str]) -> Sequence[Finish]:
    """When slots needed no task, of the slots that are wanted.

    Swarm stopped an unhealthy task, whatever its exit code. A global service's slot is wanted while
    its node could take the task.
    """
    return [
        finish
        for finish in view.finishes()
        if finish.task.id not in unhealthy and _is_wanted(view, finish.task)
    ]


def _is_wanted(view: SwarmView, task: Task) -> bool:
    service, node = view.services[task.service], view.nodes.get(task.node)
    if service.mode is not ServiceMode.GLOBAL:
        return True
    return node is not None and could_take(node, service.constraints)


def _able_nodes(view: SwarmView) -> Mapping[Sequence[str], int]:
    """How many nodes could take a task of a global service, by its constraints."""
    kinds = {s.constraints for s in view.services.values() if s.mode is ServiceMode.GLOBAL}
    return {kind: sum(could_take(node, kind) for node in view.nodes.values()) for kind in kinds}


def _wanted(service: Service, able: Mapping[Sequence[str], int]) -> int:
    if service.mode is ServiceMode.GLOBAL:
        return able[service.constraints] if can_judge(service.constraints) else 0
    return 0 if service.mode in JOBS else service.replicas or 0


def _lost(view: SwarmView, lately_ms: int) -> dict[str, list[Downtime]]:
    """The downtimes, lasting or over only lately, in which each service lost tasks."""
    lost: dict[str, list[Downtime]] = {}
    for downtime in view.downtimes:
        if downtime.to_ms is not None and downtime.to_ms <= lately_ms:
            continue
        for service in {s.task.service for s in view.spans.values() if downtime.took(s)}:
            lost.setdefault(service, []).append(downtime)
    return lost


def _tasks(
    service: Service, spans: Sequence[Span], lost: Sequence[Downtime], lately_ms: int
) -> ServiceTasks:
    running = [span for span in spans if span.is_running]
    hosts = Counter(span.task.node for span in running or _last(service, spans))
    made_from = (service.force_update, service.memory_limit)
    return ServiceTasks(
        running=tuple(sorted(span.task.id for span in running)),
        current=sum((s.task.force_update, s.task.memory_limit) == made_from for s in running),
        hosts={node: hosts[node] for node in sorted(hosts)},
        lost_on=tuple(sorted(downtime.node for downtime in lost if downtime.to_ms is None)),
        lost_lately=tuple(
            sorted({each.node for each in lost if (each.to_ms or each.from_ms) > lately_ms})
        ),
        complaint=_complaint(spans),
    )


def _last(service: Service, spans: Sequence[Span]) -> Iterable[Span]:
    """The tasks that ran last, one for each replica's slot; a global service has one per node."""
    last: dict[tuple[int, str], Span] = {}
    for span in sorted((span for span in spans if span.running_from_ms is not None), key=_age):
        slot = span.task.slot
        last[slot, "" if slot else span.task.node] = span
    newest = sorted(last.values(), key=_age, reverse=True)
    return newest[: service.replicas] if service.replicas else newest


def _complaint(spans: Iterable[Span]) -> str:
    """The newest error of a task that should run, or of the newest that went wrong."""
    telling = [
        span
        for span in spans
        if span.task.error
        and (span.task.state in _WENT_WRONG or span.task.desired_state == RUNNING)
    ]
    return max(telling, key=_age).task.error if telling else ""


def _age(span: Span) -> tuple[int, str]:
    return span.since_ms, span.task.id
