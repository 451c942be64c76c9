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
    """One figure per task. `cap` is what a missing value is at worst, None where nothing bounds it.

    `numerator` and `basis` are set for derived metrics: 100 x numerator / basis.
    """

    name: str
    unit: Unit
    cap: float | None
    help: str
    numerator: str | None = None
    basis: str | None = None


@dataclass(frozen=True, slots=True)
class EventName:
    """One kind of event a rule can count."""

    name: str
    help: str


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
)

EVENTS: tuple[EventName, ...] = (
    EventName("oom_killed", "the kernel killed a process of the container for memory"),
    EventName("unhealthy", "the container's health check turned unhealthy"),
    EventName("died", "the container exited, for whatever reason, also when Swarm stopped it"),
)

METRIC_BY_NAME = {metric.name: metric for metric in METRICS}
EVENT_BY_NAME = {event.name: event for event in EVENTS}
MEASURED: tuple[str, ...] = tuple(metric.name for metric in METRICS if metric.numerator is None)
