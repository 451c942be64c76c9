"""Where a task goes, after swarmkit's manager/scheduler: filters first, then an even spread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from autoheal.sim.machine import Machine
from autoheal.sim.objects import NANO, Task, TaskState, section

_LABEL = "node.labels."
_CONSTRAINT = re.compile(r"\s*([\w.-]+)\s*(==|!=)\s*(.+?)\s*")

Filter = Callable[[Task, Machine], bool]


def place(task: Task, machines: Sequence[Machine]) -> tuple[Machine | None, str]:
    """The node for a task, or None and why there is none, in Swarm's words."""
    refused = dict.fromkeys(_FILTERS, 0)
    fitting = []
    for machine in machines:
        failing = next((words for words, fits in _FILTERS.items() if not fits(task, machine)), None)
        if failing is None:
            fitting.append(machine)
        else:
            refused[failing] += 1
    if not fitting:
        return None, _explanation(refused)
    return min(fitting, key=lambda machine: _crowding(task, machine)), ""


def meets_constraints(task: Task, machine: Machine) -> bool:
    """Whether all the placement constraints hold. Raises ValueError on one that is none."""
    constraints = section(task.template, "Placement").get("Constraints") or ()
    return all(_holds(constraint, machine) for constraint in constraints)


def _crowding(task: Task, machine: Machine) -> tuple[int, int]:
    """Fewest tasks of the same service, then fewest tasks at all; then the order of the nodes."""
    mine = sum(each.service is task.service for each in _active(machine))
    return mine, sum(1 for _ in _active(machine))


def _active(machine: Machine) -> Iterable[Task]:
    return (task for task in machine.tasks if task.is_wanted and not task.has_ended)


def _is_available(_: Task, machine: Machine) -> bool:
    return machine.takes_tasks


def _has_room(task: Task, machine: Machine) -> bool:
    wanted = _reserved(task)
    if wanted == (0.0, 0):
        return True
    taken = [_reserved(each) for each in machine.tasks if each.state >= TaskState.ASSIGNED]
    cores = machine.cores - sum(cores for cores, _ in taken)
    memory = machine.memory - sum(memory for _, memory in taken)
    return wanted[0] <= cores and wanted[1] <= memory


def _reserved(task: Task) -> tuple[float, int]:
    """Cores and bytes that are set aside for it while it lives."""
    if task.has_ended:
        return 0.0, 0
    reserved = section(task.template, "Resources", "Reservations")
    return (reserved.get("NanoCPUs") or 0) / NANO, reserved.get("MemoryBytes") or 0


def _is_below_maximum(task: Task, machine: Machine) -> bool:
    maximum = section(task.template, "Placement").get("MaxReplicas") or 0
    mine = sum(each.service is task.service for each in _active(machine))
    return not maximum or mine < maximum


def _holds(constraint: str, machine: Machine) -> bool:
    """Compared without regard to case, as Swarm does; only a label's name keeps its own."""
    found = _CONSTRAINT.fullmatch(constraint)
    if found is None:
        raise ValueError(f'"{constraint}" is not a placement constraint')
    key, operator, value = found.groups()
    equals = _attribute(key, machine).casefold() == value.casefold()
    return equals is (operator == "==")


def _attribute(key: str, machine: Machine) -> str:
    known = {
        "node.id": machine.id,
        "node.hostname": machine.hostname,
        "node.role": machine.role,
    }
    plain = key.casefold()
    if plain in known:
        return known[plain]
    if plain.startswith(_LABEL):
        return machine.labels.get(key[len(_LABEL) :], "")
    raise ValueError(f'placement by "{key}" is not simulated')


def _explanation(refused: dict[str, int]) -> str:
    """The filters that failed most nodes first, as docker service ps shows them."""
    parts = [
        words.format(_nodes(count))
        for words, count in sorted(refused.items(), key=lambda row: -row[1])
        if count
    ]
    return f"no suitable node ({'; '.join(parts)})"


def _nodes(count: int) -> str:
    return f"{count} node" if count == 1 else f"{count} nodes"


# In swarmkit's order: the first that refuses a node is the one that is named.
_FILTERS: dict[str, Filter] = {
    "{} not available for new tasks": _is_available,
    "insufficient resources on {}": _has_room,
    "scheduling constraints not satisfied on {}": meets_constraints,
    "max replicas per node limit exceed": _is_below_maximum,
}
