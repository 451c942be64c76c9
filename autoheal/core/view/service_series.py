"""Figures of whole services, slot by slot: from the inventory's past, and from who is heard of.

The value of a slot is the state at its end. It is not known (NaN) before the service was first
seen, and while no inventory came for as long as makes one stale. Changes are laid out where they
happened and summed up along the slots, so that the work does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoheal.core.limits import Limits
from autoheal.core.view.node_window import FULL, NodeWindow
from autoheal.core.view.placement import can_judge, could_take
from autoheal.core.view.service_tasks import finishes
from autoheal.core.view.swarm_view import NEVER_MS, Downtime, Span, SwarmView, Wish
from autoheal.core.view.task_rows import Doubles, TaskRows
from autoheal.model import Service, ServiceMode

# What every container's sample holds: a task without it was not heard of.
HEARD_BY = "memory_bytes"
BLIND = "tasks_blind"
PAUSED = frozenset({"paused", "rollback_paused"})

Times = NDArray[np.int64]
Positions = NDArray[np.intp]


class ServiceSeries:
    """All services at one instant, in the order of their ids; `positions` is where each stands."""

    def __init__(
        self,
        view: SwarmView,
        rows: TaskRows,
        nodes: NodeWindow,
        services: Sequence[Service],
        limits: Limits,
        unhealthy: Collection[str] = (),
    ) -> None:
        self._view = view
        self._rows = rows
        self._nodes = nodes
        self.services = services
        self._limits = limits
        self._unhealthy = unhealthy
        self.positions = {service.id: place for place, service in enumerate(services)}
        self._spans = [span for span in view.spans.values() if span.task.service in self.positions]
        self._laid_out: dict[tuple[str, range], Doubles] = {}

    def of(self, metric: str, slots: range, *, wants_high: bool) -> Doubles:
        """Slots x services. `wants_high` says what a node is taken for whose load is not known."""
        series: dict[str, Callable[[range], Doubles]] = {
            "tasks_missing": self._missing,
            "tasks_pending": self._pending,
            "tasks_starting": self._starting,
            "tasks_stable": self._stable,
            BLIND: self._blind,
            "nodes_down": self._nodes_down,
            "update_paused": self._update_paused,
        }
        if metric == "nodes_saturated":
            values = self._nodes_saturated(slots, 0.0 if wants_high else FULL)
        else:
            values = self._once(metric, slots, series[metric])
        return np.where(self._once("known", slots, self._known) > 0, values, np.nan)

    def _once(self, what: str, slots: range, lay_out: Callable[[range], Doubles]) -> Doubles:
        """Conditions that look at the same slots share the work."""
        if (what, slots) not in self._laid_out:
            self._laid_out[what, slots] = lay_out(slots)
        return self._laid_out[what, slots]

    def running(self, slots: range) -> Doubles:
        """How many tasks of each service ran."""
        return np.where(self._known(slots), self._running(slots), np.nan)

    def _running(self, slots: range) -> Doubles:
        return self._tasks(slots, lambda span: (span.running_from_ms, span.ended_ms))

    def _missing(self, slots: range) -> Doubles:
        alive = self._running(slots) + self._finished(slots)
        return np.maximum(self._wanted(slots) - alive, 0.0)

    def _finished(self, slots: range) -> Doubles:
        """How many slots of each service needed no task."""
        return self._count(slots, self._finishes)

    @cached_property
    def _finishes(self) -> list[tuple[str, int, int | None]]:
        found = finishes(self._view, self._unhealthy)
        times = ((finish.task.service, finish.from_ms, finish.to_ms) for finish in found)
        return [each for each in times if each[0] in self.positions]

    def _pending(self, slots: range) -> Doubles:
        return self._tasks(slots, lambda span: (span.pending.from_ms, span.pending.to_ms))

    def _starting(self, slots: range) -> Doubles:
        return self._tasks(slots, lambda span: (span.starting.from_ms, span.starting.to_ms))

    def _stable(self, slots: range) -> Doubles:
        wanted = self._once("wanted", slots, self._wanted)
        stable = self._tasks(slots, self._stable_time) + self._finished(slots)
        share = np.minimum(wanted, stable) / np.maximum(wanted, 1.0)
        return np.where(wanted == 0, 100.0, 100.0 * share)

    def _stable_time(self, span: Span) -> tuple[int | None, int | None]:
        if span.running_from_ms is None:
            return None, None
        return span.running_from_ms + self._limits.stable_ms, span.ended_ms

    def _blind(self, slots: range) -> Doubles:
        """Ready tasks from which nothing was heard in the slot."""
        rows = self._rows
        blind = np.zeros((len(slots), len(self.services)))
        if rows.services:
            silent = rows.ready(slots) & np.isnan(rows.samples(HEARD_BY, slots))
            places = [self.positions[service.id] for service in rows.services]
            blind[:, places] = np.add.reduceat(silent, rows.starts, axis=1, dtype=np.float64)
        return blind

    def _nodes_down(self, slots: range) -> Doubles:
        lost = {
            (span.task.service, downtime)
            for downtime in self._view.downtimes
            for span in self._spans
            if downtime.took(span)
        }
        return self._count(slots, ((s, d.from_ms, d.to_ms) for s, d in sorted(lost, key=_place)))

    def _nodes_saturated(self, slots: range, missing: float) -> Doubles:
        """Of the nodes that could take a task now, how many percent were saturated then."""
        able = self._able()
        percent, names = self._limits.saturated_percent, sorted(self._view.nodes)
        saturated = self._nodes.saturated(names, slots, percent, missing=missing)
        with np.errstate(invalid="ignore"):  # no node could take it: not known
            shares = 100.0 * (saturated.astype(np.float64) @ able) / able.sum(axis=0)
        return np.asarray(shares[:, self._places_of_kinds()])

    def _update_paused(self, slots: range) -> Doubles:
        return self._held(slots, lambda wish: float(wish.update_state in PAUSED))

    def _wanted(self, slots: range) -> Doubles:
        """Replicas, or the nodes that could take a task; NaN where neither is known."""
        wanted = self._held(slots, lambda wish: float(wish.replicas or 0))
        are_told = self._held(slots, lambda wish: float(wish.replicas is not None))
        replicas = np.where(are_told > 0, wanted, np.nan)
        judged = np.asarray([can_judge(s.constraints) for s in self.services], dtype=bool)
        able = np.where(judged, self._nodes_able(slots), np.nan)
        return np.where(self._are_global(), able, replicas)

    def _are_global(self) -> NDArray[np.bool_]:
        return np.asarray([s.mode is ServiceMode.GLOBAL for s in self.services], dtype=bool)

    def _nodes_able(self, slots: range) -> Doubles:
        """Of the nodes that could take a task now, how many were then what they are now.

        A node that has just come back was not wanted before that.
        """
        since = [self._view.settled_ms[name] for name in sorted(self._view.nodes)]
        first = np.asarray(since, dtype=np.int64) // self._limits.step_ms
        were_there = first <= np.asarray(slots, dtype=np.int64)[:, None]
        counts = were_there.astype(np.float64) @ self._able()
        return np.asarray(counts[:, self._places_of_kinds()])

    @cached_property
    def _kinds(self) -> dict[tuple[str, ...], int]:
        """The constraints that the services have, each with its place."""
        kinds = dict.fromkeys(service.constraints for service in self.services)
        return {kind: place for place, kind in enumerate(kinds)}

    def _places_of_kinds(self) -> list[int]:
        return [self._kinds[service.constraints] for service in self.services]

    def _able(self) -> Doubles:
        """Nodes x kinds of constraints: 1.0 where the node could take a task now."""
        nodes = [self._view.nodes[name] for name in sorted(self._view.nodes)]
        able = [[could_take(node, kind) for kind in self._kinds] for node in nodes]
        return np.asarray(able, dtype=np.float64).reshape(len(nodes), len(self._kinds))

    def _known(self, slots: range) -> Doubles:
        """1.0 where the service had been seen, and an inventory not long before."""
        seen_ms = np.asarray(self._view.seen_ms, dtype=np.int64)
        ends_ms = (np.asarray(slots, dtype=np.int64) + 1) * self._limits.step_ms
        before = np.searchsorted(seen_ms, ends_ms, side="left")
        last_ms = np.concatenate([[-NEVER_MS], seen_ms])[before]
        fresh = ends_ms - last_ms < self._limits.inventory_stale_ms
        return np.where(fresh[:, None], self._held(slots, lambda _: 1.0), 0.0)

    def _tasks(
        self, slots: range, time_of: Callable[[Span], tuple[int | None, int | None]]
    ) -> Doubles:
        """How many tasks of each service were inside the time that `time_of` gives."""
        times = ((span.task.service, *time_of(span)) for span in self._spans)
        return self._count(slots, ((s, begin, end) for s, begin, end in times if begin is not None))

    def _count(self, slots: range, times: Iterable[tuple[str, int, int | None]]) -> Doubles:
        """Slots x services: how many of (service, from, to) held at the end of each slot."""
        rows = [
            (self.positions[service], begin, NEVER_MS if end is None else max(begin, end))
            for service, begin, end in times
        ]
        owners, begins, ends = np.asarray(rows, dtype=np.int64).reshape(-1, 3).T
        changes = self._changes(slots)
        np.add.at(changes, (self._slot(slots, begins), owners), 1.0)
        np.add.at(changes, (self._slot(slots, ends), owners), -1.0)
        return changes.cumsum(axis=0)[:-1]

    def _held(self, slots: range, value_of: Callable[[Wish], float]) -> Doubles:
        """Slots x services: the value of the wish that was in force at the end of each slot."""
        rows: list[tuple[float, float, float]] = []
        for service, place in self.positions.items():
            before = 0.0
            for wish in self._view.wishes[service]:
                value = value_of(wish)
                rows.append((place, wish.ms, value - before))
                before = value
        owners, times_ms, steps = np.asarray(rows, dtype=np.float64).reshape(-1, 3).T
        changes = self._changes(slots)
        places = (self._slot(slots, times_ms.astype(np.int64)), owners.astype(np.intp))
        np.add.at(changes, places, steps)
        return changes.cumsum(axis=0)[:-1]

    def _changes(self, slots: range) -> Doubles:
        """Room for what changes in each slot, and after the last."""
        return np.zeros((len(slots) + 1, len(self.services)))

    def _slot(self, slots: range, times_ms: Times) -> Positions:
        """Which of these slots a change shows in first: earlier ones in the first of all."""
        places = times_ms // self._limits.step_ms - slots.start
        # np.clip would cost five times as much for a handful of figures.
        return np.minimum(np.maximum(places, 0), len(slots)).astype(np.intp)


def _place(lost: tuple[str, Downtime]) -> tuple[str, str, int]:
    service, downtime = lost
    return service, downtime.node, downtime.from_ms
