"""Loops and jobs: a failing tick leaves things as they are, is told once, and is tried again."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self

import pytest

from autoheal import runner as module
from autoheal.adapters.clock import SystemClock
from autoheal.errors import RemoteError
from autoheal.runner import Job, Loop, Runner
from autoheal.telemetry import Telemetry


class Running:
    """A runner on a thread, with its telemetry."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.telemetry = Telemetry(clock)
        self.runner = Runner(clock=clock, telemetry=self.telemetry)
        self._thread = threading.Thread(target=self.runner.run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def count(self, name: str, loop: str) -> float:
        value = self.telemetry.registry.get_sample_value(name, {"loop": loop})
        return value or 0.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_loop_ticks_each_period_and_at_once_when_there_is_news() -> None:
    ticks: list[float] = []
    news = threading.Event()
    running = Running()
    running.runner.add_loop(Loop("loop", lambda: ticks.append(time.monotonic()), news.wait, 600.0))
    with running:
        until(lambda: len(ticks) == 1)
        time.sleep(0.1)
        assert len(ticks) == 1, "it waits for its period"
        news.set()
        until(lambda: len(ticks) >= 2)


def test_however_much_news_there_is_ticks_keep_apart() -> None:
    ticks: list[float] = []
    running = Running()
    running.runner.add_loop(
        Loop("loop", lambda: ticks.append(time.monotonic()), lambda _: True, 600.0, rest_s=0.2)
    )
    with running:
        until(lambda: len(ticks) == 4)
    assert min(b - a for a, b in itertools.pairwise(ticks)) >= 0.2


@pytest.mark.parametrize("error", [ConnectionError("away"), RemoteError("no"), KeyError("bug")])
def test_a_failing_tick_is_counted_told_once_and_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    left = [error] * 3

    def tick() -> None:
        if left:
            raise left.pop()

    running = Running()
    running.runner.add_loop(Loop("loop", tick, running.runner.rest, 0.01))
    with caplog.at_level(logging.INFO, "autoheal.runner"), running:
        until(lambda: running.count("autoheal_loop_ticks_total", "loop") >= 1)
    assert running.count("autoheal_loop_failures_total", "loop") == 3
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if type(error).__name__ in m]) == 1
    assert [m for m in messages if m == "loop: goes on"] == ["loop: goes on"]


def test_a_failing_loop_goes_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALE_S", 0.05)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    good, bad = threading.Event(), threading.Event()

    def tick() -> None:
        bad.set()
        raise ConnectionError("away")

    running = Running()
    running.runner.add_loop(Loop("good", good.set, running.runner.rest, 0.01))
    running.runner.add_loop(Loop("bad", tick, running.runner.rest, 0.01))
    with running:
        until(lambda: set(running.telemetry.stale()) == {"bad"})


@pytest.mark.parametrize("trouble", [ConnectionError("away"), ValueError("refused")])
def test_trouble_while_waiting_does_not_end_the_loop(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    ticks: list[int] = []

    def wait(_: float) -> bool:
        raise trouble

    running = Running()
    running.runner.add_loop(Loop("loop", lambda: ticks.append(1), wait, 600.0))
    with running:
        until(lambda: len(ticks) >= 3)


def test_a_job_runs_at_once_however_long_its_period() -> None:
    ticks: list[int] = []
    running = Running()
    running.runner.add_job(Job("job", lambda: ticks.append(1), 600.0))
    with running:
        until(lambda: ticks)


def test_a_job_runs_at_once_and_each_period() -> None:
    ticks: list[float] = []
    running = Running()
    running.runner.add_job(Job("job", lambda: ticks.append(time.monotonic()), 0.1))
    with running:
        until(lambda: len(ticks) >= 3)
    assert running.count("autoheal_loop_ticks_total", "job") >= 3


def test_a_job_with_a_phase_first_runs_in_it() -> None:
    ticks: list[float] = []
    running = Running()
    begin = time.monotonic()
    running.runner.add_job(Job("job", lambda: ticks.append(time.monotonic()), 60.0, lambda: 0.4))
    with running:
        until(lambda: ticks)
    assert ticks[0] - begin >= 0.35


def test_a_wall_clock_that_goes_back_does_not_stop_a_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ticks: list[int] = []
    running = Running()
    running.runner.add_job(Job("job", lambda: ticks.append(1), 0.2))
    with caplog.at_level(logging.WARNING, "autoheal.runner"), running:
        until(lambda: len(ticks) >= 2)
        scheduler = running.runner._scheduler
        # As if the clock had stood an hour ahead when the next run was planned.
        scheduler.modify_job("job", next_run_time=datetime.now(UTC) + timedelta(hours=1))
        count = len(ticks)
        until(lambda: len(ticks) >= count + 2)
    assert "the wall clock went back: job runs again now" in caplog.text
