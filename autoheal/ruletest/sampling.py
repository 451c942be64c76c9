"""What the collectors of a test read: the figures of tasks as the test says, and of the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoheal.metrics import MEASURED, METRIC_BY_NAME
from autoheal.model import Node, NodeFigures, RosterRow, Service, Task
from autoheal.records import SampleBatch, Samples, container_key
from autoheal.ruletest.scenario import Scenario, TaskSetup
from autoheal.ruletest.series import constant

# What a task shows where the test does not say: nothing that any cautious rule minds.
CALM = {"cpu_percent": 50.0, "memory_percent": 50.0, "throttled_percent": 0.0, "pids": 10.0}
MEMORY_WITHOUT_LIMIT = 64 * 2**20
# The share that can stand for a measured figure in a test, by the figure's name.
_SHARES = {each.numerator: each for each in METRIC_BY_NAME.values() if each.numerator is not None}


class Sampler:
    """Makes the batches of all nodes; it remembers which roster each of them told last."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._rosters: dict[str, tuple[RosterRow, ...]] = {}

    def batch(
        self,
        node: Node,
        tasks: Sequence[tuple[Task, TaskSetup]],
        services: Mapping[str, Service],
        step: int,
    ) -> SampleBatch:
        """What this node tells at this step of itself and of the tasks that run on it."""
        roster = tuple(_roster_row(task, services[task.service]) for task, _ in tasks)
        is_new = self._rosters.get(node.id) != roster
        self._rosters[node.id] = roster
        columns = [_readings(task, setup, services, node, step) for task, setup in tasks]
        matrix = np.asarray(columns, dtype=np.float32).reshape(len(columns), len(MEASURED)).T
        keys = tuple(row.key for row in roster)
        return SampleBatch(
            node=node.id,
            samples=Samples(MEASURED, keys, np.ascontiguousarray(matrix)),
            figures=self._figures(node, step),
            roster=roster if is_new else None,
        )

    def _figures(self, node: Node, step: int) -> NodeFigures:
        setup = self._scenario.nodes[node.id]
        cpu_percent, memory_percent = setup.cpu_percent.at(step), setup.memory_percent.at(step)
        return NodeFigures(node.cores, cpu_percent, node.memory, memory_percent)


def _roster_row(task: Task, service: Service) -> RosterRow:
    key = container_key(task.container)
    limits = service.cpu_limit, task.memory_limit
    return RosterRow(key, task.container, task.id, task.service, *limits)


def _readings(
    task: Task, setup: TaskSetup, services: Mapping[str, Service], node: Node, step: int
) -> list[float]:
    """One figure for each measured metric; NaN is missing."""
    service = services[task.service]
    bases = {
        "cpu": service.cpu_limit or service.cpu_reservation or node.cores,
        "memory": task.memory_limit,
    }
    found = (_reading(name, setup, bases, step) for name in MEASURED)
    return [np.nan if value is None else value for value in found]


def _reading(
    name: str, setup: TaskSetup, bases: Mapping[str, float | None], step: int
) -> float | None:
    """A figure as the test says it, or as the share that it says makes it; None is missing."""
    share = _SHARES.get(name)
    if name in setup.series or share is None or share.basis is None:
        return setup.series.get(name, constant(CALM.get(name, 0.0))).at(step)
    basis = bases[share.basis]
    if basis is None:
        return MEMORY_WITHOUT_LIMIT
    percent = setup.series.get(share.name, constant(CALM[share.name])).at(step)
    return None if percent is None else percent * basis / 100
