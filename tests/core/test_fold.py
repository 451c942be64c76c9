"""From stream entries to the snapshot: order, spoilt entries, and what is forgotten."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from autoheal import records
from autoheal.core.fold import KEPT_MS, Fold
from autoheal.model import Intent, OutcomeKind, Verdict
from builders import (
    CPU_HIGH,
    HOUR,
    MINUTE,
    NOW,
    STEP,
    batch,
    escalate,
    event,
    event_condition,
    inventory,
    outcome,
    roster_row,
    rule_set,
    scale_up,
    service,
    task,
)

OOM = event_condition(over_ms=10 * MINUTE)
RULES = rule_set(scale_up(), escalate(when=OOM))


def fold() -> Fold:
    return Fold(RULES, step_ms=STEP, warm_up_ms=0)


def take(into: Fold, stream: str, fields: Mapping[str, bytes], at_ms: int = NOW) -> None:
    into.fold(stream, at_ms, at_ms, fields)


def test_it_is_ready_after_the_first_whole_inventory() -> None:
    made, ready = fold(), []
    for keyframe in (False, True):
        take(made, records.INVENTORY, records.pack_inventory(inventory(keyframe=keyframe)))
        ready.append(made.ready)
    assert ready == [False, True]


def test_a_snapshot_shows_what_was_folded() -> None:
    made = fold()
    shown = inventory(
        services=[service("web"), service("api")],
        tasks=[task("web.1"), task("web.2"), task("web.3", desired="shutdown")],
    )
    take(made, records.INVENTORY, records.pack_inventory(shown), NOW - 3)
    roster = [roster_row("web.1"), roster_row("web.2")]
    for slot in range(24, 0, -1):
        figures = {"web.1": [0.8], "web.2": [1.0]}
        packed = records.pack_samples(batch(figures, roster))
        take(made, records.SAMPLES, packed, NOW - slot * STEP)
    take(made, records.EVENTS, records.pack_event(event()), NOW - 1)
    applied = outcome("d", OutcomeKind.APPLIED)
    take(made, records.OUTCOMES, records.pack_outcome(applied), NOW - 1)
    intent = Intent("d", "web", 1, "executor")
    take(made, records.INTENTS, records.pack_intent(intent), NOW - 2)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=7)
    assert seen.epoch == 7
    assert seen.inventory_at_ms == NOW - 3
    assert [each.id for each in seen.services] == ["api", "web"]
    assert seen.running == {"web": 2}
    assert set(seen.readings) == {CPU_HIGH}
    reading = seen.readings[CPU_HIGH].of("web")
    assert (reading.verdict, reading.value) == (Verdict.TRUE, 90.0)
    assert seen.events == {("oom_killed", "web"): (NOW - 1,)}
    assert [(each.ms, each.record) for each in seen.outcomes] == [(NOW - 1, applied)]
    assert [(each.ms, each.record) for each in seen.intents] == [(NOW - 2, intent)]


def test_nothing_folded_gives_an_empty_snapshot() -> None:
    seen = fold().snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert (seen.services, seen.inventory_at_ms, seen.running) == ((), 0, {})


def test_events_are_kept_in_the_order_of_their_own_times() -> None:
    made = fold()
    for at_ms in (NOW, NOW - 5, NOW - 2, NOW - 5):
        take(made, records.EVENTS, records.pack_event(event()), at_ms)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert seen.events["oom_killed", "web"] == (NOW - 5, NOW - 5, NOW - 2, NOW)


@pytest.mark.parametrize("stream", [*Fold.STREAMS, "another"])
def test_a_spoilt_entry_is_counted_and_changes_nothing(stream: str) -> None:
    made = fold()
    take(made, stream, {"body": b"{", "rows": b"\xff"})
    assert made.bad_entries == 1
    assert made.snapshot(now_ms=NOW, since_ms=0, epoch=1).events == {}


@pytest.mark.parametrize(("age_ms", "kept"), [(10 * MINUTE - 1, True), (10 * MINUTE, False)])
def test_events_that_no_rule_looks_back_to_are_forgotten(age_ms: int, *, kept: bool) -> None:
    made = fold()
    take(made, records.EVENTS, records.pack_event(event()), NOW - age_ms)
    made.forget(NOW)
    assert bool(made.snapshot(now_ms=NOW, since_ms=0, epoch=1).events) is kept


@pytest.mark.parametrize(("age_ms", "kept"), [(KEPT_MS, True), (KEPT_MS + 1, False)])
def test_outcomes_and_intents_outlast_a_change_of_leader(age_ms: int, *, kept: bool) -> None:
    made = fold()
    packed = records.pack_outcome(outcome("d", OutcomeKind.APPLIED))
    take(made, records.OUTCOMES, packed, NOW - age_ms)
    intent = records.pack_intent(Intent("d", "web", 1, "executor"))
    take(made, records.INTENTS, intent, NOW - age_ms)
    made.forget(NOW)
    seen = made.snapshot(now_ms=NOW, since_ms=0, epoch=1)
    assert (bool(seen.outcomes), bool(seen.intents)) == (kept, kept)


def test_only_what_came_after_the_last_tick_is_news() -> None:
    made = fold()
    packed = records.pack_outcome(outcome("d", OutcomeKind.APPLIED))
    take(made, records.OUTCOMES, packed, NOW - 10)
    take(made, records.INTENTS, records.pack_intent(Intent("d", "web", 1, "x")), NOW - 10)
    for since_ms, news in ((NOW - 10, True), (NOW - 9, False)):
        seen = made.snapshot(now_ms=NOW, since_ms=since_ms, epoch=1)
        assert (bool(seen.outcomes), bool(seen.intents)) == (news, news)


def test_forgetting_changes_no_later_snapshot() -> None:
    forgetful, plain = fold(), fold()
    for step in range(120):
        now_ms = NOW + step * STEP
        name = f"web.{step // 40}"
        ended = [
            task(f"web.{n}", state="failed", index=11, since_ms=NOW + (n + 1) * 40 * STEP)
            for n in range(step // 40)
        ]
        shown = inventory(
            services=[service()],
            tasks=[*ended, task(name)],
            index=100 + step,
            clock_ms=now_ms,
        )
        for made in (forgetful, plain):
            take(made, records.INVENTORY, records.pack_inventory(shown), now_ms)
            packed = records.pack_samples(batch({name: [0.01 * step]}, [roster_row(name)]))
            take(made, records.SAMPLES, packed, now_ms)
        forgetful.forget(now_ms + 1)
        one = (
            forgetful.snapshot(now_ms=now_ms + 1, since_ms=0, epoch=1).readings[CPU_HIGH].of("web")
        )
        other = plain.snapshot(now_ms=now_ms + 1, since_ms=0, epoch=1).readings[CPU_HIGH].of("web")
        assert one == other
    assert forgetful.window.containers < plain.window.containers
    assert set(forgetful.swarm.spans) < {"web.0", "web.1", "web.2"} | {"never"}


def test_a_rule_set_knows_how_far_back_it_looks() -> None:
    assert RULES.metrics == ("cpu_percent",)
    assert RULES.longest_window_ms == 2 * MINUTE
    assert RULES.longest_event_window_ms == 10 * MINUTE
    empty = rule_set()
    assert (empty.metrics, empty.longest_window_ms, empty.longest_event_window_ms) == ((), 0, 0)
    assert KEPT_MS > 24 * HOUR
