"""For a person at a terminal: facts scroll by above, and below them stands how things are now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import NoReturn, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoheal.demo import words
from autoheal.demo.chart import COLUMNS_MAX, LABEL_WIDTH, Chart
from autoheal.demo.story import Closing, Fact, Glance, Opening
from autoheal.demo.tables import closing_view
from autoheal.model import Mode

WIDTH_MAX = COLUMNS_MAX + LABEL_WIDTH
# Narrower than this, what is said stands below who says it.
BESIDE_WIDTH_MIN = 56
# Rows of CPU in the chart, by the least height of the terminal that leaves room for facts.
CHART_HEIGHTS = ((20, 4), (14, 2), (0, 1))

_STYLES = {
    words.WORLD: "cyan",
    words.DEMO: "bold green",
    words.ENGINE: "bold yellow",
    words.EXECUTOR: "green",
    words.PAGE: "bold red",
    words.NOTIFIER: "red",
    words.INCIDENT: "magenta",
}


class Terminal(Console):
    """A console that leaves it to the caller what a closed pipe means."""

    def __init__(self, out: TextIO, environment: Mapping[str, str]) -> None:
        super().__init__(file=out, highlight=False, markup=False, _environ=environment)

    def on_broken_pipe(self) -> NoReturn:
        """Called while a BrokenPipeError is handled: rich would exit, this raises it again."""
        raise  # noqa: PLE0704  # rich calls this in its `except`


class Screen:
    """Draws on the calling thread and at no other time than it is told something.

    The terminal is as before once it was closed, or left as a context manager; both may be done.
    Raises BrokenPipeError once the terminal is gone.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._opening: Opening | None = None
        self._chart = Chart(1)
        self._mode = Mode.DRY_RUN
        self._glance: Glance | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def open(self, opening: Opening) -> None:
        """Say what is about to be seen, and draw what stands below."""
        self._opening = opening
        self._chart = Chart(opening.total_ms)
        self._mode = Mode.LIVE if opening.live_at_ms <= 0 else Mode.DRY_RUN
        title, *lines = words.opening_lines(opening)
        self._print(Text(title, style="bold"))
        for line in lines:
            self._print(Text(line))
        self._print(Text(""))
        self._live.start()
        self._draw()

    def tell(self, fact: Fact) -> None:
        """Let the fact scroll by."""
        self._print(self._fact(words.tell(fact)))

    def glance(self, glance: Glance) -> None:
        """Draw how things are now."""
        self._glance, self._mode = glance, glance.mode
        self._chart.add(glance)
        self._draw()

    def close(self, closing: Closing) -> None:
        """Leave the chart where it stands, and print the tables."""
        self._restore()
        total_ms = self._opening.total_ms if self._opening else closing.at_ms
        self._print(closing_view(closing, total_ms, self._width))

    def _restore(self) -> None:
        if not self._live.is_started:
            return
        try:
            self._live.stop()
        finally:
            self._console.show_cursor(True)

    @property
    def _width(self) -> int:
        """The last column stays free: some terminals wrap once it is written."""
        return max(1, min(self._console.width - 1, WIDTH_MAX))

    def _print(self, what: RenderableType) -> None:
        self._console.print(Constrain(what, self._width))

    def _draw(self) -> None:
        self._live.update(Constrain(Group(*self._region()), self._width), refresh=True)

    # what scrolls by

    def _fact(self, told: words.Telling) -> RenderableType:
        at = Text(words.clock(told.at_ms), style="dim")
        who = Text(told.who, style=_STYLES[told.who])
        said = [Text(told.what, overflow="fold")]
        if told.why:
            said.append(Text(told.why, style="dim", overflow="fold"))
        if self._width < BESIDE_WIDTH_MIN:
            return Group(Text.assemble(at, " ", who), Padding(Group(*said), (0, 0, 0, 2)))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, width=max(map(len, words.SPEAKERS)))
        grid.add_column(overflow="fold")
        grid.add_row(at, who, Group(*said))
        return grid

    # what stands below

    def _region(self) -> Iterator[RenderableType]:
        opening = self._opening
        if opening is None:
            return
        yield ""
        yield self._now(opening.focus)
        plain_ascii = self._console.options.ascii_only
        for row in self._chart.draw(self._width, self._chart_height, plain_ascii=plain_ascii):
            yield Text(row, no_wrap=True, overflow="crop")
        yield self._modes(opening)
        yield self._progress(opening)

    @property
    def _chart_height(self) -> int:
        height = self._console.height
        return next(rows for least, rows in CHART_HEIGHTS if height >= least)

    def _now(self, focus: str) -> Text:
        line = Text(words.printable(focus), style="bold", no_wrap=True, overflow="crop")
        glance = self._glance
        if glance is None:
            return line
        cpu = "no data" if glance.cpu_percent is None else f"{glance.cpu_percent:.0f}%"
        line.append(f"  cpu {cpu}, replicas {glance.replicas}", style="not bold")
        if glance.running != glance.replicas:
            line.append(f", running {glance.running}", style="not bold yellow")
        return line

    def _modes(self, opening: Opening) -> Text:
        line = Text(no_wrap=True, overflow="crop")
        if self._mode is Mode.LIVE:
            line.append(" LIVE ", style="bold reverse green")
            return line.append(" what labels allow is carried out")
        line.append(" DRY RUN ", style="bold reverse yellow")
        if opening.live_at_ms >= opening.total_ms:
            return line.append(" no changes")
        return line.append(f" no changes until {words.clock(opening.live_at_ms)}")

    def _progress(self, opening: Opening) -> RenderableType:
        at_ms = 0 if self._glance is None else min(self._glance.at_ms, opening.total_ms)
        told = f"{words.clock(at_ms)} of {words.clock(opening.total_ms)}"
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=max(1, self._width - len(told) - 1))
        grid.add_column(no_wrap=True)
        grid.add_row(ProgressBar(total=max(1, opening.total_ms), completed=at_ms), told)
        return grid
