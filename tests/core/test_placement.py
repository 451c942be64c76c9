"""Which nodes could take a task, and which are saturated."""

from __future__ import annotations

import pytest

from autoheal.core.view.node_window import NodeLoad
from autoheal.core.view.placement import can_judge, could_take, is_saturated
from builders import node


@pytest.mark.parametrize(
    ("availability", "state", "able"),
    [
        ("active", "ready", True),
        ("pause", "ready", False),
        ("drain", "ready", False),
        ("active", "down", False),
        ("active", "unknown", False),
    ],
)
def test_only_an_active_node_that_is_ready_could_take_a_task(
    availability: str, state: str, *, able: bool
) -> None:
    assert could_take(node(availability=availability, state=state), []) is able


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("node.id==Node-1", True),
        ("node.id!=node-1", False),
        ("node.hostname == NODE-1 ", True),
        ("node.hostname==node-2", False),
        ("node.hostname!=node-2", True),
        ("node.role==worker", True),
        ("Node.Role == Worker", True),
        ("node.role!=worker", False),
        ("node.role==manager", False),
        ("node.labels.disk==ssd", True),
        ("node.labels.disk==SSD", True),
        ("node.labels.disk!=ssd", False),
        ("NODE.LABELS.disk==ssd", True),
        # the name of a label counts to the letter
        ("node.labels.Disk==ssd", False),
        ("node.labels.Disk!=ssd", True),
        # one that is not there is empty
        ("node.labels.gpu==yes", False),
        ("node.labels.gpu!=yes", True),
        ("node.labels.url==a!=b", True),
        # what the inventory does not tell
        ("node.platform.os==plan9", True),
        ("engine.labels.disk==hdd", True),
        ("node.ip==10.0.0.0/8", True),
        ("node.labels.", True),
        ("nonsense", True),
    ],
)
def test_constraints_are_read_as_swarm_reads_them(constraint: str, *, met: bool) -> None:
    labelled = node(labels={"disk": "ssd", "url": "a!=b"})
    assert could_take(labelled, [constraint]) is met


def test_every_constraint_must_be_met() -> None:
    assert could_take(node(), ["node.role==worker", "node.id==node-1"])
    assert not could_take(node(), ["node.role==worker", "node.id==node-2"])


@pytest.mark.parametrize(
    ("load", "saturated"),
    [
        (None, None),
        (NodeLoad(), None),
        (NodeLoad(89.9, 89.9), False),
        (NodeLoad(90.0, 0.0), True),
        (NodeLoad(0.0, 90.0), True),
        (NodeLoad(90.0, None), True),
        (NodeLoad(None, 90.0), True),
        (NodeLoad(10.0, None), None),
        (NodeLoad(None, 10.0), None),
    ],
)
def test_a_node_is_saturated_when_either_figure_is(
    load: NodeLoad | None, *, saturated: bool | None
) -> None:
    assert is_saturated(load, 90) is saturated


@pytest.mark.parametrize(
    ("constraints", "known"),
    [
        ([], True),
        (["node.role==worker", "Node.Labels.disk != ssd"], True),
        (["node.id==a", "node.hostname!=b"], True),
        (["node.platform.os==linux"], False),
        (["node.role==worker", "engine.labels.gpu==true"], False),
        (["node.labels."], False),
    ],
)
def test_some_constraints_ask_for_what_the_inventory_does_not_tell(
    constraints: list[str], *, known: bool
) -> None:
    assert can_judge(constraints) is known
