"""Ctrl-C ends a command cleanly at any moment: exit code 130, no traceback, nothing left behind.

From the moment on at which its own first function runs: Python's start, before, is not ours.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import builders
import parts
import places
from autoheal import records
from autoheal.app.loops import make_engine
from autoheal.app.process import Process
from autoheal.app.rules import rulebook
from autoheal.app.stores import Memory, connect_to
from autoheal.ports import Write
from autoheal.settings import load_settings
from context_store import EmbeddedServer
from places import await_heeded

CHECKOUT = Path(__file__).resolve().parent.parent
RULES = CHECKOUT / "rules"
INTERRUPTED = 130

# `python -m autoheal`, struck by a SIGINT when the condition given first holds, an expression of
# calls    how many functions were called since the command line's first line
# event    what happens now, in words of sys.setprofile: call, c_call...
# name     the name of the C function that is called, where it is one
# caller   the name of the function that calls it
STRUCK = """
import runpy, signal, sys

condition, *arguments = sys.argv[1:]
condition = compile(condition, "condition", "eval")
calls = 0

def profile(frame, event, function):
    global calls
    if calls == 0 and not frame.f_code.co_filename.endswith("autoheal/cli.py"):
        return
    calls += event == "call"
    name, caller = getattr(function, "__name__", ""), frame.f_code.co_name
    known = {"calls": calls, "event": event, "name": name, "caller": caller}
    if eval(condition, known):
        sys.setprofile(None)
        print("struck", file=sys.stderr)
        signal.raise_signal(signal.SIGINT)

sys.argv = ["autoheal", *arguments]
sys.setprofile(profile)
try:
    runpy.run_module("autoheal", run_name="__main__")
finally:
    sys.setprofile(None)
    print(f"{calls} calls", file=sys.stderr)
"""
NEVER = "False"


class Place(places.Place):
    """One where commands are interrupted; `variables` are what they are started with."""

    def __init__(self) -> None:
        super().__init__()
        self.variables = self.environment({"AUTOHEAL_LISTEN": "off", "PYTHONHASHSEED": "0"})

    def start(self, *command: str) -> subprocess.Popen[str]:
        return self.popen(command, self.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def struck(self, condition: str, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command that is interrupted on that condition."""
        process = self.start(sys.executable, "-c", STRUCK, condition, *arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as found:
        yield found


@dataclass(frozen=True)
class Command:
    """One that goes well when it is left alone: what it is told, how many functions it calls."""

    arguments: tuple[str, ...]
    calls: int


def command(*arguments: str) -> Command:
    with Place() as place:
        code, output, errors = place.struck(NEVER, *arguments)
    assert code == 0, errors
    assert output
    return Command(arguments, int(errors.split()[-2]))


@pytest.fixture(scope="module")
def check() -> Command:
    return command("check", str(RULES))


@pytest.fixture(scope="module")
def status() -> Iterator[Command]:
    server = EmbeddedServer()
    try:
        url = server.start()
        tick(url)
        yield command("status", "--store-url", url)
    finally:
        server.stop()


def tick(url: str) -> None:
    """An engine has seen a service there and decided once."""
    process = Process.of(load_settings({"AUTOHEAL_RULES": str(RULES)}))
    memory = Memory(connect_to(url, process.clock), process.clock)
    seen = builders.inventory(
        services=[builders.service()], keyframe=True, clock_ms=process.clock.wall_ms()
    )
    entry = records.pack_inventory(seen)
    memory.append([Write(records.INVENTORY, entry, 1, process.clock.monotonic())])
    engine = make_engine(process.common, memory, rulebook(process.settings), b"k" * 32)

    def has_ticked() -> bool:
        engine.tick()
        return bool(memory.reader((records.TICKS,), since_ms=0).cut().entries)

    parts.until(has_ticked, 30, "the engine has ticked")


@pytest.fixture(scope="module", params=["check", "status"])
def some_command(request: pytest.FixtureRequest) -> Command:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Command)
    return found


def assert_no_traceback(errors: str) -> None:
    assert "Traceback" not in errors
    assert "KeyboardInterrupt" not in errors


def test_the_installed_command_heeds_interrupts_too() -> None:
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        scripts = tomllib.load(file)["project"]["scripts"]
    assert scripts == {"autoheal": "autoheal.__main__:main"}


@pytest.mark.parametrize("part", range(10))
def test_at_any_call_of_a_command(place: Place, some_command: Command, part: int) -> None:
    now = f"calls == {1 + part * some_command.calls // 10}"
    code, output, errors = place.struck(now, *some_command.arguments)
    assert "struck" in errors
    assert_no_traceback(errors)
    assert (code, output) == (INTERRUPTED, ""), errors
    assert place.left() == []


def test_a_module_that_tells_every_error_as_an_import_error_is_loaded_first(place: Place) -> None:
    """As numpy does with what happens while its parts in C load."""
    (place.cwd / "stubborn.py").write_text(
        "import signal\n"
        "try:\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "except BaseException as error:\n"
        "    raise ImportError('stubborn') from error\n"
        "print('loaded')\n"
    )
    code = """
import time, autoheal.cli, autoheal.__main__

def command():
    import stubborn
    time.sleep(50)

autoheal.cli.main = command
autoheal.__main__.main()
"""
    process = place.start(sys.executable, "-c", code)
    assert process.communicate(timeout=60) == ("loaded\n", "")
    assert process.returncode == INTERRUPTED


def test_a_cache_gets_no_half_written_file(place: Place, check: Command) -> None:
    cache = place.path / "cache"
    place.variables["PYTHONPYCACHEPREFIX"] = str(cache)
    del place.variables["PYTHONDONTWRITEBYTECODE"]
    now = "name == 'replace' and caller == '_write_atomic'"
    code, _, errors = place.struck(now, *check.arguments)
    assert "struck" in errors
    assert code == INTERRUPTED
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} == {".pyc"}


def test_one_that_waited_goes_to_the_command_that_handles_them_by_then(place: Place) -> None:
    (place.cwd / "loop.py").write_text(
        "import signal\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "heard = []\n"
        "signal.signal(signal.SIGINT, lambda *_: heard.append('heard'))\n"
    )
    code = """
import time, autoheal.cli, autoheal.__main__

def command():
    import loop
    while not loop.heard:
        time.sleep(0.01)
    print(*loop.heard)

autoheal.cli.main = command
autoheal.__main__.main()
"""
    process = place.start(sys.executable, "-c", code)
    assert process.communicate(timeout=60) == ("heard\n", "")
    assert process.returncode == 0


def test_a_second_one_does_not_stop_what_cleans_up(place: Place) -> None:
    code = """
import atexit, signal, autoheal.cli, autoheal.__main__

def at_end():
    signal.raise_signal(signal.SIGINT)
    print("all of it")

def command():
    atexit.register(at_end)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("cleaned up")

autoheal.cli.main = command
autoheal.__main__.main()
"""
    process = place.start(sys.executable, "-c", code)
    assert process.communicate(timeout=60) == ("cleaned up\nall of it\n", "")
    assert process.returncode == INTERRUPTED


def test_in_a_finaliser_it_is_not_lost(place: Place) -> None:
    code = """
import signal, time, autoheal.cli, autoheal.__main__

class Connection:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def command():
    Connection()
    time.sleep(50)

autoheal.cli.main = command
autoheal.__main__.main()
"""
    process = place.start(sys.executable, "-c", code)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == INTERRUPTED


def test_pythons_own_end_tells_nothing_of_one(place: Place) -> None:
    code = """
import atexit, signal, autoheal.cli, autoheal.__main__

atexit.register(signal.raise_signal, signal.SIGINT)
autoheal.cli.main = lambda: None
autoheal.__main__.main()
"""
    process = place.start(sys.executable, "-c", code)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_whoever_has_them_ignored_is_not_interrupted(place: Place, check: Command) -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    now = f"calls == {check.calls // 2}"
    command = (*ignoring, sys.executable, "-c", STRUCK, now, *check.arguments)
    process = place.start(*command)
    output, errors = process.communicate(timeout=60)
    assert "struck" in errors
    assert process.returncode == 0
    assert output.endswith(": ok\n")


@pytest.mark.parametrize("delay_ms", range(0, 400, 40))
def test_after_any_time_from_outside(place: Place, some_command: Command, delay_ms: int) -> None:
    process = place.start(sys.executable, "-m", "autoheal", *some_command.arguments)
    await_heeded(process)
    time.sleep(delay_ms / 1000)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # In Python's own end it dies of the signal; or it has ended before.
    assert process.returncode in {INTERRUPTED, -signal.SIGINT, 0}, errors
    assert_no_traceback(errors)
    assert place.left() == []
