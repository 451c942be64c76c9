"""The closing as people see it: tables where there is room for them, else stacked rows."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autoheal.demo import words
from autoheal.demo.closing import STILL_OPEN, TIMES, DecisionRow, IncidentRow, Summary, summarise
from autoheal.demo.story import Closing
from autoheal.model import IncidentEnd

# Narrower than this, columns would be slits; wider, the eye loses the row.
TABLE_WIDTH_MIN = 90
WIDTH_MAX = 120
# `raise_memory 256MiB -> 356MiB` stays on one line, and so does `1h10m5s`.
DEED_WIDTH = 29
TIME_WIDTH = 7

_STYLES = {
    IncidentEnd.REMEDIED.upper(): "green",
    IncidentEnd.ESCALATED.upper(): "yellow",
    STILL_OPEN: "red",
}
_MEANINGS = {
    IncidentEnd.REMEDIED.upper(): "an action of ours was applied",
    IncidentEnd.ESCALATED.upper(): "people were told, which is the act",
    IncidentEnd.CLEARED.upper(): "it passed without us",
}


def closing_view(closing: Closing, total_ms: int, width: int) -> RenderableType:
    """All that is said at the end, for a terminal or a page of this width."""
    summary = summarise(closing)
    wide = width >= TABLE_WIDTH_MIN
    parts: list[RenderableType] = [""]
    if closing.interrupted:
        until = f"{words.clock(closing.at_ms)} of {words.clock(total_ms)}"
        parts += [Text(f"Interrupted at {until}.", style="bold"), ""]
    parts += [_heading("Incidents"), *_incidents(summary, wide=wide), ""]
    parts += [_heading("Decisions outside incidents"), *_others(summary, wide=wide), ""]
    parts += [Text(f"{summary.counts}."), ""]
    parts += [_heading("Where to go next"), *_next_steps(wide=wide)]
    return Constrain(Group(*parts), min(width, WIDTH_MAX))


def _heading(words: str) -> Text:
    return Text(words, style="bold")


def _incidents(summary: Summary, *, wide: bool) -> Iterable[RenderableType]:
    if not summary.incidents:
        yield Text("none")
        return
    if wide:
        yield _incident_table(summary)
    else:
        for row in summary.incidents:
            yield from _incident_stack(row)
    seen = {row.end for row in summary.incidents}
    meanings = [f"{end}: {meaning}." for end, meaning in _MEANINGS.items() if end in seen]
    if meanings:
        yield Text(" ".join(meanings), style="dim")


def _incident_table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    table.add_column("INCIDENT", ratio=3, overflow="fold")
    table.add_column("DECISION", width=DEED_WIDTH, overflow="fold")
    table.add_column("OUTCOME", ratio=2, overflow="fold")
    for title in TIMES:
        table.add_column(title.upper(), width=TIME_WIDTH, overflow="fold")
    for row in summary.incidents:
        incident = Text(f"{row.service}\n{row.seen}")
        outcomes = [Text(each.outcome) for each in row.decisions] or [Text("")]
        ended = _end(row).append("\n").append_text(outcomes[0])
        made = [_made(each) for each in row.decisions] or [Text("-")]
        table.add_row(incident, made[0], ended, *row.times)
        for what, outcome in zip(made[1:], outcomes[1:], strict=True):
            table.add_row("", what, outcome, "", "", "")
    return table


def _end(row: IncidentRow) -> Text:
    return Text("").append(row.end, style=_STYLES.get(row.end, ""))


def _made(row: DecisionRow) -> Text:
    return Text(f"{_deed(row)}\n{row.rule}")


def _deed(row: DecisionRow) -> str:
    return f"{row.deed}, {row.times} times" if row.times > 1 else row.deed


def _incident_stack(row: IncidentRow) -> Iterable[RenderableType]:
    yield Text(f"{row.service}: {row.seen}", overflow="fold")
    for each in row.decisions:
        yield _indented(Text(f"{_deed(each)} ({each.rule}): {each.outcome}"))
    times = ", ".join(f"{what} {time}" for what, time in zip(TIMES, row.times, strict=True))
    yield _indented(_end(row).append(f": {times}"))


def _others(summary: Summary, *, wide: bool) -> Iterable[RenderableType]:
    if not summary.others:
        yield Text("none")
    elif wide:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("SERVICE", "DECISION", "RULE", "OUTCOME"):
            table.add_column(title, overflow="fold")
        for row in summary.others:
            rule = row.rule.removeprefix("rule ")
            table.add_row(*map(Text, (row.about, _deed(row), rule, row.outcome)))
        yield table
    else:
        for row in summary.others:
            yield Text(f"{row.about}: {_deed(row)} ({row.rule})", overflow="fold")
            yield _indented(Text(row.outcome))


def _next_steps(*, wide: bool) -> Iterable[RenderableType]:
    for step, meaning in words.NEXT_STEPS:
        if wide:
            yield Text(f"  {step:<30}{meaning}")
        else:
            yield _indented(Text(step))
            yield Padding(Text(meaning, style="dim"), (0, 0, 0, 6))


def _indented(text: Text) -> RenderableType:
    return Padding(text, (0, 0, 0, 2))
