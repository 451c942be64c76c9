"""The engine on a real store: who leads, what is committed, and what makes it hold still."""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import time
from collections.abc import Mapping, Sequence

import pytest

import builders
from autoheal import records, replay, status
from autoheal.core.decision import changes
from autoheal.core.limits import Limits
from autoheal.core.state import (
    OVERALL_FIELD,
    Flight,
    Lane,
    LaneState,
    ServiceState,
    State,
    pack_overall,
    pack_service,
    unpack,
)
from autoheal.engine import LEASE, kept_limits, reach_ms
from autoheal.errors import AutohealError, UserError
from autoheal.model import ActionKind, Mode, Outcome, OutcomeKind
from autoheal.ports import Lease, Write
from engine.scenes import KEY, PAGE, WINDOW_S, Scene, tick_until
from store.servers import raw

WINDOW_OF_RULE = 2 * builders.MINUTE
SPARE = 20_000


@pytest.mark.parametrize(
    ("changes", "reach"),
    [
        ({}, 10 * builders.MINUTE),
        ({"saturated_window_ms": builders.HOUR}, builders.HOUR + WINDOW_OF_RULE + SPARE),
        ({"outage_window_ms": builders.HOUR}, builders.HOUR),
        ({"recovery_ms": builders.HOUR}, builders.HOUR),
    ],
    ids=["ended tasks", "saturated nodes", "outages", "recovery"],
)
def test_a_fold_reaches_back_to_all_that_decisions_look_at_and_a_keyframe_before_it(
    changes: dict[str, int], reach: int
) -> None:
    rules = builders.rule_set(
        builders.scale_up(when=builders.metric_condition(over_ms=WINDOW_OF_RULE))
    )
    limits = dataclasses.replace(Limits(), **changes)
    assert reach_ms(rules, limits) == reach + 6 * builders.MINUTE


def test_it_decides_nothing_before_a_whole_inventory(scene: Scene) -> None:
    engine = scene.engine("one")
    for _ in range(3):
        engine.tick()
    assert engine.is_leader
    assert not engine.is_ready
    assert scene.ticks() == []


def test_it_commits_a_signed_decision_with_the_tick_that_made_it(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    scene.decide(engine)
    (fields,) = scene.entries(records.DECISIONS)
    decision = records.unpack_decision(fields)
    assert records.signature_holds(fields, KEY)
    assert (decision.start, decision.target, decision.max_mode) == (1, 2, Mode.LIVE)
    assert "is 0.9, above 0.5: scale up from 1 to 2" in decision.reason
    assert decision.tick in scene.ticks()


def test_a_standby_folds_but_writes_nothing_and_goes_on_where_the_leader_stopped(
    scene: Scene,
) -> None:
    scene.publish()
    leader, standby = scene.engine("one"), scene.engine("two")
    scene.decide(leader)
    before = scene.ticks()
    for _ in range(3):
        standby.tick()
    assert standby.is_ready
    assert not standby.is_leader
    assert scene.ticks() == before
    leader.stop()
    tick_until(standby, lambda: len(scene.ticks()) > len(before))
    assert scene.ticks()[: len(before) + 1] == [*before, before[-1] + 1]
    assert len(scene.entries(records.DECISIONS)) == 1, "what is in flight is still in flight"


def test_what_became_of_a_decision_is_read_however_long_no_engine_ran(scene: Scene) -> None:
    """The outcome is older than any window; without it the cooldown would not be charged."""
    hours_ms = 3 * builders.HOUR
    then_ms = scene.memory().now_ms() - hours_ms
    flight = Flight("d1", ActionKind.SCALE_UP, "cpu-high", 1, 2, Mode.LIVE, then_ms, then_ms + 1)
    seen = changes.look(builders.service(replicas=1))
    left = ServiceState("web", seen, 0, lanes={Lane.RULES: LaneState(flight=flight)})
    state = State(1, then_ms, 1, services={"web": left})
    outcome = Outcome("d1", "web", OutcomeKind.APPLIED, "", Mode.LIVE, index=10)
    with raw(scene.server.url) as client:
        fields = {"web": pack_service(left), OVERALL_FIELD: pack_overall(state)}
        client.hset("ah:state", mapping=fields)  # type: ignore[arg-type]  # bytes are fine
        stamped = {"b": "x", "q": 1, "a": 0, **records.pack_outcome(outcome)}
        client.xadd("ah:outcomes", stamped, id=f"{then_ms + 1000}-0")  # type: ignore[arg-type]  # likewise
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    lane = unpack(scene.memory().state()).services["web"].lane(Lane.RULES)
    assert lane.up_ms == then_ms + 1000
    assert lane.last_decision == "d1"


def test_a_commit_whose_reply_was_lost_happens_once(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory)
    memory.lose_commit_replies = 1
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    tick_until(engine, lambda: len(scene.ticks()) >= 3)
    assert scene.ticks() == list(range(1, len(scene.ticks()) + 1))
    assert len(scene.entries(records.DECISIONS)) == 1


def test_an_incident_is_written_with_the_tick_that_changed_it(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory, PAGE)
    tick_until(engine, scene.ticks)
    scene.kill_for_memory()
    tick_until(engine, scene.incidents)
    first, *later = scene.incidents()
    assert (first.service, first.end, first.acted_ms) == ("web", "open", None)
    assert first.evidence.startswith("oom_killed")
    assert scene.web().incident == (later or [first])[-1], "the last record is the valid one"


def test_an_incident_whose_commit_was_not_confirmed_is_written_once(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory, PAGE)
    tick_until(engine, scene.ticks)
    scene.kill_for_memory()
    memory.lose_commit_replies = 1
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    count = len(scene.ticks())
    tick_until(engine, lambda: scene.incidents() and len(scene.ticks()) > count + 2)
    found = scene.incidents()
    assert len(set(found)) == len(found)
    assert engine._telemetry.registry.get_sample_value("autoheal_outage") == 0


def test_an_incident_that_is_over_is_told_and_measured(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.publish()
    engine = scene.engine("one", rules=PAGE)
    tick_until(engine, scene.ticks)
    scene.kill_for_memory()
    with caplog.at_level(logging.INFO):
        tick_until(engine, lambda: any(each.end != "open" for each in scene.incidents()))
    ended = scene.incidents()[-1]
    assert (ended.end, ended.rule) == ("escalated", "oom")
    assert scene.web().incident is None
    (line,) = [r.getMessage() for r in caplog.records if "incident" in r.getMessage()]
    assert re.fullmatch(
        r"web: incident escalated: oom_killed[^:]*:"
        r" detected after \d+s, told after \d+s, recovered after \d+s",
        line,
    )
    value = engine._telemetry.registry.get_sample_value
    assert value("autoheal_incidents_total", {"end": "escalated"}) == 1
    assert value("autoheal_time_to_detect_seconds_count") == 1
    assert value("autoheal_time_to_act_seconds_count") == 0
    assert value("autoheal_time_to_recover_seconds_sum") == pytest.approx(
        ((ended.recovered_ms or 0) - ended.opened_ms) / 1000
    )


def test_an_incident_ends_with_its_service(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.publish()
    engine = scene.engine("one", rules=PAGE)
    tick_until(engine, scene.ticks)
    scene.kill_for_memory()
    tick_until(engine, scene.incidents)
    gone = builders.inventory(keyframe=False, gone=["web"], index=200)
    scene.write(records.INVENTORY, records.pack_inventory(gone))
    with caplog.at_level(logging.INFO):
        tick_until(engine, lambda: scene.incidents()[-1].end != "open")
    (line,) = [r.getMessage() for r in caplog.records if "incident" in r.getMessage()]
    assert line.endswith(", the service was removed or switched off")
    value = engine._telemetry.registry.get_sample_value
    assert value("autoheal_time_to_recover_seconds_count") == 0


def quarantine(scene: Scene) -> None:
    """The rule did not help on the service: as if an earlier tick had found so."""
    state = dataclasses.replace(scene.web(), quarantined={"cpu-high": 1})
    with raw(scene.server.url) as client:
        client.hset("ah:state", "web", pack_service(state))


def test_a_reset_ends_a_quarantine_once(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    engine.stop()
    quarantine(scene)

    engine = scene.engine("two")
    quarantined = functools.partial(
        engine._telemetry.registry.get_sample_value, "autoheal_quarantined"
    )
    count = len(scene.ticks())
    tick_until(engine, lambda: len(scene.ticks()) > count)
    assert quarantined() == 1
    scene.reset("cpu-high")
    tick_until(engine, lambda: not scene.web().quarantined)
    assert quarantined() == 0
    engine.stop()

    quarantine(scene)
    engine = scene.engine("three")
    count = len(scene.ticks())
    tick_until(engine, lambda: len(scene.ticks()) > count + 3)
    assert scene.web().quarantined, "the command is history"


def test_who_no_longer_leads_tells_of_no_quarantine(scene: Scene) -> None:
    scene.publish()
    tick_until(scene.engine("one"), scene.ticks)
    quarantine(scene)
    with raw(scene.server.url) as client:
        client.delete("ah:lease:engine")
    engine = scene.engine("two")
    value = engine._telemetry.registry.get_sample_value
    tick_until(engine, lambda: value("autoheal_quarantined") == 1)
    engine.stop()
    assert value("autoheal_quarantined") == 0


def test_an_engine_that_lost_its_lease_unawares_writes_nothing(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    engine = scene.engine("one", memory)
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    real = memory.commit

    def overtaken(
        lease: Lease,
        *,
        state: Mapping[str, bytes | None],
        marker: str,
        writes: Sequence[Write],
    ) -> bool:
        with raw(scene.server.url) as client:
            client.delete("ah:lease:engine")
        assert scene.memory().acquire("engine", "two", 30.0) is not None
        return real(lease, state=state, marker=marker, writes=writes)

    memory.commit = overtaken  # type: ignore[method-assign]  # the moment that cannot be timed
    tick_until(engine, lambda: not engine.is_leader)
    assert scene.ticks() == before


@pytest.mark.parametrize("ahead_s", [60.0, -60.0])
def test_when_the_stores_clock_jumps_it_decides_nothing_for_a_window(
    scene: Scene, caplog: pytest.LogCaptureFixture, ahead_s: float
) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    scene.clock.ahead_s = ahead_s  # against ours, the store's clock went the other way
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            engine.tick()
    assert scene.ticks() == before
    went = "went back" if ahead_s > 0 else "jumped ahead"
    assert f"the store's clock {went} by " in caplog.text
    assert f"deciding nothing for {WINDOW_S}s" in caplog.text
    tick_until(engine, lambda: len(scene.ticks()) > len(before))


def test_a_clock_that_stands_still_is_noticed_however_often_it_is_looked_at(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader's `now` never goes back, so a clock that did shows as one that stands still."""
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    with caplog.at_level(logging.ERROR):
        for _ in range(6):
            scene.clock.ahead_s += 1.0
            engine.tick()
    assert "the store's clock went back by " in caplog.text


def test_a_store_whose_clock_is_behind_the_last_tick_is_told_of(scene: Scene) -> None:
    scene.publish()
    ahead = State(tick=1, now_ms=scene.memory().now_ms() + builders.HOUR, epoch=1)
    with raw(scene.server.url) as client:
        client.hset("ah:state", OVERALL_FIELD, pack_overall(ahead))
    engine = scene.engine("one")
    with pytest.raises(AutohealError, match="the store's clock is 59m59s behind the last tick"):
        tick_until(engine, lambda: False)
    assert scene.ticks() == []


def test_rules_that_could_not_be_kept_are_kept_before_the_first_tick(scene: Scene) -> None:
    scene.publish()
    memory = scene.memory()
    put, failures = memory.put, [ConnectionError("away")]

    def once_away(key: str, value: bytes) -> None:
        if failures:
            raise failures.pop()
        put(key, value)

    memory.put = once_away  # type: ignore[method-assign]  # the moment that cannot be timed
    engine = scene.engine("one", memory)
    with pytest.raises(ConnectionError):
        tick_until(engine, lambda: False)
    tick_until(engine, scene.ticks)
    assert all(each.agrees for each in replay.repeat(scene.memory()))


def test_another_run_of_the_store_is_not_trusted_for_a_window(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.publish()
    engine = scene.engine("one")
    tick_until(engine, scene.ticks)
    before = scene.ticks()
    scene.server.restart()
    with caplog.at_level(logging.ERROR):
        deadline = time.monotonic() + 20
        while "the store was restarted or replaced" not in caplog.text:
            assert time.monotonic() < deadline
            try:
                engine.tick()
            except ConnectionError:
                time.sleep(0.05)
    assert scene.ticks() == before
    tick_until(engine, lambda: len(scene.ticks()) > len(before))
    assert scene.ticks()[-1] == len(scene.ticks())


def test_recorded_ticks_can_be_repeated_from_what_the_engine_kept(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    scene.decide(engine)
    decision = records.unpack_decision(scene.entries(records.DECISIONS)[0])
    outcome = Outcome(
        decision.id, decision.service, OutcomeKind.WOULD_APPLY, "dry run", Mode.DRY_RUN
    )
    scene.write(records.OUTCOMES, records.pack_outcome(outcome))
    scene.kill_for_memory()
    tick_until(engine, lambda: scene.web().acted and scene.incidents())
    scene.reset()
    tick_until(engine, lambda: scene.web().forgiven)
    count = len(scene.ticks())
    tick_until(engine, lambda: len(scene.ticks()) > count + 2)
    engine.stop()
    successor = scene.engine("two")
    tick_until(successor, lambda: len(scene.ticks()) > count + 5)
    repeated = list(replay.repeat(scene.memory()))
    assert [each.tick.number for each in repeated] == scene.ticks()
    assert all(each.agrees for each in repeated)
    assert sum(len(each.repeated) for each in repeated) == len(scene.entries(records.DECISIONS))
    assert {each.tick.epoch for each in repeated} == {1, 2}


def test_a_repetition_notices_a_single_lost_sample(scene: Scene) -> None:
    """The comparison can fail: with other inputs the same ticks do not agree."""
    scene.publish()
    engine = scene.engine("one")
    scene.decide(engine)
    samples = scene.memory().reader((records.SAMPLES,), since_ms=0).cut().entries
    with raw(scene.server.url) as client:
        assert client.xdel("ah:samples", samples[len(samples) // 2].id) == 1
    assert not all(each.agrees for each in replay.repeat(scene.memory()))


def test_status_shows_what_the_loop_knows_and_wants(scene: Scene) -> None:
    scene.publish()
    engine = scene.engine("one")
    scene.decide(engine)
    shown = status.gather(scene.memory())
    assert shown.engine == "one"
    assert shown.executor == "nobody"
    (service,) = shown.services
    assert (service.name, service.tasks, service.may) == ("web", "1/1", "scale_up")
    assert service.in_flight == "scale_up 1->2 decided"
    (rule,) = service.rules
    assert rule.reads == "mean cpu_cores over 4s 0.9 (above 0.5)"
    assert rule.state.startswith("firing ")
    (decided,) = shown.decisions
    assert (decided.service, decided.what, decided.outcome) == ("web", "scale_up 1->2", "open")
    assert shown.memory[records.SAMPLES].endswith("B")
    assert "web" in status.render(shown)
    assert '"in_flight": "scale_up 1->2 decided"' in status.render_json(shown)


def test_who_cannot_read_the_state_says_so_and_lets_others_lead(scene: Scene) -> None:
    scene.publish()
    with raw(scene.server.url) as client:
        client.hset("ah:state", mapping={OVERALL_FIELD: b'{"tick":1}'})
    engine = scene.engine("new")
    for _ in range(2):
        with pytest.raises(UserError, match="another version of autoheal wrote the state"):
            engine.tick()
        assert not engine.is_leader
        assert scene.memory().holder(LEASE) is None


def test_entries_of_another_version_are_told_of_once_per_stream(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.publish()
    for _ in range(2):
        scene.write(records.EVENTS, {"body": b"{}"})
    with caplog.at_level(logging.WARNING):
        scene.engine("one").tick()
    told = [line for line in caplog.messages if "passed over" in line]
    assert len(told) == 1
    assert told[0].startswith("events: entries of another version are passed over: ")


def test_limits_of_another_version_are_told_as_such(scene: Scene) -> None:
    scene.memory().put("limits:old", b'{"step_ms":1,"forgotten":2}')
    with pytest.raises(UserError, match="another version of autoheal kept the limits old"):
        kept_limits(scene.memory(), "old")
