"""What the executor does with one decision when nothing, or one thing, goes wrong."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from autoheal import records
from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.executor import Pace
from autoheal.model import (
    LABEL_ALLOW,
    LABEL_DECISION,
    LABEL_DRY_RUN,
    LABEL_ENABLE,
    LABEL_MAX,
    LABEL_MIN,
    LABEL_WITHDRAWN,
    ActionKind,
    Decision,
    Intent,
    Mode,
    Outcome,
    OutcomeKind,
)
from autoheal.records import INTENTS, OUTCOMES
from autoheal.units import MIB
from executor.fakes import (
    CHANGES,
    SERVICE,
    STRANGER,
    VERSION,
    Fault,
    Loss,
    World,
    a_decision,
    a_decision_to,
    replicas,
    rich_spec,
    set_replicas,
)

DAY_S = 24 * 3600
LEAF_BY_HAND: dict[ActionKind, Callable[[dict[str, Any]], None]] = {
    ActionKind.SCALE_UP: set_replicas(3),
    ActionKind.SCALE_DOWN: set_replicas(1),
    ActionKind.RESTART: lambda spec: spec["TaskTemplate"].update(ForceUpdate=5),
    ActionKind.RAISE_MEMORY: lambda spec: spec["TaskTemplate"]["Resources"]["Limits"].update(
        MemoryBytes=164 * MIB
    ),
}


# applying


@pytest.mark.parametrize(("action", "change"), LEAF_BY_HAND.items())
def test_an_armed_decision_is_applied_with_one_leaf_and_one_label(
    world: World, action: ActionKind, change: Callable[[dict[str, Any]], None]
) -> None:
    decision = world.decide(a_decision_to(action))
    expected = rich_spec(labels={LABEL_DECISION: decision.id})
    change(expected)
    world.run(world.executor())
    assert world.spec == expected
    assert world.the_outcome_of(decision) == Outcome(
        decision=decision.id,
        service=SERVICE,
        kind=OutcomeKind.APPLIED,
        reason="the service reads back as posted",
        mode=Mode.LIVE,
        index=world.index,
    )
    assert [post[1] for post in world.swarm.posts] == [VERSION]


def test_the_first_restart_of_a_service_starts_from_the_zero_that_swarm_leaves_out(
    world: World,
) -> None:
    spec = rich_spec()
    del spec["TaskTemplate"]["ForceUpdate"]
    world.swarm.create(SERVICE, spec)
    decision = world.decide(a_decision(action=ActionKind.RESTART, start=0, target=1))
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert world.spec["TaskTemplate"] == {**spec["TaskTemplate"], "ForceUpdate": 1}


def test_a_spec_whose_labels_are_null_is_never_armed(world: World) -> None:
    world.swarm.create(SERVICE, {**rich_spec(), "Labels": None})
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.WOULD_APPLY


def test_the_intent_is_durable_in_both_places_before_docker_is_written_to(world: World) -> None:
    world.decide(a_decision())
    world.run(world.executor())
    passed = world.steps.passed
    post = passed.index("before POST")
    assert passed.index("after audit intent") < passed.index("before append intents") < post
    assert passed.index("after append intents") < post


def test_the_trail_holds_the_decision_the_intent_and_the_outcome(world: World) -> None:
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.audit.kinds() == ["decision", "intent", "outcome"]
    assert world.audit.lines[0][1]["id"] == decision.id
    assert world.audit.lines[2][1]["kind"] == "APPLIED"


def test_decisions_are_attempted_in_the_order_of_the_stream(world: World) -> None:
    world.swarm.create("other", rich_spec())
    first = world.decide(a_decision())
    second = world.decide(a_decision(service="other"))
    world.run(world.executor())
    assert [intent.decision for intent in world.store.intents()] == [first.id, second.id]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (ActionKind.SCALE_UP, "scale_up web 2->3"),
        (ActionKind.SCALE_DOWN, "scale_down web 2->1"),
        (ActionKind.RESTART, "restart web"),
        (ActionKind.RAISE_MEMORY, "raise_memory web 64MiB->164MiB"),
    ],
)
def test_outcomes_are_counted_by_kind_and_told_in_one_line(
    world: World, caplog: pytest.LogCaptureFixture, action: ActionKind, words: str
) -> None:
    caplog.set_level(logging.INFO)
    decision = world.decide(a_decision_to(action))
    executor = world.executor()
    world.run(executor)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        f"{decision.id}: {words} (rule cpu-high): APPLIED: the service reads back as posted"
    )
    (sample,) = [
        sample
        for metric in executor._outcomes.collect()
        for sample in metric.samples
        if sample.name == "autoheal_outcomes_total"
    ]
    assert (sample.labels, sample.value) == ({"outcome": "APPLIED"}, 1.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s["TaskTemplate"]["ContainerSpec"]["Env"].append("C=1"), "ContainerSpec.Env"),
        (lambda s: s["Mode"]["Replicated"].update(Replicas=9), "Mode.Replicated.Replicas"),
        (lambda s: s["EndpointSpec"].pop("Ports"), "EndpointSpec.Ports"),
        (lambda s: s["Labels"].pop(LABEL_DECISION), f"Labels.{LABEL_DECISION}"),
    ],
)
def test_a_spec_that_reads_back_different_is_applied_and_the_difference_is_an_error(
    world: World,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], None],
    named: str,
) -> None:
    decision = world.decide(a_decision())
    world.steps.once("after POST", lambda: change(world.spec))
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.APPLIED
    assert named in outcome.reason
    assert any(named in r.getMessage() for r in caplog.records if r.levelno == logging.ERROR)


def test_a_previous_spec_that_is_not_the_one_we_read_is_named(world: World) -> None:
    decision = world.decide(a_decision())

    def rewrite_history() -> None:
        world.swarm.services[SERVICE]["PreviousSpec"]["TaskTemplate"]["ForceUpdate"] = 3

    world.steps.once("after POST", rewrite_history)
    world.run(world.executor())
    reason = world.the_outcome_of(decision).reason
    assert reason == "accepted, but the service differs in PreviousSpec.TaskTemplate.ForceUpdate"


# going no further than WOULD_APPLY


@pytest.mark.parametrize(
    ("decision", "labels", "reason"),
    [
        (a_decision(), {LABEL_ENABLE: "false"}, "the service has no label autoheal.enable=true"),
        *(
            (
                a_decision_to(action),
                {LABEL_ALLOW: ",".join(other for other in CHANGES if other is not action)},
                f"the service's label autoheal.allow does not name {action}",
            )
            for action in CHANGES
        ),
        *(
            (
                a_decision_to(action),
                {LABEL_DRY_RUN: "true"},
                "the service has the label autoheal.dry-run=true",
            )
            for action in CHANGES
        ),
        (a_decision(max_mode=Mode.DRY_RUN), {}, "decided for dry run only"),
    ],
)
def test_what_is_not_armed_is_only_told(
    world: World, decision: Decision, labels: dict[str, str], reason: str
) -> None:
    world.swarm.create(SERVICE, rich_spec(labels=labels))
    world.decide(decision)
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.WOULD_APPLY
    assert outcome.reason == reason
    assert outcome.mode is Mode.DRY_RUN
    assert world.swarm.posts == []
    assert world.store.intents() == []


@pytest.mark.parametrize("missing", [LABEL_ENABLE, LABEL_ALLOW])
def test_a_service_without_either_label_is_not_armed(world: World, missing: str) -> None:
    spec = rich_spec()
    del spec["Labels"][missing]
    world.swarm.create(SERVICE, spec)
    decision = world.decide(a_decision())
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.WOULD_APPLY
    assert missing in outcome.reason


@pytest.mark.parametrize(
    ("start", "target", "label"),
    [(2, 3, {LABEL_MAX: "3"}), (2, 3, {LABEL_MIN: "3"}), (2, 1, {LABEL_MIN: "1"})],
)
def test_a_target_on_a_bound_of_the_labels_is_applied(
    world: World, start: int, target: int, label: dict[str, str]
) -> None:
    world.swarm.create(SERVICE, rich_spec(labels=label))
    action = ActionKind.SCALE_UP if target > start else ActionKind.SCALE_DOWN
    decision = world.decide(a_decision(action=action, start=start, target=target))
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


@pytest.mark.parametrize("action", [ActionKind.RESTART, ActionKind.RAISE_MEMORY])
def test_bounds_of_replicas_say_nothing_of_other_leaves(world: World, action: ActionKind) -> None:
    world.swarm.create(SERVICE, rich_spec(labels={LABEL_MIN: "1", LABEL_MAX: "2"}))
    decision = world.decide(a_decision_to(action))
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_dry_run_tells_and_posts_nothing(world: World) -> None:
    decision = world.decide(a_decision())
    world.run(world.executor(Mode.DRY_RUN))
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.WOULD_APPLY
    assert outcome.reason == "the executor runs in dry run"
    assert outcome.mode is Mode.DRY_RUN
    assert world.swarm.posts == []
    assert world.audit.kinds() == ["decision", "outcome"]


def test_the_dry_run_actuator_has_nothing_to_write_with(world: World) -> None:
    actuator = world.executor(Mode.DRY_RUN)._actuator
    with pytest.raises(RemoteRefused, match="dry run"):
        actuator.update_service(SERVICE, VERSION, rich_spec(9))
    assert world.swarm.posts == []


# once, and only by the one in office


def test_a_decision_delivered_twice_is_applied_once(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.decide(decision)
    world.run(executor)
    world.decide(decision)
    world.run(executor)
    assert len(world.acts) == 1
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_a_new_executor_leaves_concluded_decisions_alone(world: World) -> None:
    decision = world.decide(a_decision())
    world.run(world.executor())
    world.clock.advance(60)
    world.run(world.executor())
    assert len(world.swarm.posts) == 1
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_a_decision_older_than_memory_is_left_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.clock.advance(7 * DAY_S + 60)
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.outcomes_of(decision) == []
    assert "is older than what is remembered" in caplog.text


def test_an_id_is_forgotten_only_when_its_decision_cannot_come_back(world: World) -> None:
    decision = world.decide(a_decision(expires_at_ms=world.clock.ms + 4000))
    executor = world.executor(pace=Pace(history_ms=5000))
    for _ in range(30):
        world.run(executor, 1)
        world.decide(decision)
    assert len(world.outcomes_of(decision)) == 1
    assert executor._concluded == {}


def test_a_standby_does_nothing(world: World) -> None:
    first, second = world.executor(), world.executor()
    first.tick()
    world.clock.advance(0.001)
    decision = world.decide(a_decision())
    second.tick()
    assert not second.is_leader
    assert second.cursors == {}
    assert world.outcomes_of(decision) == []
    first.tick()
    assert first.is_leader
    assert set(first.cursors) == {"decisions", "intents", "outcomes"}
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_an_executor_that_stops_hands_over_at_once(world: World) -> None:
    first, second = world.executor(), world.executor()
    first.tick()
    first.stop()
    assert not first.is_leader
    world.decide(a_decision())
    second.tick()
    assert second.is_leader


def test_nothing_is_begun_in_the_millisecond_of_taking_office(world: World) -> None:
    decision = world.decide(a_decision())
    predecessor = world.executor()
    predecessor.tick()
    world.clock.advance(0.001)
    predecessor.tick()
    predecessor.stop()
    successor = world.executor()
    successor.tick()  # what was written in this very millisecond cannot be read yet
    world.clock.advance(0.001)
    successor.tick()
    assert len(world.store.intents()) == 1
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_nothing_is_begun_when_the_lease_is_about_to_end(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    executor.tick()
    world.clock.advance(0.001)
    world.steps.once("after cut", lambda: world.clock.advance(6))
    executor.tick()
    assert world.store.intents() == []
    executor.tick()
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_a_lease_that_ends_during_the_intent_leaves_the_write_to_the_next_tick(
    world: World,
) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.steps.once("after append intents", lambda: world.clock.advance(6))
    world.clock.advance(0.001)
    executor.tick()
    world.clock.advance(0.001)
    executor.tick()
    assert len(world.store.intents()) == 1
    assert world.swarm.posts == []
    executor.tick()
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_an_outcome_learnt_after_the_lease_ended_is_not_reported_by_the_old_holder(
    world: World,
) -> None:
    decision = world.decide(a_decision())
    old, new = world.executor(), world.executor()

    def taken_over() -> None:
        world.clock.advance(20)
        world.run(new, 5)

    world.clock.advance(0.001)
    world.steps.once("after POST", taken_over)
    world.run(old, 60)
    assert world.the_outcome_of(decision).reason.startswith("settled: the service carries")
    assert len(world.store.intents()) == 1


def test_a_lease_too_short_for_docker_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="too short"):
        World().executor(pace=Pace(lease_ttl_s=10, docker_timeout_s=5))


def test_escalations_are_none_of_its_business(world: World) -> None:
    decision = world.decide(a_decision(action=ActionKind.ESCALATE, start=0, target=1))
    world.run(world.executor())
    assert world.outcomes_of(decision) == []


@pytest.mark.parametrize(
    ("stream", "fields"),
    [
        (records.DECISIONS, {"body": b"{", "id": b"x", "hmac": b""}),
        (records.DECISIONS, {}),
        (INTENTS, {"body": b"[]"}),
        (OUTCOMES, {"body": b'{"kind":"MAYBE"}'}),
    ],
)
def test_bytes_that_nobody_of_ours_wrote_are_left_out(
    world: World, caplog: pytest.LogCaptureFixture, stream: str, fields: dict[str, bytes]
) -> None:
    world.write(stream, fields, STRANGER)
    decision = world.decide(a_decision())
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert sum("is left out" in record.getMessage() for record in caplog.records) == 1


# trouble with Docker


def test_a_service_that_cannot_be_read_leaves_the_decision_open_until_it_expires(
    world: World,
) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.swarm.reads = [RemoteUnreachable("timed out")] * 1000
    world.run(executor, 55)
    assert world.outcomes_of(decision) == []
    world.run(executor, 10)
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.reason.startswith("expired ")
    assert world.audit.kinds() == ["decision", "outcome"]


@pytest.mark.parametrize(
    "trouble",
    [
        RemoteUnreachable("timed out"),
        RemoteRefused(403, "denied by the proxy"),
        RemoteRefused(500, "no leader"),
        {"message": "not a service"},
        {"Version": {"Index": "x"}, "Spec": {}},
    ],
)
def test_an_open_decision_is_tried_again_at_the_next_tick(
    world: World, trouble: Exception | dict[str, Any]
) -> None:
    decision = world.decide(a_decision())
    world.swarm.reads = [trouble, trouble]
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_a_write_that_docker_declines_is_not_applied(world: World) -> None:
    decision = world.decide(a_decision())
    world.swarm.faults = [Fault.DECLINED]
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.reason == "400: invalid: the spec is not one"
    assert not outcome.stale
    assert len(world.swarm.posts) == 1


def test_a_service_that_moves_between_reading_and_writing_makes_the_write_stale(
    world: World,
) -> None:
    decision = world.decide(a_decision())
    world.clock.advance(0.001)
    world.steps.once(
        "after append intents",
        lambda: world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update(x="y")),
    )
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.stale
    assert replicas(world.spec) == 2


@pytest.mark.parametrize("shown", ["nothing", "an old state"])
def test_a_stale_write_is_unconfirmed_while_the_service_cannot_be_seen(
    world: World, shown: str
) -> None:
    decision = world.decide(a_decision())
    old = copy.deepcopy(world.swarm.services[SERVICE])

    def overtake() -> None:
        world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update(x="y"))
        world.swarm.reads = [RemoteUnreachable("cut off") if shown == "nothing" else old]

    world.steps.once("before POST", overtake)
    world.run(world.executor())
    first, second = world.outcomes_of(decision)
    assert first.kind is OutcomeKind.UNCONFIRMED
    assert "update out of sequence" in first.reason
    assert (second.kind, second.stale) == (OutcomeKind.NOT_APPLIED, True)


def test_a_write_that_ends_in_an_error_of_our_own_is_in_doubt(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()

    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    world.steps.once("after POST", fail)
    executor.tick()
    world.clock.advance(0.001)
    with pytest.raises(RuntimeError):
        executor.tick()
    world.run(executor)
    assert world.the_outcome_of(decision).reason.startswith("settled: the service carries")


def test_a_write_that_a_proxy_sent_twice_is_applied_and_known_to_be(world: World) -> None:
    decision = world.decide(a_decision())
    world.swarm.faults = [Fault.REPEATED]
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert len(world.acts) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.LOST_REQUEST,
        Fault.LOST_REPLY,
        Fault.NO_LEADER_LOST,
        Fault.NO_LEADER_APPLIED,
        Fault.NO_LEADER_LATER,
    ],
)
def test_an_error_is_unconfirmed_and_then_settled(world: World, fault: Fault) -> None:
    decision = world.decide(a_decision())
    world.swarm.faults = [fault]
    world.run(world.executor())
    world.swarm.thaw()
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]
    assert len(world.acts) == 1
    assert len(world.store.intents()) == 1


def test_an_accepted_write_that_cannot_be_read_back_is_unconfirmed(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.clock.advance(0.001)
    world.steps.once("after POST", lambda: world.swarm.reads.append(RemoteUnreachable("cut")))
    world.run(executor)
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]


def test_an_accepted_write_whose_service_is_gone_was_applied(world: World) -> None:
    decision = world.decide(a_decision())
    world.steps.once("after POST", world.swarm.services.clear)
    world.run(world.executor())
    assert world.the_outcome_of(decision).reason == "accepted; the service was then removed"


def test_an_accepted_write_that_a_lagging_manager_does_not_show_is_unconfirmed(
    world: World,
) -> None:
    decision = world.decide(a_decision())
    old = copy.deepcopy(world.swarm.services[SERVICE])
    world.steps.once("after POST", lambda: world.swarm.reads.append(old))
    world.run(world.executor())
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]


def test_while_a_write_is_in_doubt_no_other_is_begun(world: World) -> None:
    world.swarm.create("other", rich_spec())
    doubtful = world.decide(a_decision())
    waiting = world.decide(a_decision(service="other"))
    unarmed = world.decide(a_decision(service="other", max_mode=Mode.DRY_RUN))
    executor = world.executor()
    world.swarm.faults = [Fault.NO_LEADER_LOST] * 5
    world.run(executor, 8)
    assert world.final_outcomes_of(doubtful) == []
    assert world.outcomes_of(waiting) == []
    assert world.the_outcome_of(unarmed).kind is OutcomeKind.WOULD_APPLY
    assert [intent.decision for intent in world.store.intents()] == [doubtful.id]
    world.run(executor, 10)
    assert world.the_outcome_of(doubtful).kind is OutcomeKind.APPLIED
    assert world.the_outcome_of(waiting).kind is OutcomeKind.APPLIED


def test_nothing_is_settled_when_the_lease_is_about_to_end(world: World) -> None:
    executor = world.executor()
    executor.tick()
    decision = an_inherited(world)
    world.steps.once("after cut", lambda: world.clock.advance(6))
    executor.tick()
    assert world.swarm.posts == []
    assert world.outcomes_of(decision) == []
    world.run(executor)
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


def test_settling_keeps_its_pace(world: World) -> None:
    world.decide(a_decision())
    executor = world.executor()
    world.swarm.faults = [Fault.NO_LEADER_LOST] * 100
    times: list[float] = []
    for _ in range(100):
        executor.tick()
        times += [world.clock.monotonic()] * (len(world.swarm.posts) - len(times))
        world.clock.advance(0.1)
    assert len(times) == 5
    assert min(later - earlier for earlier, later in pairwise(times)) >= 2


# settling what somebody else began


def an_inherited(world: World, **changes: Any) -> Decision:  # noqa: ANN401  # as a_decision
    """A decision whose executor died after its intent."""
    decision = world.decide(a_decision(**changes))
    intent = Intent(decision.id, decision.service, decision.version, "the dead one")
    world.write(INTENTS, records.pack_intent(intent))
    return decision


def test_an_inherited_write_that_never_left_is_sent_again(world: World) -> None:
    decision = an_inherited(world)
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert len(world.store.intents()) == 1


def test_an_inherited_write_to_a_service_that_cannot_be_read_is_unconfirmed(
    world: World,
) -> None:
    decision = an_inherited(world)
    world.swarm.reads = [RemoteUnreachable("timed out")] * 2
    world.run(world.executor())
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]


def test_an_inherited_write_is_applied_if_the_service_carries_our_label(world: World) -> None:
    decision = an_inherited(world)
    world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update({LABEL_DECISION: decision.id}))
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.APPLIED
    assert outcome.reason == "settled: the service carries the label of this decision"
    assert outcome.index == world.index
    assert world.swarm.posts == []


def test_a_deploy_that_dropped_our_label_is_seen_through_the_previous_spec(world: World) -> None:
    decision = an_inherited(world)
    world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update({LABEL_DECISION: decision.id}))
    world.swarm.edit(SERVICE, lambda spec: spec["Labels"].pop(LABEL_DECISION))
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.APPLIED
    assert "previous spec" in outcome.reason


def test_an_inherited_write_is_dead_if_the_version_moved_without_our_label(world: World) -> None:
    decision = an_inherited(world)
    world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update(x="y"))
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.reason == f"the write is dead: the version moved to {world.index}"
    assert outcome.stale
    assert outcome.mode is Mode.LIVE


def test_an_inherited_write_to_a_service_that_is_gone_is_dead(world: World) -> None:
    decision = an_inherited(world)
    world.swarm.services.clear()
    world.run(world.executor())
    outcome = world.the_outcome_of(decision)
    assert (outcome.kind, outcome.stale) == (OutcomeKind.NOT_APPLIED, True)


def test_a_version_older_than_the_decision_proves_nothing(world: World) -> None:
    decision = an_inherited(world)
    behind = copy.deepcopy(world.swarm.services[SERVICE])
    behind["Version"]["Index"] = VERSION - 5
    world.swarm.reads = [behind]
    executor = world.executor()
    world.run(executor, 2)
    assert [outcome.kind for outcome in world.outcomes_of(decision)] == [OutcomeKind.UNCONFIRMED]
    assert world.swarm.posts == []
    world.run(executor)
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED


@pytest.mark.parametrize("late", ["expired", "of another epoch"])
def test_an_old_write_in_doubt_is_withdrawn_and_never_carried_out_late(
    world: World, late: str
) -> None:
    decision = an_inherited(world)
    frozen = copy.deepcopy(world.spec)
    frozen["Mode"]["Replicated"]["Replicas"] = 3
    world.swarm.frozen.append((SERVICE, VERSION, frozen))
    if late == "expired":
        world.clock.advance(3600)
    else:
        world.store.epochs["engine"] = 2
    world.run(world.executor())
    world.swarm.thaw()
    outcome = world.the_outcome_of(decision)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.reason.startswith("withdrawn by a label: ")
    assert world.spec == rich_spec(2, {LABEL_WITHDRAWN: decision.id})


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (rich_spec(0), "replicas 0 means off: hands off"),
        (
            rich_spec(labels={LABEL_MAX: "two"}),
            'its labels are in doubt: autoheal.max "two" is not a whole number from 1 to 10000',
        ),
    ],
)
def test_an_inherited_write_that_would_be_refused_is_withdrawn_and_not_sent_again(
    world: World, spec: dict[str, Any], reason: str
) -> None:
    world.swarm.create(SERVICE, spec)
    decision = an_inherited(world)
    world.run(world.executor())
    assert world.acts == []
    assert world.the_outcome_of(decision).reason == f"withdrawn by a label: {reason}"


def test_a_withdrawal_whose_reply_is_lost_is_settled_like_any_write(world: World) -> None:
    decision = an_inherited(world)
    world.clock.advance(3600)
    world.swarm.faults = [Fault.NO_LEADER_LOST, Fault.LOST_REPLY]
    world.run(world.executor())
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.NOT_APPLIED]
    assert world.acts == []


def test_dry_run_settles_by_looking_alone(world: World) -> None:
    decision = an_inherited(world)
    executor = world.executor(Mode.DRY_RUN)
    world.run(executor, 100)
    (outcome,) = world.outcomes_of(decision)
    assert outcome.kind is OutcomeKind.UNCONFIRMED
    assert outcome.reason.endswith("nothing is sent: the executor runs in dry run")
    assert world.swarm.posts == []
    world.swarm.edit(SERVICE, lambda spec: spec["Labels"].update({LABEL_DECISION: decision.id}))
    world.run(executor)
    outcome = world.the_outcome_of(decision)
    assert (outcome.kind, outcome.mode) == (OutcomeKind.APPLIED, Mode.LIVE)


def test_an_unconfirmed_outcome_of_an_earlier_life_is_not_written_again(world: World) -> None:
    decision = world.decide(a_decision())
    world.swarm.faults = [Fault.NO_LEADER_LOST] * 4
    world.run(world.executor(), 2)
    world.clock.advance(20)
    world.run(world.executor())
    kinds = [outcome.kind for outcome in world.outcomes_of(decision)]
    assert kinds == [OutcomeKind.UNCONFIRMED, OutcomeKind.APPLIED]


def test_a_forged_decision_is_not_settled_into_being_by_an_intent(world: World) -> None:
    decision = a_decision()
    world.write(records.DECISIONS, records.pack_decision(decision, b"another key"))
    intent = Intent(decision.id, decision.service, decision.version, "the forger")
    world.write(INTENTS, records.pack_intent(intent))
    world.run(world.executor())
    assert world.the_outcome_of(decision).reason == "the signature does not hold"
    assert world.swarm.posts == []


def test_a_forgery_under_a_genuine_id_does_not_stop_the_genuine_decision(world: World) -> None:
    decision = a_decision()
    forged = records.pack_decision(a_decision(target=99), b"another key")
    world.write(records.DECISIONS, {**forged, "id": decision.id.encode()})
    world.decide(decision)
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert replicas(world.spec) == 3


# trouble with the store and the disk


@pytest.mark.parametrize("loss", list(Loss))
def test_an_intent_that_could_not_be_written_keeps_docker_untouched_until_it_is(
    world: World, loss: Loss
) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.store.losses = [loss, loss]
    world.clock.advance(0.001)
    executor.tick()
    world.clock.advance(0.001)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            executor.tick()
        assert world.swarm.posts == []
        world.clock.advance(1)
    world.run(executor)
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert len(world.store.intents()) == 1


@pytest.mark.parametrize("loss", list(Loss))
def test_an_intent_written_too_late_ends_in_a_refusal(world: World, loss: Loss) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.store.losses = [loss] * 12
    for _ in range(8):
        world.run(executor, 1)
        world.clock.advance(9)
    world.store.losses.clear()
    world.run(executor)
    outcome = world.the_outcome_of(decision)
    assert outcome.kind in {OutcomeKind.REFUSED, OutcomeKind.NOT_APPLIED}
    assert "expired" in outcome.reason
    assert world.acts == []


@pytest.mark.parametrize("loss", list(Loss))
def test_an_outcome_that_could_not_be_written_is_written_once_later(
    world: World, loss: Loss
) -> None:
    decision = world.decide(a_decision())
    world.store.losses = [None, loss, loss, loss]
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert len(world.swarm.posts) == 1


@pytest.mark.parametrize("loss", list(Loss))
def test_a_store_that_was_away_for_long_finds_us_in_office_again(world: World, loss: Loss) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    executor.tick()
    world.clock.advance(0.001)
    world.store.losses = [None, loss]
    with pytest.raises(ConnectionError):
        executor.tick()
    world.store.away = True
    world.run(executor, 30)
    world.store.away = False
    world.run(executor)
    assert world.the_outcome_of(decision).reason == "the service reads back as posted"


def test_what_a_successor_has_settled_is_not_reported_by_the_one_before(world: World) -> None:
    decision = world.decide(a_decision())
    old, new = world.executor(), world.executor()
    old.tick()
    world.clock.advance(0.001)
    world.store.losses = [None, Loss.REQUEST]
    with pytest.raises(ConnectionError):
        old.tick()
    world.clock.advance(20)
    world.run(new)
    new.stop()
    world.run(old)
    assert world.the_outcome_of(decision).reason.startswith("settled: ")


def test_what_nobody_settled_in_between_is_settled_by_the_one_before(world: World) -> None:
    decision = world.decide(a_decision())
    old, new = world.executor(), world.executor()
    old.tick()
    world.clock.advance(0.001)
    world.store.losses = [None, Loss.REQUEST]
    with pytest.raises(ConnectionError):
        old.tick()
    world.clock.advance(20)
    new.tick()
    new.stop()
    world.run(old)
    assert world.the_outcome_of(decision).reason.startswith("settled: ")


def test_our_own_intent_found_after_the_lease_was_lost_is_not_written_again(world: World) -> None:
    decision = world.decide(a_decision())
    world.steps.once("after append intents", lambda: world.clock.advance(20))
    world.run(world.executor())
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert len(world.store.intents()) == 1


def test_a_full_disk_keeps_docker_untouched(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()
    world.audit.full = True
    world.run(executor)
    assert world.swarm.posts == []
    assert world.store.intents() == []
    world.audit.full = False
    world.run(executor)
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    assert world.audit.kinds() == ["decision", "intent", "outcome"]


def test_a_disk_that_fills_up_after_the_write_does_not_hide_the_outcome(world: World) -> None:
    decision = world.decide(a_decision())
    executor = world.executor()

    def fill() -> None:
        world.audit.full = True

    world.steps.once("after POST", fill)
    world.run(executor)
    assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
    world.audit.full = False
    world.run(executor)
    assert world.audit.kinds() == ["decision", "intent", "outcome"]
    assert len(world.outcomes_of(decision)) == 1
