"""Runs loops until told to stop: each `tick()` on a thread of its own, or on apscheduler's clock.

A tick that fails leaves things as they are: it is counted, told once, and tried again after a
pause. A loop that does not tick goes stale, and /healthz says so.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.background import BackgroundScheduler

from autoheal.adapters.clock import wall_time
from autoheal.errors import AutohealError
from autoheal.ports import Clock
from autoheal.telemetry import Telemetry

PAUSE_S = 1.0
STALE_S = 20.0
WATCH_S = 0.5
STALE_TICKS = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: a tick per period, and at once when `wait` (told how long at most) finds news.

    However much news there is, ticks begin at least `rest_s` apart.
    """

    name: str
    tick: Callable[[], None]
    wait: Callable[[float], bool]
    period_s: float
    rest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """Work at a fixed interval, on apscheduler's clock.

    `phase_s` tells how long it is from now to an instant at which the job would best run.
    """

    name: str
    tick: Callable[[], None]
    period_s: float
    phase_s: Callable[[], float] | None = None


class Runner:
    """All loops and jobs of one process."""

    def __init__(self, *, clock: Clock, telemetry: Telemetry) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._stop_asked = False
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._jobs: dict[str, Job] = {}
        self._trouble: dict[str, str] = {}
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)
        # Its own warnings about skipped runs are our counter.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)

    def add_loop(self, loop: Loop) -> None:
        """Give the loop a thread; it starts with `run`."""
        self._telemetry.expect(loop.name, max(STALE_TICKS * loop.period_s, STALE_S))
        thread = threading.Thread(target=self._turn, args=(loop,), name=loop.name)
        self._threads.append(thread)

    def add_job(self, job: Job) -> None:
        """Have the job run every period, the first time at once or in its phase."""
        self._telemetry.expect(job.name, max(STALE_TICKS * job.period_s, STALE_S))
        self._jobs[job.name] = job
        self._scheduler.add_job(
            self._guarded, "interval", args=(job.name, job.tick), seconds=job.period_s, id=job.name
        )
        self._arm(job)

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Run everything until `stop` is called; returns when every loop has ended.

        `watch` is called now and then, on this thread.
        """
        self._scheduler.start()
        for thread in self._threads:
            thread.start()
        try:
            while not self._stop_asked:
                self._stopping.wait(WATCH_S)
                self._rearm()
                watch()
        finally:
            self._stopping.set()
            for thread in self._threads:
                thread.join()
            self._scheduler.shutdown(wait=True)

    def rest(self, seconds: float) -> bool:
        """Sleep, unless the end is asked for. Always False: a `wait` that finds no news."""
        self._stopping.wait(max(0.0, seconds))
        return False

    def stop(self) -> None:
        """Ask for the end; may be called from a signal handler."""
        # A signal handler must not take the lock that the interrupted thread may hold.
        self._stop_asked = True

    def _turn(self, loop: Loop) -> None:
        while not self._stopping.is_set():
            begin = self._clock.monotonic()
            if self._guarded(loop.name, loop.tick):
                self._wait(loop, begin)
            else:
                self._stopping.wait(PAUSE_S)

    def _wait(self, loop: Loop, begin: float) -> None:
        """Wait for news or for the period to end, in pieces short enough to notice the end."""
        while not self._stopping.is_set():
            remaining_s = begin + loop.period_s - self._clock.monotonic()
            if remaining_s <= 0:
                return
            try:
                if loop.wait(min(remaining_s, PAUSE_S)):
                    self.rest(begin + loop.rest_s - self._clock.monotonic())
                    return
            except Exception as error:  # noqa: BLE001  # the edge of the loop, as for its tick
                self._failed(loop.name, error)
                self._stopping.wait(PAUSE_S)
                return

    def _guarded(self, name: str, tick: Callable[[], None]) -> bool:
        """One tick; whether it went well."""
        begin = self._clock.monotonic()
        try:
            tick()
        except (ConnectionError, AutohealError) as error:
            self._failed(name, error)
            return False
        except Exception as error:
            # The edge of the loop: whatever went wrong, things stay as they are and it is told.
            log.debug("%s: unexpected", name, exc_info=True)
            self._failed(name, error)
            return False
        self._telemetry.ticked(name, self._clock.monotonic() - begin)
        if self._trouble.pop(name, None) is not None:
            log.info("%s: goes on", name)
        return True

    def _failed(self, name: str, error: Exception) -> None:
        self._telemetry.failed(name)
        words = str(error) or type(error).__name__
        if self._trouble.get(name) != words:
            self._trouble[name] = words
            log.error("%s: %s: %s", name, type(error).__name__, words)

    def _skipped(self, _: JobEvent) -> None:
        self._telemetry.skipped.inc()

    def _rearm(self) -> None:
        """Apscheduler follows the wall clock: after a step back its jobs would sleep it out."""
        for job in self._jobs.values():
            scheduled = self._scheduler.get_job(job.name)
            latest = wall_time() + timedelta(seconds=2 * job.period_s)
            if scheduled.next_run_time > latest:
                log.warning("the wall clock went back: %s runs again now", job.name)
                self._arm(job)

    def _arm(self, job: Job) -> None:
        """Run the job at its next good instant, and every period from there."""
        delay_s = 0.0 if job.phase_s is None else job.phase_s()
        first = wall_time() + timedelta(seconds=delay_s)
        self._scheduler.reschedule_job(
            job.name, trigger="interval", seconds=job.period_s, start_date=first
        )
        self._scheduler.modify_job(job.name, next_run_time=first)
