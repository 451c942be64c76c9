"""Who is told what, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest

from autoheal import records
from autoheal.errors import RemoteRefused, RemoteUnreachable
from autoheal.model import Mode, Outcome, OutcomeKind
from autoheal.notifier import Destination, NotifierLoop
from executor.fakes import Crash, Loss, World, a_decision
from notifier.scenes import FakeNotifier, a_notifier, an_escalation, ends, fires, run

DOWN = RemoteUnreachable("http://hook: ConnectTimeout")


def once(notifier: FakeNotifier) -> Destination:
    return Destination(notifier)


def again(notifier: FakeNotifier, resend_s: float = 60.0) -> Destination:
    return Destination(notifier, resend_s)


def notified(loop: NotifierLoop) -> dict[tuple[str, str], float]:
    """The metric, by notifier and result."""
    return {
        (sample.labels["notifier"], sample.labels["result"]): sample.value
        for metric in loop._telemetry.notifications.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


# each transition once


def test_a_webhook_is_told_of_each_transition_once(world: World) -> None:
    hook = FakeNotifier(world)
    loop = a_notifier(world, once(hook))
    began = fires(world)
    run(world, loop, 100)
    over = ends(world)
    run(world, loop, 100)
    assert hook.rows == [
        (began.id, began.decided_at_ms, None),
        (began.id, began.decided_at_ms, over.decided_at_ms),
    ]
    for decision in (began, over):
        outcome = world.the_outcome_of(decision)
        assert (outcome.kind, outcome.reason) == (OutcomeKind.APPLIED, "told: fake")
        assert outcome.mode is Mode.LIVE
    assert notified(loop) == {("fake", "delivered"): 2.0}


def test_transitions_arrive_in_order_after_a_failure(world: World) -> None:
    hook = FakeNotifier(world, error=DOWN)
    loop = a_notifier(world, once(hook))
    began = fires(world)
    run(world, loop)
    over = ends(world)
    run(world, loop)
    other = fires(world, rule="other")
    hook.error = None
    run(world, loop, 10)
    assert [(row[0], row[2]) for row in hook.rows] == [
        (began.id, None),
        (began.id, over.decided_at_ms),
        (other.id, None),
    ]


def test_an_escalation_that_is_repeated_keeps_its_beginning(world: World) -> None:
    hook = FakeNotifier(world)
    loop = a_notifier(world, once(hook))
    first = fires(world)
    run(world, loop)
    second = fires(world, reason="6 tasks failed in 10m")
    run(world, loop)
    assert hook.rows[1] == (second.id, first.decided_at_ms, None)


def test_an_end_whose_beginning_is_no_longer_kept_is_told_by_itself(world: World) -> None:
    hook = FakeNotifier(world)
    over = ends(world)
    run(world, a_notifier(world, once(hook)))
    assert hook.rows == [(over.id, over.decided_at_ms, over.decided_at_ms)]


def test_alerts_are_told_apart_by_rule_and_service(world: World) -> None:
    hook = FakeNotifier(world)
    loop = a_notifier(world, once(hook))
    one = fires(world)
    two = fires(world, rule="stuck")
    three = fires(world, service="other")
    over = ends(world, rule="stuck")
    run(world, loop)
    assert [(row[0], row[2]) for row in hook.rows] == [
        (one.id, None),
        (two.id, None),
        (three.id, None),
        (two.id, over.decided_at_ms),
    ]


@pytest.mark.parametrize(
    "other",
    [{"service": "node:n1"}, {"severity": "warning"}, {"max_mode": Mode.DRY_RUN}],
    ids=lambda changed: next(iter(changed)),
)
@pytest.mark.parametrize("told", [once, again])
def test_the_end_of_one_alert_is_not_that_of_another_which_looks_different_to_people(
    world: World, told: Callable[[FakeNotifier], Destination], other: dict[str, Any]
) -> None:
    fake = FakeNotifier(world)
    one = fires(world)
    two = fires(world, **other)
    over = ends(world)
    run(world, a_notifier(world, told(fake)))
    shown = {(decision, ended) for decision, _, ended in fake.rows}
    assert (two.id, None) in shown
    assert (one.id, over.decided_at_ms) in shown
    assert (two.id, over.decided_at_ms) not in shown
    assert {world.the_outcome_of(each).kind for each in (one, over, two)} == {OutcomeKind.APPLIED}


def test_an_alert_on_what_several_services_share_begins_and_ends_like_any_other(
    world: World,
) -> None:
    hook = FakeNotifier(world)
    named = {"service": "swarm", "service_name": "the swarm", "rule": "outage"}
    began = fires(world, **named)
    over = ends(world, **named)
    run(world, a_notifier(world, once(hook)))
    assert [(row[0], row[2]) for row in hook.rows] == [
        (began.id, None),
        (began.id, over.decided_at_ms),
    ]
    assert world.the_outcome_of(over).service == "swarm"


# the present state, again and again


def test_alertmanager_is_told_at_every_interval_while_an_alert_fires(world: World) -> None:
    manager = FakeNotifier(world)
    loop = a_notifier(world, again(manager))
    began = fires(world)
    run(world, loop, 185)
    assert [round(told.at_s) for told in manager.told] == [1, 61, 121, 181]
    assert set(manager.rows) == {(began.id, began.decided_at_ms, None)}
    assert world.the_outcome_of(began).kind is OutcomeKind.APPLIED


def test_alertmanager_is_told_of_the_end_at_once_and_no_more(world: World) -> None:
    manager = FakeNotifier(world)
    loop = a_notifier(world, again(manager))
    began = fires(world)
    run(world, loop, 10)
    over = ends(world)
    run(world, loop, 300)
    assert manager.rows == [
        (began.id, began.decided_at_ms, None),
        (began.id, began.decided_at_ms, over.decided_at_ms),
    ]
    assert world.the_outcome_of(over).kind is OutcomeKind.APPLIED


def test_alertmanager_gets_all_that_is_due_in_one_request(world: World) -> None:
    manager = FakeNotifier(world)
    loop = a_notifier(world, again(manager))
    for number in range(250):
        fires(world, rule=f"rule-{number}")
    run(world, loop, 2)
    assert [len(told.alerts) for told in manager.told] == [100, 100, 50]


def test_an_end_that_cannot_be_told_is_given_up_when_the_alert_ended_by_itself(
    world: World,
) -> None:
    manager = FakeNotifier(world)
    loop = a_notifier(world, again(manager))
    fires(world)
    run(world, loop)
    manager.error = DOWN
    over = ends(world)
    run(world, loop, 230)
    assert world.outcomes_of(over) == []
    run(world, loop, 20)
    outcome = world.the_outcome_of(over)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.reason == "fake: given up: http://hook: ConnectTimeout"
    calls = manager.calls
    run(world, loop, 100)
    assert manager.calls == calls


def test_a_beginning_that_could_not_be_told_is_settled_by_its_end(world: World) -> None:
    manager = FakeNotifier(world, error=DOWN)
    loop = a_notifier(world, again(manager))
    began = fires(world)
    run(world, loop)
    over = ends(world)
    manager.error = None
    run(world, loop, 10)
    assert manager.rows == [(began.id, began.decided_at_ms, over.decided_at_ms)]
    assert world.the_outcome_of(began).kind is OutcomeKind.APPLIED
    assert world.the_outcome_of(over).kind is OutcomeKind.APPLIED


def test_an_interval_of_nothing_is_a_mistake(world: World) -> None:
    with pytest.raises(ValueError, match="positive"):
        a_notifier(world, again(FakeNotifier(world), 0.0))


# failures


def test_a_destination_that_fails_is_left_alone_for_longer_and_longer(world: World) -> None:
    hook = FakeNotifier(world, error=RemoteRefused(503, "later"))
    loop = a_notifier(world, once(hook))
    fires(world)
    world.clock.advance(0.001)
    loop.tick()
    world.clock.advance(0.001)
    times = []
    for _ in range(3000):
        before = hook.calls
        loop.tick()
        times += [world.clock.monotonic()] * (hook.calls - before)
        world.clock.advance(0.1)
    pauses = [round(b - a) for a, b in pairwise(times)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_after_a_success_the_pauses_are_short_again(world: World) -> None:
    hook = FakeNotifier(world, error=DOWN)
    loop = a_notifier(world, once(hook))
    fires(world)
    run(world, loop, 40)
    hook.error = None
    run(world, loop, 40)
    hook.error = DOWN
    fires(world, rule="other")
    run(world, loop, 1)
    calls = hook.calls
    run(world, loop, 3)
    assert hook.calls == calls + 2  # after 1 s, and 2 s later


def test_a_destination_that_fails_does_not_hold_up_the_others(world: World) -> None:
    down, up = FakeNotifier(world, "down", error=DOWN), FakeNotifier(world, "up")
    loop = a_notifier(world, once(down), once(up), again(FakeNotifier(world, "manager")))
    began = fires(world)
    run(world, loop)
    assert len(up.rows) == 1
    assert world.outcomes_of(began) == []
    down.error = None
    run(world, loop)
    assert world.the_outcome_of(began).reason == "told: down, up, manager"
    assert len(up.rows) == 1


def test_a_slow_destination_with_much_to_be_told_leaves_the_others_their_turn(
    world: World,
) -> None:
    slow, quick = FakeNotifier(world, "slow", takes_s=4.0), FakeNotifier(world, "quick")
    loop = a_notifier(world, once(slow), once(quick))
    for number in range(20):
        fires(world, rule=f"rule-{number}")
    run(world, loop, 2)
    assert len(quick.rows) >= 3


def test_what_a_webhook_could_not_be_told_for_an_hour_is_given_up(world: World) -> None:
    hook = FakeNotifier(world, error=DOWN)
    loop = a_notifier(world, once(hook))
    began = fires(world)
    run(world, loop, 3590)
    assert world.outcomes_of(began) == []
    run(world, loop, 20)
    outcome = world.the_outcome_of(began)
    assert outcome.kind is OutcomeKind.NOT_APPLIED
    assert outcome.reason == "fake: given up: http://hook: ConnectTimeout"
    assert notified(loop)["fake", "dropped"] == 1.0


def test_after_a_long_absence_only_what_still_fires_is_told(world: World) -> None:
    past = fires(world, rule="past")
    ends(world, rule="past")
    still = fires(world, rule="still")
    world.clock.advance(7200)
    hook, manager = FakeNotifier(world), FakeNotifier(world)
    run(world, a_notifier(world, once(hook), again(manager)))
    assert [row[0] for row in hook.rows] == [still.id]
    assert [row[0] for row in manager.rows] == [still.id]
    assert "found too late" in world.the_outcome_of(past).reason


# nobody to tell, and modes


def test_without_destinations_an_escalation_would_be_told(world: World) -> None:
    began = fires(world)
    run(world, a_notifier(world))
    outcome = world.the_outcome_of(began)
    assert outcome.kind is OutcomeKind.WOULD_APPLY
    assert outcome.reason == "no Alertmanager or webhook is configured"


@pytest.mark.parametrize("process", list(Mode))
@pytest.mark.parametrize("decided", list(Mode))
def test_the_outcome_carries_the_lower_mode(world: World, process: Mode, decided: Mode) -> None:
    began = fires(world, max_mode=decided)
    run(world, a_notifier(world, once(FakeNotifier(world)), mode=process))
    both = process is Mode.LIVE and decided is Mode.LIVE
    assert world.the_outcome_of(began).mode is (Mode.LIVE if both else Mode.DRY_RUN)


# what is not taken up


def test_a_forged_escalation_is_dropped_with_a_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    forged = world.decide(an_escalation(world), b"another key")
    hook = FakeNotifier(world)
    run(world, a_notifier(world, once(hook)))
    assert hook.rows == []
    assert world.outcomes_of(forged) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"escalation {forged.id} is left out: its signature does not hold"
    ]


def test_scalings_are_none_of_its_business(world: World) -> None:
    decision = world.decide(a_decision())
    hook = FakeNotifier(world)
    run(world, a_notifier(world, once(hook)))
    assert hook.rows == []
    assert world.outcomes_of(decision) == []


def test_an_escalation_delivered_twice_is_told_once(world: World) -> None:
    hook = FakeNotifier(world)
    loop = a_notifier(world, once(hook))
    began = fires(world)
    world.decide(began)
    run(world, loop)
    world.decide(began)
    run(world, loop)
    assert len(hook.rows) == 1
    assert len(world.outcomes_of(began)) == 1


@pytest.mark.parametrize("stream", [records.DECISIONS, records.OUTCOMES])
def test_bytes_that_nobody_of_ours_wrote_are_left_out(
    world: World, caplog: pytest.LogCaptureFixture, stream: str
) -> None:
    world.write(stream, {"body": b"{"}, "writes nonsense")
    began = fires(world)
    run(world, a_notifier(world, once(FakeNotifier(world))))
    assert world.the_outcome_of(began).kind is OutcomeKind.APPLIED
    assert sum("is left out" in record.getMessage() for record in caplog.records) == 1


# one in office, and its successor


def test_a_standby_tells_nobody(world: World) -> None:
    hook = FakeNotifier(world)
    first, second = a_notifier(world, once(hook)), a_notifier(world, once(hook))
    first.tick()
    world.clock.advance(0.001)
    fires(world)
    second.tick()
    assert (second.is_leader, second.cursors) == (False, {})
    assert hook.rows == []
    first.tick()
    assert first.is_leader
    assert set(first.cursors) == {"decisions", "outcomes"}
    assert len(hook.rows) == 1


def test_a_successor_knows_what_was_told_and_goes_on_telling_alertmanager(world: World) -> None:
    hook, manager = FakeNotifier(world), FakeNotifier(world)
    destinations = once(hook), again(manager)
    first = a_notifier(world, *destinations)
    fires(world, rule="over")
    ends(world, rule="over")
    still = fires(world)
    run(world, first)
    first.stop()
    told, shown = len(hook.rows), len(manager.rows)
    run(world, a_notifier(world, *destinations), 10)
    assert len(hook.rows) == told
    assert manager.rows[shown:] == [(still.id, still.decided_at_ms, None)]


def test_a_successor_ends_what_its_predecessor_began(world: World) -> None:
    hook = FakeNotifier(world)
    first = a_notifier(world, once(hook))
    began = fires(world)
    run(world, first)
    first.stop()
    over = ends(world)
    run(world, a_notifier(world, once(hook)))
    assert hook.rows[-1] == (began.id, began.decided_at_ms, over.decided_at_ms)


@pytest.mark.parametrize("loss", list(Loss))
def test_an_outcome_that_could_not_be_written_is_written_once_later(
    world: World, loss: Loss
) -> None:
    hook = FakeNotifier(world)
    loop = a_notifier(world, once(hook))
    began = fires(world)
    world.store.losses = [loss, loss]
    run(world, loop, 10)
    assert len(hook.rows) == 1
    assert len(world.outcomes_of(began)) == 1


def test_one_that_loses_office_while_telling_does_not_report(world: World) -> None:
    hook = FakeNotifier(world, takes_s=20.0)
    first, second = a_notifier(world, once(hook)), a_notifier(world, once(hook))
    began = fires(world)
    first.tick()
    world.clock.advance(0.001)

    def taken_over() -> None:
        hook.takes_s = 0.0
        run(world, second)

    world.steps.once("after send", taken_over)
    run(world, first)
    assert len(world.outcomes_of(began)) == 1


def test_one_that_loses_office_while_telling_tells_nobody_else(world: World) -> None:
    slow, other = FakeNotifier(world, "slow", takes_s=20.0), FakeNotifier(world, "other")
    loop = a_notifier(world, once(slow), once(other))
    fires(world)
    world.clock.advance(0.001)
    loop.tick()
    world.clock.advance(0.001)
    loop.tick()
    assert slow.calls == 1
    assert other.calls == 0


def test_a_beginning_left_open_by_a_predecessor_is_settled_though_its_end_is_known(
    world: World,
) -> None:
    began = fires(world)
    over = ends(world)
    outcome = Outcome(over.id, over.service, OutcomeKind.APPLIED, "told: fake", Mode.LIVE)
    world.write(records.OUTCOMES, records.pack_outcome(outcome))
    run(world, a_notifier(world, again(FakeNotifier(world))))
    assert world.the_outcome_of(began).kind is OutcomeKind.APPLIED


def test_death_at_every_step_tells_at_least_once_and_reports_once() -> None:
    for number in count():
        world = World()
        hook, manager = FakeNotifier(world, "hook"), FakeNotifier(world, "manager")
        destinations = once(hook), again(manager)
        decisions = fires(world), fires(world, rule="other"), ends(world, rule="other")
        world.steps.at(number)
        first = a_notifier(world, *destinations)
        try:
            run(world, first, 4)
        except Crash:
            world.clock.advance(16)
            run(world, a_notifier(world, *destinations))
        else:
            assert number > 20
            return
        told = Counter((row[0], row[2] is None) for row in hook.rows)
        assert set(told) == {
            (decisions[0].id, True),
            (decisions[1].id, True),
            (decisions[1].id, False),
        }
        assert max(told.values()) <= 2
        for decision in decisions:
            assert world.the_outcome_of(decision).kind is OutcomeKind.APPLIED
