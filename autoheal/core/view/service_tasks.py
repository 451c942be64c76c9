"""The tasks of each service now: which run, where, and what Swarm says is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoheal.core.view.swarm_view import FAILED, REJECTED, RUNNING, Downtime, Span, SwarmView
from autoheal.model import Service

_WENT_WRONG = (FAILED, REJECTED)


@dataclass(frozen=True, slots=True)
class ServiceTasks:
    """The tasks of one service now.

    `running` are the ids of those that run and are meant to, sorted; `current` counts those of them
    that were made from the service's present ForceUpdate and memory limit. `hosts` are the nodes
    that run them, or ran the last ones, with how many; `lost_on` the nodes that are down and had
    some. `complaint` is the newest error that Swarm tells of a task that should run.
    """

    running: tuple[str, ...] = ()
    current: int = 0
    hosts: Mapping[str, int] = field(default_factory=dict)
    lost_on: tuple[str, ...] = ()
    complaint: str = ""


def tasks_by_service(view: SwarmView, since_ms: int) -> dict[str, ServiceTasks]:
    """The tasks of every service that has some, or had since `since_ms`."""
    downtimes = [downtime for downtime in view.downtimes if downtime.to_ms is None]
    spans: dict[str, list[Span]] = {}
    lost: dict[str, set[str]] = {}
    for span in view.spans.values():
        service = span.task.service
        if service not in view.services:
            continue
        if span.ended_ms is None or span.ended_ms >= since_ms:
            spans.setdefault(service, []).append(span)
        for node in _takers(downtimes, span):
            lost.setdefault(service, set()).add(node)
    return {
        service: _tasks(view.services[service], spans.get(service, ()), lost.get(service, ()))
        for service in sorted(spans.keys() | lost.keys())
    }


def _takers(downtimes: Sequence[Downtime], span: Span) -> Iterable[str]:
    return (downtime.node for downtime in downtimes if downtime.took(span))


def _tasks(service: Service, spans: Sequence[Span], lost_on: Iterable[str]) -> ServiceTasks:
    running = [span for span in spans if span.is_running]
    hosts = Counter(span.task.node for span in running or _last(service, spans))
    made_from = (service.force_update, service.memory_limit)
    return ServiceTasks(
        running=tuple(sorted(span.task.id for span in running)),
        current=sum((s.task.force_update, s.task.memory_limit) == made_from for s in running),
        hosts={node: hosts[node] for node in sorted(hosts)},
        lost_on=tuple(sorted(lost_on)),
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
