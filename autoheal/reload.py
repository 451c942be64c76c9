"""Rule files that change while the engine runs: read again, checked whole, handed over.

Files are looked at every few seconds, and at once when somebody asks (SIGHUP), but read only when
their names, times, sizes or inodes say that they changed: so do a file saved in place, one put in
its place, and a directory that is a link to another one since, as mounted configs are. Editors
write in several steps: what two looks in a row read alike, and nothing else, is judged.

A set with a mistake in it changes nothing: the last good one stays in force, the log says once what
is wrong, and a metric says so until it is mended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoheal import rulefile
from autoheal.errors import UserError
from autoheal.ports import Clock
from autoheal.rulefile import Loaded
from autoheal.rulefile.files import read_texts
from autoheal.rulefile.mistakes import Notes
from autoheal.telemetry import Telemetry

MISTAKES_TOLD_MAX = 3
# Between two looks at what is being written; between two pieces of what is being prepared.
SETTLE_S = 1.0
PIECE_S = 0.1
SUFFIXES = (".yaml", ".yml")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file was written or replaced; `error` where it cannot be looked at."""

    name: str
    inode: tuple[int, int] = (0, 0)
    size: int = 0
    written_ns: int = 0
    error: str = ""


class Reloader:
    """The loop; `tick()` is one look.

    `texts` are in force at the beginning. `refuse` raises UserError for rules that the settings
    contradict. `take` puts rules in force; False: not yet, call it again. `drop` says
    that nobody wants them any more. `rest` sleeps.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        texts: Mapping[str, bytes],
        *,
        refuse: Callable[[Loaded], None],
        take: Callable[[Loaded], bool],
        drop: Callable[[], None],
        rest: Callable[[float], bool],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._paths = tuple(paths)
        self._refuse = refuse
        self._take = take
        self._drop = drop
        self._rest = rest
        self._clock = clock
        self._telemetry = telemetry
        self._in_force = texts
        self._judged: tuple[Stamp, ...] | None = None
        self._last: tuple[tuple[Stamp, ...], dict[str, bytes]] | None = None
        self._coming: Loaded | None = None
        self._mistakes = ""
        self._is_asked = False
        self._succeeded()

    def ask(self) -> None:
        """Look at once, and say what was found. May be called from a signal handler."""
        self._is_asked = True

    def wait(self, at_most_s: float) -> bool:
        """Rest; whether the next look is due before its time."""
        pause_s = PIECE_S if self._coming is not None else SETTLE_S
        self._rest(min(at_most_s, pause_s))
        return self._is_asked or self._last is not None or self._coming is not None

    def tick(self) -> None:
        """Look, and go on with what is being put in force.

        Raises ConnectionError, and UserError where the store is another version's: call again.
        """
        if self._is_asked:
            self._is_asked = False
            self._judged, self._mistakes, self._in_force = None, "", {}
        stamps = _stamps(self._paths)
        if stamps == self._judged:
            self._last = None
        else:
            self._look(stamps)
        if self._coming is not None and self._take(self._coming):
            self._tell_of_success(self._coming)
            self._coming = None

    def _look(self, stamps: tuple[Stamp, ...]) -> None:
        """Judge what is there, if it was the same at the last look."""
        seen = stamps, read_texts(self._paths, Notes())
        if seen != self._last:
            self._last = seen
            return
        judged = self._judge()
        # What was judged must be what was seen.
        if (_stamps(self._paths), read_texts(self._paths, Notes())) == seen:
            self._last, self._judged = None, stamps
            self._conclude(judged)

    def _judge(self) -> Loaded | UserError:
        try:
            loaded = rulefile.load(self._paths)
            self._refuse(loaded)
        except UserError as error:
            return error
        return loaded

    def _conclude(self, judged: Loaded | UserError) -> None:
        """Prepare to put good rules in force; of others, tell."""
        if isinstance(judged, UserError):
            self._abandon()
            self._tell_of_mistakes(str(judged))
        elif self._mistakes or judged.texts != self._in_force:
            self._coming = judged
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Prepare nothing any more, and have nobody keep what was prepared so far."""
        self._coming = None
        self._drop()

    def _tell_of_mistakes(self, words: str) -> None:
        self._telemetry.reload_successful.set(0)
        if words != self._mistakes:
            self._mistakes = words
            log.error("rules not reloaded, those in force stay: %s", _shortened(words))

    def _tell_of_success(self, loaded: Loaded) -> None:
        self._mistakes, self._in_force = "", loaded.texts
        self._succeeded()
        rules = loaded.rules
        log.info("rules reloaded: %d rules, %s", len(rules.rules), rules.hash)

    def _succeeded(self) -> None:
        self._telemetry.reload_successful.set(1)
        self._telemetry.reload_success.set(self._clock.wall_ms() / 1000)


def _shortened(words: str) -> str:
    """The first mistakes, on one line."""
    first, *more = words.split("\n")
    told = [first, *more[: MISTAKES_TOLD_MAX - 1]]
    left = len(more) + 1 - len(told)
    return "; ".join(told) + (f"; and {left} more" if left else "")


def _stamps(paths: Sequence[Path]) -> tuple[Stamp, ...]:
    """The stamps of these files, and of all that could be rule files in these directories."""
    return tuple(_stamp(file) for path in paths for file in _files(path))


def _files(path: Path) -> list[Path]:
    try:
        return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    except OSError:
        # A file, or nothing that can be looked into, which its own stamp will say.
        return [path]


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        return Stamp(str(path), error=str(error))
    inode = found.st_dev, found.st_ino
    return Stamp(str(path), inode, found.st_size, found.st_mtime_ns)
