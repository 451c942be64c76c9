"""Which source is asked when and by whom, and what is written of what it tells."""

from __future__ import annotations

import logging
import math
import threading
from itertools import pairwise

import pytest

import builders
from autoheal.core.limits import Limits
from autoheal.core.rule import Source
from autoheal.core.view.window import SPARE_SLOTS
from autoheal.engine import KEYFRAME_MARGIN_MS, reach_ms
from autoheal.errors import RemoteError
from autoheal.model import SourceValue
from autoheal.sources import LEASE, in_thread
from executor.fakes import Loss, World
from sources.scenes import DOWN, STEP_S, Asked, Scene, a_source, told, told_at


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def scene(world: World) -> Scene:
    """A loop that asks `jobs` every 10 s."""
    made = Scene(world)
    made.loop.set_sources([a_source()])
    return made


def gaps(times: list[float]) -> list[float]:
    return [round(later - sooner, 3) for sooner, later in pairwise(times)]


# turns


def test_a_source_is_asked_at_once_and_then_at_its_turns(scene: Scene, world: World) -> None:
    scene.play(40)
    first, *turns = scene.figure().asked_at
    assert first == 0.0
    assert gaps(turns) == [10.0, 10.0, 10.0]
    assert told(world) == [SourceValue("jobs", 5.0)] * 5


def test_a_value_is_as_old_as_its_answer(scene: Scene, world: World) -> None:
    scene.play(1)
    assert told_at(world) == [STEP_S]


def test_sources_have_turns_of_their_own(scene: Scene) -> None:
    names = [f"s{number}" for number in range(20)]
    scene.loop.set_sources([a_source(name) for name in names])
    scene.play(25)
    phases = {scene.figure(name).asked_at[-1] % 10 for name in names}
    assert len(phases) > 10


def test_each_source_has_its_own_interval(scene: Scene) -> None:
    scene.loop.set_sources([a_source("slow"), a_source("quick", every_ms=1_000, timeout_ms=500)])
    scene.play(25)
    assert set(gaps(scene.figure("quick").asked_at)[1:]) == {1.0}
    assert set(gaps(scene.figure("slow").asked_at)[1:]) == {10.0}


def test_missed_turns_are_not_caught_up_on(scene: Scene) -> None:
    scene.play(1)
    scene.world.clock.advance(100)
    scene.play(2)
    assert len(scene.figure().asked_at) in {2, 3}
    assert len([at for at in scene.figure().asked_at if at > 100]) <= 2


# answers


def test_an_engine_reaches_back_to_what_a_source_told_and_its_silence_is_no_longer() -> None:
    sources = [builders.source(stale_after_ms=3 * builders.HOUR)]
    asked = builders.source_condition(over_ms=builders.HOUR)
    rules = builders.rule_set(builders.escalate("a", when=asked), sources=sources)
    spare_ms = SPARE_SLOTS * Limits().step_ms + KEYFRAME_MARGIN_MS
    assert reach_ms(rules, Limits()) == 4 * builders.HOUR + spare_ms
    assert rules.longest_window_ms == builders.HOUR


@pytest.mark.parametrize("value", [0.0, 0.25, 1e15, 7])
def test_any_figure_is_written(scene: Scene, world: World, value: float) -> None:
    scene.figure().value = value
    scene.play(1)
    assert told(world) == [SourceValue("jobs", value)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "nan, which is not a figure"),
        (math.inf, "inf, which is not a figure"),
        (-math.inf, "-inf, which is not a figure"),
        (-3.5, "-3.5, which is below 0"),
        (1.1e15, "1.1e+15, which is above 1e+15"),
        (1e306, "1e+306, which is above 1e+15"),
    ],
)
def test_what_is_no_figure_is_a_failure(
    scene: Scene, world: World, value: float, words: str
) -> None:
    scene.figure().value = value
    scene.play(1)
    assert told(world) == [SourceValue("jobs", None, f"got {words}")]


def test_a_failure_is_written_with_its_reason(scene: Scene, world: World) -> None:
    scene.figure().error = DOWN
    scene.play(1)
    assert told(world) == [SourceValue("jobs", None, str(DOWN))]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RemoteError("two\r\nlines\x1b[2J\tand more"), "two lines [2J and more"),
        (RemoteError("x" * 500), "x" * 200),
        (RemoteError(""), "no reason given"),
        (ValueError("a secret"), "unexpected ValueError"),
    ],
)
def test_a_reason_is_one_short_line_without_secrets(
    scene: Scene, world: World, error: Exception, words: str
) -> None:
    scene.figure().error = error
    scene.play(1)
    assert told(world) == [SourceValue("jobs", None, words)]


def test_a_failure_that_lasts_is_written_once_a_minute(scene: Scene, world: World) -> None:
    scene.figure().error = DOWN
    scene.play(125)
    assert len(scene.figure().asked_at) == 14
    assert told(world) == [SourceValue("jobs", None, str(DOWN))] * 3


def test_failures_that_take_turns_are_each_written_once_a_minute(
    scene: Scene, world: World
) -> None:
    for number in range(5):
        scene.figure().error = RemoteError("odd" if number % 2 else "even")
        scene.play(10)
    assert [value.error for value in told(world)] == ["even", "odd"]


def test_a_failure_after_a_figure_is_written_at_once(scene: Scene, world: World) -> None:
    scene.figure().error = DOWN
    scene.play(5)
    scene.figure().error = None
    scene.play(10)
    scene.figure().error = DOWN
    scene.play(10)
    assert [value.value for value in told(world)] == [None, 5.0, None]


def test_the_log_tells_when_a_failure_begins_and_ends(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "autoheal.sources")
    scene.figure().error = DOWN
    scene.play(35)
    scene.figure().error = None
    scene.play(20)
    assert [record.getMessage() for record in caplog.records] == [
        f"source jobs: {DOWN}",
        "source jobs: told again",
    ]


# sources that hang


def test_a_source_that_hangs_is_given_up_and_asked_again(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(2.2)
    assert told(world) == []
    scene.play(0.3)
    assert told(world) == [SourceValue("jobs", None, "no answer within 2s")]
    scene.answer()
    scene.is_hanging = False
    scene.play(10)
    assert told(world)[1:] == [SourceValue("jobs", 5.0)]


def test_what_comes_after_the_time_is_over_is_not_listened_to(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(3)
    scene.figure().value = 99.0
    scene.answer()
    scene.play(1)
    assert told(world) == [SourceValue("jobs", None, "no answer within 2s")]


def test_a_source_is_asked_one_question_at_a_time(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(65)
    assert len(scene.waiting) == 1
    assert told(world) == [SourceValue("jobs", None, "no answer within 2s")] * 2
    assert scene.metric("source_failures_total") == 8.0, "the first, and at each turn"
    scene.answer()
    scene.is_hanging = False
    scene.play(10)
    assert len(scene.figure().asked_at) == 2
    assert told(world)[-1] == SourceValue("jobs", 5.0)


def test_one_that_hangs_delays_no_other(scene: Scene, world: World) -> None:
    scene.loop.set_sources([a_source("hangs"), a_source("quick", every_ms=1_000, timeout_ms=500)])
    scene.is_hanging = True
    scene.loop.tick()
    hanging = scene.waiting.pop(0)
    scene.is_hanging = False
    scene.play(30)
    assert len([value for value in told(world) if value == SourceValue("quick", 5.0)]) >= 29
    hanging()


def test_an_answer_in_its_last_moment_counts(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(2.2)
    scene.answer()
    scene.play(1)
    assert told(world) == [SourceValue("jobs", 5.0)]


# one loop of several


def test_only_the_one_with_the_lease_asks(scene: Scene, world: World) -> None:
    standby = Scene(world)
    standby.loop.set_sources([a_source()])
    for _ in range(30):
        scene.play(0.5)
        standby.play(0.5)
    assert (scene.loop.is_leader, standby.loop.is_leader) == (True, False)
    assert scene.figure().asked_at
    assert standby.figure().asked_at == []
    assert standby.metric("source_value_age_seconds") is None


def test_a_standby_takes_over_at_once_when_the_leader_ends(scene: Scene, world: World) -> None:
    standby = Scene(world)
    standby.loop.set_sources([a_source()])
    scene.play(1)
    standby.play(1)
    scene.loop.stop()
    assert scene.metric("source_value_age_seconds") is None
    standby.play(0.5)
    assert len(standby.figure().asked_at) == 1
    assert len(told(world)) == 2


def test_a_standby_takes_over_from_one_that_died(scene: Scene, world: World) -> None:
    standby = Scene(world)
    standby.loop.set_sources([a_source()])
    scene.play(1)
    standby.play(20)
    assert standby.loop.is_leader
    assert standby.figure().asked_at


def test_one_that_stood_still_past_its_lease_writes_nothing(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(1)
    successor = Scene(world)
    successor.loop.set_sources([a_source()])
    successor.figure().value = 8.0
    world.clock.advance(20)
    successor.play(1)
    scene.answer()
    scene.play(5)
    assert not scene.loop.is_leader
    assert told(world) == [SourceValue("jobs", 8.0)]


def test_who_leads_again_asks_at_once_and_tells_its_failures_again(
    scene: Scene, world: World
) -> None:
    scene.figure().error = DOWN
    scene.play(1)
    other = Scene(world)
    other.loop.set_sources([a_source()])
    world.clock.advance(20)
    other.play(1)
    scene.play(1)
    other.loop.stop()
    scene.play(1)
    assert told(world) == [
        SourceValue("jobs", None, str(DOWN)),
        SourceValue("jobs", 5.0),
        SourceValue("jobs", None, str(DOWN)),
    ]


def test_a_failure_that_a_standby_hears_of_is_told_when_it_leads(
    scene: Scene, world: World
) -> None:
    scene.loop.set_sources([a_source(every_ms=60_000, timeout_ms=60_000)])
    scene.is_hanging = True
    scene.figure().error = DOWN
    scene.play(1)
    other = Scene(world)
    other.loop.set_sources([a_source()])
    world.clock.advance(20)
    other.play(1)
    scene.play(1)
    scene.answer()
    scene.is_hanging = False
    scene.play(1)
    other.loop.stop()
    scene.play(1)
    assert told(world)[-1] == SourceValue("jobs", None, str(DOWN))


def test_without_sources_there_is_no_lease_to_hold(scene: Scene, world: World) -> None:
    scene.play(1)
    assert LEASE in world.store.leases
    scene.loop.set_sources([])
    scene.play(1)
    assert LEASE not in world.store.leases
    assert not scene.loop.is_leader


# the store


def test_a_lost_reply_writes_a_value_once(scene: Scene, world: World) -> None:
    world.store.losses = [Loss.REPLY, Loss.REQUEST]
    scene.play(1)
    assert told(world) == [SourceValue("jobs", 5.0)]


def test_what_was_told_while_the_store_is_away_is_written_when_it_is_back(
    scene: Scene, world: World
) -> None:
    scene.is_hanging = True
    scene.play(1)
    world.store.away = True
    scene.answer()
    scene.play(2)
    world.store.away = False
    scene.play(1)
    assert told(world) == [SourceValue("jobs", 5.0)]
    assert told_at(world) == [1.0]


def test_while_the_store_is_away_nothing_is_asked(scene: Scene, world: World) -> None:
    scene.play(1)
    world.store.away = True
    scene.play(60)
    assert len(scene.figure().asked_at) == 1


def test_a_lease_that_ends_before_the_writing_leaves_it_to_the_next_tick(
    scene: Scene, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    scene.play(STEP_S)
    world.steps.once("after renew", lambda: world.clock.advance(20))
    scene.loop.tick()
    assert told(world) == []
    assert "the lease 'sources' has less than 0 s left" in caplog.text
    scene.play(1)
    assert told(world)[0] == SourceValue("jobs", 5.0)


# another set


def test_a_source_that_stays_as_it_is_keeps_its_turns(scene: Scene) -> None:
    scene.play(15)
    before = scene.figure().asked_at[-1]
    scene.loop.set_sources([a_source(), a_source("new")])
    asked = len(scene.figure().asked_at)
    scene.play(10)
    assert len(scene.figure().asked_at) == asked + 1
    assert gaps([before, scene.figure().asked_at[-1]]) == [10.0]
    assert scene.figure("new").asked_at[0] == pytest.approx(15.0)


def test_a_source_that_changed_is_asked_at_once(scene: Scene, world: World) -> None:
    scene.play(15)
    scene.loop.set_sources([a_source(options=(("path", "b"), ("url", "http://shop")))])
    scene.play(0.5)
    assert scene.figure().asked_at[-1] == pytest.approx(15.0)
    assert len(told(world)) == len(scene.figure().asked_at)


def test_a_source_that_is_gone_is_not_asked_and_not_measured(scene: Scene, world: World) -> None:
    scene.loop.set_sources([a_source(), a_source("stays")])
    scene.play(1)
    scene.loop.set_sources([a_source("stays")])
    scene.play(30)
    assert len(scene.figure().asked_at) == 1
    assert scene.metric("source_value_age_seconds") is None
    assert scene.metric("source_value_age_seconds", "stays") is not None
    assert len([value for value in told(world) if value.source == "jobs"]) == 1


def test_the_answer_to_what_was_meant_before_is_dropped(scene: Scene, world: World) -> None:
    scene.is_hanging = True
    scene.play(1)
    scene.loop.set_sources([a_source(timeout_ms=1_000)])
    scene.play(0.5)
    old, new = scene.waiting
    old()
    scene.play(0.2)
    assert told(world) == []
    new()
    scene.play(0.2)
    assert told(world) == [SourceValue("jobs", 5.0)]


def test_a_corrected_source_is_asked_though_the_old_question_hangs(
    scene: Scene, world: World
) -> None:
    scene.is_hanging = True
    scene.play(5)
    hanging = scene.waiting.pop()
    scene.is_hanging = False
    scene.loop.set_sources([a_source(timeout_ms=1_000)])
    scene.play(12)
    values = [SourceValue("jobs", None, "no answer within 2s"), *[SourceValue("jobs", 5.0)] * 2]
    assert told(world)[:3] == values
    count = len(told(world))
    hanging()
    scene.play(1)
    assert len(told(world)) == count, "what it says at last is not listened to"


def test_an_adapter_that_cannot_be_built_is_tried_at_each_tick(
    scene: Scene, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.play(1)

    def broken(_: Source) -> Asked:
        raise ValueError("cannot be built")

    scene.loop.set_sources([a_source(), a_source("new")])
    with monkeypatch.context() as patched:
        patched.setattr(scene.loop, "_adapter", broken)
        for _ in range(2):
            with pytest.raises(ValueError, match="cannot be built"):
                scene.loop.tick()
    scene.play(1)
    assert [value.source for value in told(world)] == ["jobs", "new"]


def test_of_an_unexpected_error_the_log_shows_only_the_type(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.figure().error = ValueError("a secret")
    with caplog.at_level(logging.DEBUG):
        scene.play(1)
    assert "source jobs: unexpected ValueError" in caplog.text
    assert "a secret" not in caplog.text


# metrics


def test_the_age_of_the_last_figure_is_measured(scene: Scene) -> None:
    scene.play(3)
    assert scene.metric("source_value_age_seconds") == pytest.approx(3.0 - STEP_S)
    scene.figure().error = DOWN
    scene.play(60)
    assert scene.metric("source_value_age_seconds") == pytest.approx(63.0 - STEP_S)


def test_a_source_that_never_told_anything_ages_from_when_it_was_first_asked(scene: Scene) -> None:
    scene.world.clock.advance(100)
    scene.figure().error = DOWN
    scene.play(30)
    assert scene.metric("source_value_age_seconds") == pytest.approx(30.0)


def test_every_turn_without_a_figure_is_counted(scene: Scene) -> None:
    scene.play(1)
    assert scene.metric("source_failures_total") is None
    scene.figure().error = DOWN
    scene.play(60)
    assert scene.metric("source_failures_total") == 6.0


# waiting


def test_waiting_ends_with_an_answer(scene: Scene) -> None:
    scene.loop.tick()
    scene.loop.wait(0.0)
    scene.answer()
    assert scene.loop.wait(1.0)


def test_waiting_ends_with_another_set(scene: Scene) -> None:
    scene.play(1)
    scene.loop.wait(0.0)
    scene.loop.set_sources([])
    assert scene.loop.wait(1.0)


def test_waiting_ends_when_a_turn_comes(scene: Scene) -> None:
    scene.play(1)
    scene.loop.wait(0.0)
    assert not scene.loop.wait(0.01)
    scene.world.clock.advance(10)
    assert scene.loop.wait(0.01)


def test_waiting_ends_when_a_question_is_to_be_given_up(scene: Scene) -> None:
    scene.is_hanging = True
    scene.play(1)
    scene.loop.wait(0.0)
    assert not scene.loop.wait(0.01)
    scene.world.clock.advance(2)
    assert scene.loop.wait(0.01)


def test_after_that_it_waits_for_the_next_turn(scene: Scene) -> None:
    scene.is_hanging = True
    scene.play(3)
    scene.loop.wait(0.0)
    assert not scene.loop.wait(0.01)


def test_a_standby_waits_as_long_as_it_is_told(scene: Scene, world: World) -> None:
    scene.play(1)
    standby = Scene(world)
    standby.loop.set_sources([a_source()])
    standby.play(1)
    standby.loop.wait(0.0)
    assert not standby.loop.wait(0.01)


def test_a_question_that_hangs_does_not_keep_the_process_from_ending() -> None:
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        over.wait()

    in_thread(work)
    begun.wait()
    (thread,) = [each for each in threading.enumerate() if each.name == "source"]
    assert thread.daemon
    over.set()
    thread.join()
