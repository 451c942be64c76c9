"""Which nodes could take a task, and which of them have no room to spare.

Constraints are read as Swarm's scheduler reads them: keys and values without regard to case, the
names of labels with it; a label that is not there has the value "".
"""

from __future__ import annotations

from collections.abc import Sequence

from autoheal.core.view.node_window import NodeLoad
from autoheal.model import Node

ACTIVE = "active"
READY = "ready"
LABEL_KEY = "node.labels."
KNOWN_KEYS = frozenset({"node.id", "node.hostname", "node.role"})


def could_take(node: Node, constraints: Sequence[str]) -> bool:
    """Whether Swarm may put a task on this node. A constraint we cannot judge excludes nothing."""
    if node.availability != ACTIVE or node.state != READY:
        return False
    return all(_is_met(node, constraint) for constraint in constraints)


def can_judge(constraints: Sequence[str]) -> bool:
    """Whether the inventory tells all that these constraints ask for."""
    keys = (each.partition("==" if "==" in each else "!=")[0].strip() for each in constraints)
    return all(_is_label(key) or key.lower() in KNOWN_KEYS for key in keys)


def is_saturated(load: NodeLoad | None, percent: int) -> bool | None:
    """Whether a node's mean CPU or memory use has reached `percent`; None where that is unknown."""
    if load is None:
        return None
    figures = (load.cpu_percent, load.memory_percent)
    if any(figure is not None and figure >= percent for figure in figures):
        return True
    return None if None in figures else False


def _is_met(node: Node, constraint: str) -> bool:
    operator = "==" if "==" in constraint else "!="
    key, found, value = constraint.partition(operator)
    actual = _value(node, key.strip())
    if not found or actual is None:
        return True
    return (actual.lower() == value.strip().lower()) is (operator == "==")


def _value(node: Node, key: str) -> str | None:
    """What the node has for the key of a constraint; None where the inventory does not tell."""
    if _is_label(key):
        return node.labels.get(key[len(LABEL_KEY) :], "")
    known = {"node.id": node.id, "node.hostname": node.hostname, "node.role": node.role}
    return known.get(key.lower())


def _is_label(key: str) -> bool:
    return key.lower().startswith(LABEL_KEY) and len(key) > len(LABEL_KEY)
