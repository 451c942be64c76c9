"""What a person, a file and a program are told of a demonstration."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import builders
from autoheal.demo.audience import audience_for
from autoheal.demo.json_lines import JsonLines
from autoheal.demo.plain import Plain
from autoheal.demo.screen import Screen, Terminal
from autoheal.demo.story import Audience, Decided, Glance, Happened
from autoheal.model import Mode
from autoheal.records import decision_body
from demo import paper, stories

builders.use_hypothesis_profile()

HERE = Path(__file__).parent
TERMINAL = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "30"}


class Teletype(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="")

    def isatty(self) -> bool:
        return True

    def written(self) -> str:
        self.flush()
        self.seek(0)
        return self.read()


def screen(width: int, height: int = 30) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=True,
        color_system=None,
        width=width,
        height=height,
        highlight=False,
        _environ={},
    )
    return Screen(console), out


def shown(width: int, height: int = 30) -> str:
    audience, out = screen(width, height)
    stories.play(audience)
    return "\n".join(paper.seen(out.getvalue()))


def written(audience: Callable[[TextIO], Audience]) -> str:
    out = io.StringIO()
    stories.play(audience(out))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", lambda: written(Plain)),
        ("json", lambda: written(JsonLines)),
        ("screen-60", lambda: shown(60)),
        ("screen-100", lambda: shown(100)),
    ],
)
def test_what_is_told_is_as_it_was_agreed(name: str, text: Callable[[], str]) -> None:
    golden = HERE / f"{name}.golden"
    assert text() == golden.read_text(), f"if this is meant, write it to {golden}"


# whoever is told


@pytest.mark.parametrize(
    ("out", "as_json", "term", "audience"),
    [
        (Teletype, False, "xterm", Screen),
        (Teletype, False, "dumb", Plain),
        (io.StringIO, False, "xterm", Plain),
        (io.StringIO, True, "xterm", JsonLines),
        (Teletype, True, "xterm", JsonLines),
    ],
)
def test_only_a_person_at_a_terminal_that_can_draw_gets_a_screen(
    out: Callable[[], TextIO], as_json: bool, term: str, audience: type
) -> None:
    with audience_for(out(), as_json=as_json, environment={"TERM": term}) as chosen:
        assert isinstance(chosen, audience)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_closed_pipe_is_the_callers_to_handle(as_json: bool) -> None:
    out = unread_pipe()
    with (
        pytest.raises(BrokenPipeError),
        audience_for(out, as_json=as_json, environment={}) as audience,
    ):
        stories.play(audience)
    with contextlib.suppress(BrokenPipeError):
        out.close()


def test_a_terminal_that_is_gone_is_the_callers_to_handle() -> None:
    out = unread_pipe()
    with (
        pytest.raises(BrokenPipeError),
        Screen(Terminal(out, {"FORCE_COLOR": "1"})) as audience,
    ):
        stories.play(audience)
    with contextlib.suppress(BrokenPipeError):
        out.close()


def unread_pipe() -> TextIO:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError])
def test_the_terminal_is_as_before_however_the_demonstration_ends(
    end: type[BaseException],
) -> None:
    out = Teletype()
    with (
        pytest.raises(end),
        audience_for(out, as_json=False, environment=TERMINAL) as audience,
    ):
        broken_off(audience, end)
    text = out.written()
    assert text.rfind(paper.CURSOR_SHOWN) > text.rfind(paper.CURSOR_HIDDEN) >= 0


def broken_off(audience: Audience, end: type[BaseException]) -> None:
    audience.open(stories.OPENING)
    raise end


def test_after_an_interruption_the_closing_says_when() -> None:
    audience, out = screen(80)
    audience.open(stories.OPENING)
    closing = dataclasses.replace(stories.CLOSING, at_ms=754_000, interrupted=True)
    with audience:
        audience.close(closing)
    assert "Interrupted at 00:12:34 of 01:00:00." in paper.seen(out.getvalue())
    assert out.getvalue().count("Where to go next") == 1


# the screen


@given(width=st.integers(40, 200), height=st.integers(8, 60), words=st.text(max_size=80))
def test_no_line_is_wider_than_the_terminal(width: int, height: int, words: str) -> None:
    audience, out = screen(width, height)
    audience.open(dataclasses.replace(stories.OPENING, about=words, focus=words))
    long_name = dataclasses.replace(stories.RAISE, service_name=f"shop_{'x' * 60}", reason=words)
    incident = dataclasses.replace(stories.KILLED, service_name="y" * 60, evidence=words)
    audience.tell(Happened(0, words))
    audience.tell(Decided(0, long_name))
    for glance in stories.glances(600_000):
        audience.glance(glance)
    closing = dataclasses.replace(
        stories.CLOSING, incidents=(incident,), decisions=((long_name, None),)
    )
    audience.close(closing)
    assert max(map(cell_len, paper.seen(out.getvalue()))) <= width


@pytest.mark.parametrize("width", [40, 60, 90, 91, 100, 120, 200])
def test_nothing_of_the_closing_is_cut_off(width: int) -> None:
    audience, out = screen(width)
    audience.close(stories.CLOSING)
    told = " ".join("\n".join(paper.seen(out.getvalue())).split()).lower()
    for each in ("recover", "35s", "3m10s", "14m", "raise_memory 256mib", "escalated", "2 pages"):
        assert each in told


def test_dry_run_and_live_are_told_apart_at_every_moment() -> None:
    audience, out = screen(80)
    audience.open(stories.OPENING)
    audience.glance(Glance(0, Mode.DRY_RUN, 2, 2, 40.0))
    assert any(line.startswith(" DRY RUN ") for line in paper.seen(out.getvalue()))
    audience.glance(Glance(stories.LIVE_AT, Mode.LIVE, 2, 2, 40.0))
    lines = paper.seen(out.getvalue())
    assert any(line.startswith(" LIVE ") for line in lines)
    assert not any(line.startswith(" DRY RUN ") for line in lines)


def test_tasks_that_do_not_run_and_figures_that_do_not_come_are_told() -> None:
    audience, out = screen(80)
    audience.open(stories.OPENING)
    audience.glance(Glance(0, Mode.DRY_RUN, 3, 1, None))
    assert "shop_web  cpu no data, replicas 3, running 1" in paper.seen(out.getvalue())


def test_without_unicode_the_screen_is_drawn_in_ascii() -> None:
    out = Teletype("ascii")
    with audience_for(out, as_json=False, environment=TERMINAL) as audience:
        audience.open(stories.OPENING)
        audience.tell(Happened(0, "a caf\N{LATIN SMALL LETTER E WITH ACUTE} opens"))
        for glance in stories.glances():
            audience.glance(glance)
        audience.close(stories.CLOSING)
    lines = paper.seen(out.written())
    assert any(line.endswith("a caf? opens") for line in lines)
    assert any(line.startswith("      0% ####") for line in lines)


def test_no_color_is_heeded() -> None:
    colours = "\x1b[3"  # foreground colours are 30 to 37 and 38;...
    texts = {}
    for no_color in ("", "1"):
        out = Teletype()
        environment = {**TERMINAL, "NO_COLOR": no_color}
        with audience_for(out, as_json=False, environment=environment) as audience:
            stories.play(audience)
        texts[no_color] = out.written()
    assert colours in texts[""]
    assert colours not in texts["1"]


# lines


@given(words=st.text(max_size=80))
def test_plain_is_one_line_a_fact_without_control_codes(words: str) -> None:
    out = io.StringIO()
    audience = Plain(out)
    audience.tell(Happened(61_000, words))
    audience.tell(Decided(61_000, dataclasses.replace(stories.PAGE, reason=words)))
    lines = out.getvalue().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_plain_says_nothing_of_time_that_passes() -> None:
    out = io.StringIO()
    Plain(out).glance(Glance(0, Mode.LIVE, 2, 2, 40.0))
    assert out.getvalue() == ""


def test_plain_writes_what_the_encoding_cannot_express_as_question_marks() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Plain(out).tell(Happened(0, "\N{SNOWMAN} falls"))
    out.seek(0)
    assert out.read() == "00:00:00 world    ? falls\n"


@pytest.mark.parametrize("audience", [Plain, JsonLines])
def test_every_line_is_there_as_soon_as_it_was_told(audience: Callable[[TextIO], Audience]) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(io.BufferedWriter(raw))
    audience(out).tell(Happened(0, "rain"))
    assert b"rain" in raw.getvalue()


# objects


def objects() -> list[dict[str, object]]:
    return [json.loads(line) for line in written(JsonLines).splitlines()]


def test_json_gives_a_decision_as_it_was_signed() -> None:
    (told, *_) = (each for each in objects() if each["type"] == "decided")
    body = dict(told["decision"])  # type: ignore[call-overload]  # JSON
    assert body.pop("id") == stories.WOULD_SCALE.id
    assert body == json.loads(decision_body(stories.WOULD_SCALE))


def test_json_glances_are_the_first_of_their_minutes() -> None:
    out = io.StringIO()
    audience = JsonLines(out)
    for second in (59, 60, 61, 119, 250):
        audience.glance(Glance(second * 1_000, Mode.LIVE, 2, 2, None))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["at_ms"] for line in lines] == [59_000, 60_000, 250_000]


def test_json_glances_once_a_minute_and_closes_last() -> None:
    told = objects()
    glances = [each["at_ms"] for each in told if each["type"] == "glance"]
    assert glances == [minute * stories.MINUTE for minute in range(61)]
    assert [each["type"] for each in told].index("closing") == len(told) - 1
