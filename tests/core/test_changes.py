"""Who changed a service: a deploy, an operator, or we ourselves."""

from __future__ import annotations

import dataclasses

import pytest

from autoheal.core.decision.changes import Change, classify, observe
from autoheal.core.state import Flight, Lane, LaneState, ServiceState
from autoheal.model import LABEL_DECISION, ActionKind, Mode, OutcomeKind, Service
from builders import LONG_AGO, MINUTE, NOW, scale_up, scene, service

FLIGHT = Flight("d2", ActionKind.SCALE_UP, "r", 2, 3, Mode.LIVE, NOW, NOW + MINUTE)


def labelled(decision: str, **changes: object) -> Service:
    labels = {LABEL_DECISION: decision} if decision else {}
    return dataclasses.replace(service(labels=labels), **changes)  # type: ignore[arg-type]  # any field by name


def known(before: Service, *, flight: Flight | None = None, last: str = "") -> ServiceState:
    lanes = {Lane.RULES: LaneState(last_decision=last, flight=flight)}
    return dataclasses.replace(observe(before, None), lanes=lanes)


@pytest.mark.parametrize(
    ("before", "after", "flight", "last", "change"),
    [
        # nothing, or only what is not looked at
        ("", labelled(""), None, "", Change.NOTHING),
        ("", labelled("", index=11, update_state="updating"), None, "", Change.NOTHING),
        ("d1", labelled("d1", index=11), None, "d1", Change.NOTHING),
        # a deploy: other content, or labels rebuilt without ours
        ("", labelled("", content="content-2"), None, "", Change.DEPLOY),
        ("d1", labelled("d1", content="content-2"), None, "d1", Change.DEPLOY),
        ("d1", labelled("d2", content="content-2", replicas=3), FLIGHT, "d1", Change.DEPLOY),
        ("d1", labelled(""), None, "d1", Change.DEPLOY),
        ("d1", labelled("", replicas=1), None, "d1", Change.DEPLOY),
        # an operator: a lever moved under the same label
        ("", labelled("", replicas=3), None, "", Change.OPERATOR),
        ("d1", labelled("d1", replicas=3), None, "d1", Change.OPERATOR),
        ("d1", labelled("d1", force_update=1), None, "d1", Change.OPERATOR),
        ("d1", labelled("d1", memory_limit=1), None, "d1", Change.OPERATOR),
        ("d1", labelled("d1", memory_limit=None), None, "d1", Change.OPERATOR),
        # ours: the label of the action in flight and the very count it asked for
        ("", labelled("d2", replicas=3), FLIGHT, "", Change.OURS),
        ("d1", labelled("d2", replicas=3), FLIGHT, "d1", Change.OURS),
        ("d1", labelled("d2", replicas=4), FLIGHT, "d1", Change.OPERATOR),
        ("d1", labelled("d2"), FLIGHT, "d1", Change.OPERATOR),
        # a rollback brings an older label back
        ("d2", labelled("d1"), None, "d2", Change.OPERATOR),
        ("d2", labelled("d1", replicas=1), None, "d2", Change.OPERATOR),
        # a label that we know, and nothing else
        ("d1", labelled("d2"), None, "d2", Change.OURS),
        ("d1", labelled("d2", replicas=3), None, "d2", Change.OPERATOR),
        ("", labelled("made-up"), None, "", Change.OPERATOR),
    ],
)
def test_the_table(
    before: str, after: Service, flight: Flight | None, last: str, change: Change
) -> None:
    assert classify(after, known(labelled(before), flight=flight, last=last)) is change


def test_what_is_seen_for_the_first_time_counts_as_deployed_when_it_last_changed() -> None:
    for created_ms, updated_ms in ((NOW, NOW - 1), (NOW - 1, NOW)):
        state = observe(service(created_at_ms=created_ms, updated_at_ms=updated_ms), None)
        assert (state.deployed_ms, state.operated_ms) == (NOW, None)


@pytest.mark.parametrize(
    ("after", "deployed_ms", "operated_ms"),
    [
        (labelled("", content="content-2", updated_at_ms=NOW), NOW, None),
        (labelled("", replicas=5, updated_at_ms=NOW), LONG_AGO, NOW),
        (labelled("", index=11, updated_at_ms=NOW), LONG_AGO, None),
        (labelled("d2", replicas=3, updated_at_ms=NOW), LONG_AGO, None),
    ],
)
def test_a_change_is_dated_by_swarms_own_time(
    after: Service, deployed_ms: int, operated_ms: int | None
) -> None:
    state = observe(after, known(labelled(""), flight=FLIGHT))
    assert (state.deployed_ms, state.operated_ms) == (deployed_ms, operated_ms)


def test_a_new_name_is_remembered() -> None:
    renamed = dataclasses.replace(service(), name="new")
    assert observe(renamed, known(service())).name == "new"


def test_looking_again_at_the_same_is_the_same_state() -> None:
    state = observe(service(), None)
    assert observe(service(), state) is state


# through decide


def test_our_own_change_holds_nothing_and_the_operators_does() -> None:
    world = scene(scale_up())
    (decided,) = world.tick()
    world.apply(decided)
    (again,) = world.tick()
    assert (again.start, again.target) == (3, 4)
    world.report(again, OutcomeKind.REFUSED)
    world.alter(replicas=7)
    world.tick()
    assert world.held() == {"cpu-high": "operator"}


def test_a_stack_deploy_that_drops_our_label_and_resets_the_count_is_a_deploy() -> None:
    world = scene(scale_up())
    (decided,) = world.tick()
    before = world.services["web"].labels
    world.apply(decided)
    world.wait(MINUTE // 2)
    world.alter(replicas=2, labels=before)
    world.tick()
    assert world.state.services["web"].deployed_ms == world.services["web"].updated_at_ms


def test_a_rollback_to_an_older_label_of_ours_is_the_operators() -> None:
    world = scene(scale_up())
    (first,) = world.tick()
    world.apply(first)
    after_first = world.services["web"]
    (second,) = world.tick()
    world.apply(second)
    world.figures["web"] = None
    world.tick()
    world.figures["web"] = 90.0
    world.alter(replicas=after_first.replicas, labels=after_first.labels)
    world.tick()
    assert world.held() == {"cpu-high": "operator"}
