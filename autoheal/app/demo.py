"""`autoheal demo`: a scenario on a simulated Swarm, shown to whoever reads standard output."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from autoheal.adapters.clock import SystemClock
from autoheal.adapters.logs import configure
from autoheal.app.rules import rulebook, shipped_rules
from autoheal.app.simulated import QUANTA, SimulatedMemory, passing_store, simulation
from autoheal.demo.demonstration import Demonstration, Tempo
from autoheal.demo.scenarios import SCENARIOS
from autoheal.demo.story import Audience
from autoheal.engine import Rulebook
from autoheal.errors import UserError
from autoheal.settings import LogFormat, LogLevel, Settings, load_settings
from autoheal.sim.scenario import Scenario

# A sleep is not ended by a signal that only leaves word.
LOOK_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NO_SECRETS = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be shown. `speed` is simulated seconds a second, 0 for as fast as it goes.

    `rules` are files or directories, separated by commas; None for those that ship.
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
        except (UserError, KeyboardInterrupt):
            _forget_output()
            # What ended it may have taken more with it: a hangup, the terminal.
            if interruption.by is None:
                raise
    return 0 if interruption.by is None else 128 + interruption.by


def _forget_output() -> None:
    """What could not be written is not tried again when Python ends: it would fail, or wait."""
    with suppress(OSError):  # a standard output that is no file has nothing to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _require_sense(request: Request) -> None:
    if not math.isfinite(request.speed):
        raise UserError("--speed must be a number (0: as fast as it goes)")
    if sys.stdout is None:
        raise UserError("standard output is closed: nobody could see it")


def _show(
    request: Request, scenario: Scenario, settings: Settings, interruption: Interruption
) -> None:
    audience_for = _audiences()
    book = rulebook(settings)
    world = scenario.world(request.seed, settings.step_ms // QUANTA)
    tempo = Tempo(request.speed or None, SystemClock(), interruption.wait, interruption.is_over)
    with passing_store(world.clock) as store:
        parts = simulation(settings, scenario, world, store, book)
        with audience_for(sys.stdout, as_json=request.as_json, environment=os.environ) as audience:
            memory = SimulatedMemory(store, world.clock)
            demonstration = Demonstration(scenario, parts, memory, audience)
            try:
                with interruption.of_the_show():
                    demonstration.run(tempo, seed=request.seed, rules=_names(book, request.rules))
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
    overrides = {"rules": str(shipped_rules()) if rules is None else rules}
    quiet = {"AUTOHEAL_LOG_LEVEL": LogLevel.ERROR, "AUTOHEAL_LOG_FORMAT": LogFormat.TEXT}
    return load_settings(
        {**scenario.settings, **quiet}, overrides=overrides, secrets_directory=NO_SECRETS
    )


def _names(book: Rulebook, rules: str | None) -> list[str]:
    """The rule files, as people know them."""
    names = sorted(book.texts)
    return names if rules is not None else [f"rules/{Path(name).name}" for name in names]


def _audiences() -> Callable[..., AbstractContextManager[Audience]]:
    """What draws comes with an extra."""
    try:
        from autoheal.demo.audience import audience_for  # noqa: PLC0415  # see above
    except ModuleNotFoundError as error:
        raise UserError(f"{error} (pip install 'swarm-autoheal[embedded]')") from error
    return audience_for


class Interruption:
    """Whether somebody wants it to end.

    The first signal only leaves word, so that nothing is left half done; a second one ends even a
    show that waits for a reader who does not read. None stops the cleaning up.
    """

    def __init__(self) -> None:
        self.by: int | None = None
        self._is_showing = False
        self._clock = SystemClock()

    def note(self, number: int, _: FrameType | None) -> None:
        """A signal handler."""
        if self.by is None:
            self.by = number
        elif self._is_showing:
            self._is_showing = False
            raise KeyboardInterrupt

    @contextmanager
    def of_the_show(self) -> Iterator[None]:
        """Within this a second signal raises KeyboardInterrupt, once."""
        self._is_showing = True
        try:
            yield
        finally:
            self._is_showing = False

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
