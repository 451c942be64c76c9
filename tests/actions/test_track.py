"""track: an action whose kind is known only with what tracking came to."""

from __future__ import annotations

import pytest

from autoheal.actions import ACTIONS, Plan, Proposal, ScaleUp, Subject, Track, Unable
from autoheal.actions.replicas import REPLICAS
from autoheal.actions.track import Policy, Target
from autoheal.model import ActionKind
from builders import service

TRACK = Track((Target(70.0, 60_000, metric="cpu_percent"),), 2, 20)
UP = Proposal(ActionKind.SCALE_UP, Plan(2, 3, "scale up from 2 to 3"))
DOWN = Proposal(ActionKind.SCALE_DOWN, Unable("2 replicas, and the rule's minimum is 2"))


@pytest.mark.parametrize("tracked", [UP, DOWN])
def test_it_proposes_what_tracking_came_to(tracked: Proposal) -> None:
    subject = Subject(service(), tracked=tracked)
    assert TRACK.propose(subject) is tracked
    assert TRACK.plan(subject) is tracked.plan


def test_it_proposes_nothing_where_tracking_came_to_nothing() -> None:
    assert TRACK.propose(Subject(service())) is None
    plan = TRACK.plan(Subject(service()))
    assert plan == Unable("its targets ask for no change", lasting=False)


def test_it_is_carried_out_as_one_of_the_kinds_that_change_replicas() -> None:
    assert TRACK.kinds() == (ActionKind.SCALE_UP, ActionKind.SCALE_DOWN)
    assert TRACK.leaf is REPLICAS
    assert all(ACTIONS[kind].leaf is REPLICAS for kind in TRACK.kinds())
    assert not TRACK.heals
    assert not TRACK.rolls


def test_another_action_is_of_one_kind_whatever_it_plans() -> None:
    action, subject = ScaleUp(max=3), Subject(service(replicas=3))
    assert action.kinds() == (ActionKind.SCALE_UP,)
    assert action.propose(subject) == Proposal(ActionKind.SCALE_UP, action.plan(subject))


def test_what_is_left_out_is_as_in_kubernetes() -> None:
    tasks, percent = Policy(15_000, tasks=4), Policy(15_000, percent=100.0)
    assert (TRACK.up.policies, TRACK.up.stabilization_ms) == ((tasks, percent), 0)
    assert (TRACK.down.policies, TRACK.down.stabilization_ms) == ((percent,), 300_000)
    assert (TRACK.up.select, TRACK.down.select) == ("max", "max")
    assert (TRACK.up.tolerance, TRACK.down.tolerance) == (0.1, 0.1)
