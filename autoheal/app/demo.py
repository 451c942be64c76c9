"""`autoheal demo`: a scenario on a simulated Swarm, shown to whoever reads standard output."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from autoheal.adapters.clock import SystemClock
from autoheal.adapters.logs import configure
from autoheal.app.parts import rulebook
from autoheal.app.simulated import QUANTA, SimulatedMemory, passing_store, simulation
from autoheal.demo.demonstration import Demonstration, Pace
from autoheal.demo.scenario import Scenario
from autoheal.demo.scenarios import SCENARIOS
from autoheal.engine import Rulebook
from autoheal.errors import UserError
from autoheal.settings import LogFormat, LogLevel, Settings, load_settings

# A sleep is not ended by a signal that only leaves word.
LOOK_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_SECRETS = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be shown. `speed` is simulated seconds a second, 0 for as fast as it goes.

    `rules` are files or directories, separated by commas; None for those that `autoheal run` would
    find.
    """

    scenario: str
    seed: int
    speed: float
    rules: str | None
    as_json: bool


def show(request: Request) -> int:
    """Show it until it is over or interrupted; the exit code. Raises UserError."""
    _require_sense(request)
    with _interruption() as interruption:
        scenario = _scenario(request)
        settings = _settings(scenario, request.rules)
        configure(settings.log_level, settings.log_format)
        try:
            _show(request, scenario, settings, interruption)
        except UserError:
            # What ended it may have taken more with it: a hangup, the terminal.
            if interruption.by is None:
                raise
    return 0 if interruption.by is None else 128 + interruption.by


def _require_sense(request: Request) -> None:
    if not math.isfinite(request.speed):
        raise UserError(f"--speed: {request.speed} is no number of seconds")
    if sys.stdout is None:
        raise UserError("standard output is closed: nobody could see it")


def _show(
    request: Request, scenario: Scenario, settings: Settings, interruption: Interruption
) -> None:
    from autoheal.demo.audience import audience_for  # noqa: PLC0415  # rich comes with an extra

    book = rulebook(settings)
    world = scenario.world(request.seed, settings.step_ms // QUANTA)
    pace = Pace(request.speed or None, SystemClock(), interruption.wait, interruption.is_over)
    with passing_store(world.clock) as store:
        parts = simulation(settings, scenario, world, store, book)
        with audience_for(sys.stdout, as_json=request.as_json, environment=os.environ) as audience:
            memory = SimulatedMemory(store, world.clock)
            demonstration = Demonstration(scenario, parts, memory, audience)
            try:
                demonstration.run(pace, seed=request.seed, rules=_names(book))
            except BrokenPipeError:
                raise
            except OSError as error:  # the store has gone, or nothing more can be written
                raise UserError(f"the demonstration cannot go on: {error}") from error


def _scenario(request: Request) -> Scenario:
    build = SCENARIOS.get(request.scenario)
    if build is None:
        known = ", ".join(SCENARIOS)
        raise UserError(f'no scenario "{request.scenario}" (there are: {known})')
    return build(request.seed)


def _settings(scenario: Scenario, rules: str | None) -> Settings:
    """The defaults and what the scenario asks for: not this machine's, so that it repeats."""
    overrides = {} if rules is None else {"rules": rules}
    quiet = {"AUTOHEAL_LOG_LEVEL": LogLevel.ERROR, "AUTOHEAL_LOG_FORMAT": LogFormat.TEXT}
    return load_settings(
        {**scenario.settings, **quiet}, overrides=overrides, secrets_directory=NO_SECRETS
    )


def _names(book: Rulebook) -> list[str]:
    return sorted(book.texts)


class Interruption:
    """Whether somebody wants it to end. Signals only leave word, so nothing is left half done."""

    def __init__(self) -> None:
        self.by: int | None = None
        self._clock = SystemClock()

    def note(self, number: int, _: FrameType | None) -> None:
        """A signal handler."""
        self.by = number

    def is_over(self) -> bool:
        """Whether the end was asked for."""
        return self.by is not None

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the end is asked for."""
        deadline = self._clock.monotonic() + seconds
        while not self.is_over() and (left := deadline - self._clock.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))


@contextmanager
def _interruption() -> Iterator[Interruption]:
    interruption = Interruption()
    # Whoever started us may have some of them ignored, as nohup does.
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.note) for number in heeded}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
