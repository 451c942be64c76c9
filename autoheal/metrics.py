"""The vocabulary a rule can name: one row per metric, one row per event.

To add a metric: add its row here and, if it is measured, the reading that fills it. Measured rows
travel in sample batches in the order of `MEASURED`; derived rows are computed from them when a
batch is folded, so that what was measured stays what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """What a metric counts in; percentages have a natural cap and can be filled in."""

    CORES = "cores"
    BYTES = "bytes"
    PERCENT = "percent"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure per task, or per service (`of_service`), from what the inventory tells.

    `cap` is what a missing value is at worst, None where nothing bounds it. `numerator` and `basis`
    are set for derived metrics: 100 x numerator / basis. `harm` marks those that tell of a failure,
    not of load.
    """

    name: str
    unit: Unit
    cap: float | None
    help: str
    numerator: str | None = None
    basis: str | None = None
    of_service: bool = False
    harm: bool = False


@dataclass(frozen=True, slots=True)
class EventName:
    """One kind of event a rule can count.

    `harm` marks those that are evidence of a failure; `filter` names what a rule may narrow it by.
    """

    name: str
    help: str
    harm: bool = False
    filter: str | None = None


METRICS: tuple[Metric, ...] = (
    Metric("cpu_cores", Unit.CORES, None, "CPU time used per second of time, in cores"),
    Metric("memory_bytes", Unit.BYTES, None, "working set: usage less inactive file cache"),
    Metric(
        "throttled_percent",
        Unit.PERCENT,
        100.0,
        "scheduling periods in which the CPU limit stopped the container, of all periods",
    ),
    Metric("pids", Unit.COUNT, None, "processes and threads in the container"),
    Metric(
        "cpu_percent",
        Unit.PERCENT,
        100.0,
        "CPU used, of the CPU limit, else of the reservation, else of the node",
        numerator="cpu_cores",
        basis="cpu",
    ),
    Metric(
        "memory_percent",
        Unit.PERCENT,
        100.0,
        "working set, of the memory limit; no value without a limit",
        numerator="memory_bytes",
        basis="memory",
    ),
    Metric(
        "tasks_missing",
        Unit.COUNT,
        None,
        "tasks wanted, less those that run or have finished",
        of_service=True,
        harm=True,
    ),
    Metric(
        "tasks_pending",
        Unit.COUNT,
        None,
        "tasks that no node has been found for",
        of_service=True,
        harm=True,
    ),
    Metric(
        "tasks_starting",
        Unit.COUNT,
        None,
        "tasks on their way: pending, waiting for their restart, or being started",
        of_service=True,
    ),
    Metric(
        "tasks_stable",
        Unit.PERCENT,
        100.0,
        "tasks that have been running for `AUTOHEAL_STABLE_AFTER` (1m) or have finished,"
        " of those wanted",
        of_service=True,
    ),
    Metric(
        "tasks_blind",
        Unit.COUNT,
        None,
        "ready tasks from which no sample came",
        of_service=True,
    ),
    Metric(
        "nodes_down",
        Unit.COUNT,
        None,
        "nodes that are down and had a task of the service when they went",
        of_service=True,
        harm=True,
    ),
    Metric(
        "nodes_saturated",
        Unit.PERCENT,
        100.0,
        "nodes short of CPU or memory, of those that could take a task of the service",
        of_service=True,
    ),
    Metric(
        "update_paused",
        Unit.COUNT,
        None,
        "1 while a rollout, or its rollback, is paused",
        of_service=True,
    ),
)

EVENTS: tuple[EventName, ...] = (
    EventName("oom_killed", "the kernel killed a process of the container for memory", harm=True),
    EventName(
        "task_failed",
        "a task ended by itself with an exit code other than 0, or Swarm says that it failed",
        harm=True,
        filter="exit_code",
    ),
    EventName(
        "task_rejected",
        "a task was rejected: its image cannot be had, its node no longer fits, or other",
        harm=True,
        filter="reason",
    ),
    EventName("unhealthy", "the container's health check turned unhealthy", harm=True),
    EventName("died", "the container exited, for whatever reason, also when Swarm stopped it"),
)
REJECTIONS = ("image", "placement", "other")

METRIC_BY_NAME = {metric.name: metric for metric in METRICS}
EVENT_BY_NAME = {event.name: event for event in EVENTS}
MEASURED: tuple[str, ...] = tuple(
    metric.name for metric in METRICS if metric.numerator is None and not metric.of_service
)
