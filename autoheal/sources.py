"""Figures from elsewhere: asks each source of the rules at its turns, and writes what it told.

Several engines may run: the one that holds the lease `sources` asks, so that a source is asked once
per turn and not once per engine. Turns lie `every_ms` apart, each source's at a phase of its own,
so that not all are asked at once. A turn that was missed is not caught up on; a source that is new,
or newly ours, is asked at once.

Each question has a thread of its own, and a source at most one: one that hangs delays no other, nor
the same source once its file says something else of it. The adapter ends a question at the source's
timeout. Where it cannot, as in a look-up of a name, the loop gives up a moment later: that is a
failure, what comes after it is not listened to, and the source is asked again at its first turn
after the thread has ended.

A failure is written as a value of None with its reason: at once when it begins, and again every
minute for who begins to read later.
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from autoheal.adapters.tenure import Tenure, TenureOver
from autoheal.core.rule import Source
from autoheal.core.view.source_window import why_unreadable
from autoheal.errors import RemoteError
from autoheal.model import SourceValue
from autoheal.ports import Clock, FigureSource, Store
from autoheal.records import SOURCES, pack_source
from autoheal.telemetry import Telemetry
from autoheal.units import format_duration

LEASE = "sources"
ERROR_CHARACTERS_MAX = 200
SAME_FAILURE_S = 60.0
# The adapter ends a question at its timeout, and knows best what to say of it.
LAST_WORDS_S = 0.25

log = logging.getLogger(__name__)

Start = Callable[[Callable[[], None]], None]


def in_thread(work: Callable[[], None]) -> None:
    """Do it beside everything else; one that hangs must not keep the process from ending."""
    threading.Thread(target=work, name="source", daemon=True).start()


class SourceLoop:
    """The loop. `adapter` gives the way to ask a source; `start` begins a question beside it."""

    def __init__(
        self,
        *,
        store: Store,
        adapter: Callable[[Source], FigureSource],
        clock: Clock,
        telemetry: Telemetry,
        holder: str,
        lease_ttl_s: float,
        start: Start = in_thread,
    ) -> None:
        self._adapter = adapter
        self._clock = clock
        self._telemetry = telemetry
        self._start = start
        self._wanted: tuple[Source, ...] = ()
        self._in_force: tuple[Source, ...] = ()
        self._feeds: dict[str, _Feed] = {}
        self._questions: dict[_Feed, _Question] = {}
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._news = threading.Event()
        self._tenure = Tenure(
            store,
            clock,
            telemetry,
            name=LEASE,
            holder=holder,
            ttl_s=lease_ttl_s,
            streams=(SOURCES,),
            history_ms=None,
        )

    @property
    def is_leader(self) -> bool:
        """Whether this loop held the lease at its last tick."""
        return self._tenure.is_held

    def set_sources(self, sources: Sequence[Source]) -> None:
        """Ask these from the next tick on; those that are as before keep their turns."""
        self._wanted = tuple(sources)
        self._news.set()

    def tick(self) -> None:
        """Take in answers, begin what is due, write. Raises ConnectionError; call again."""
        now = self._clock.monotonic()
        self._renew()
        self._take_in()
        self._give_up(now)
        if not self._may_ask():
            self._stand_by()
            return
        try:
            self._ask(now)
            self._tenure.flush()
        except TenureOver as over:
            log.warning("%s; going on at the next tick", over)

    def wait(self, at_most_s: float) -> bool:
        """Wait for an answer or a turn; whether there is one."""
        rest_s = max(0.0, self._due_at() - self._clock.monotonic())
        if self._news.wait(min(at_most_s, rest_s)):
            self._news.clear()
            return True
        return rest_s <= at_most_s

    def stop(self) -> None:
        """Give up the lease, so that a standby goes on at once. Raises ConnectionError."""
        self._stand_by()
        self._tenure.end()

    # Who asks what

    def _renew(self) -> None:
        """Put a new set of sources in force."""
        wanted = self._wanted
        if wanted is self._in_force:
            return
        old, new = self._feeds, {source.name: self._feed(source) for source in wanted}
        for feed in old.values():
            if new.get(feed.source.name) is not feed:
                self._forget(feed)
        # Last: a set with an adapter that cannot be built is tried, and told of, at the next tick.
        self._feeds, self._in_force = new, wanted

    def _feed(self, source: Source) -> _Feed:
        """The one it has, if it is as before."""
        feed = self._feeds.get(source.name)
        if feed is not None and feed.source == source:
            return feed
        return _Feed(source, self._adapter(source))

    def _may_ask(self) -> bool:
        """Hold the lease, if there is anything to ask."""
        if self._feeds:
            return self._tenure.hold()
        if self._tenure.is_held:
            self._tenure.end()
        return False

    def _stand_by(self) -> None:
        """Others ask: what is known here grows old, and must not be told."""
        for feed in self._feeds.values():
            self._forget(feed)

    def _forget(self, feed: _Feed) -> None:
        if feed.turn is not None:
            feed.reset()
            self._telemetry.source_age.remove(feed.source.name)

    # Asking

    def _ask(self, now: float) -> None:
        """Begin a question to each source whose turn has come, and that is not at one."""
        for name, feed in self._feeds.items():
            asked = self._questions.get(feed)
            if now < feed.due_at or (asked is not None and not asked.is_given_up):
                continue
            if feed.turn is None:
                feed.told_at = now
                self._telemetry.source_age.labels(name).set_function(partial(self._age_s, feed))
            feed.turn = feed.turn_at(now)
            if asked is None:
                self._begin(feed, now)
            else:
                self._fail(feed, feed.silence, now)

    def _begin(self, feed: _Feed, now: float) -> None:
        question = _Question(feed, now + feed.source.timeout_ms / 1000 + LAST_WORDS_S)
        self._questions[feed] = question

        def work() -> None:
            self._answers.put(_answer(question))
            self._news.set()

        self._start(work)

    def _give_up(self, now: float) -> None:
        for feed, question in self._questions.items():
            if now >= question.give_up_at and not question.is_given_up:
                question.is_given_up = True
                if self._is_awaited(feed):
                    self._fail(feed, feed.silence, now)

    def _due_at(self) -> float:
        """When a turn comes, or a question is to be given up."""
        return min(self._dues(), default=math.inf) if self._tenure.is_held else math.inf

    def _dues(self) -> Iterator[float]:
        for feed in self._feeds.values():
            asked = self._questions.get(feed)
            yield feed.due_at if asked is None or asked.is_given_up else asked.give_up_at

    # Answers

    def _take_in(self) -> None:
        """Write what the sources told; what nobody waits for any more is dropped."""
        while (answer := self._next()) is not None:
            question, feed = answer.question, answer.question.feed
            del self._questions[feed]
            if question.is_given_up or not self._is_awaited(feed):
                continue
            now = self._clock.monotonic()
            if answer.value is None:
                self._fail(feed, answer.error, now)
            else:
                self._tell(feed, answer.value, now)

    def _is_awaited(self, feed: _Feed) -> bool:
        """Whether it is in force, and was asked since."""
        return self._feeds.get(feed.source.name) is feed and feed.turn is not None

    def _next(self) -> _Answer | None:
        try:
            return self._answers.get_nowait()
        except Empty:
            return None

    def _tell(self, feed: _Feed, value: float, now: float) -> None:
        if feed.error:
            log.info("source %s: told again", feed.source.name)
        feed.told_at, feed.error = now, ""
        feed.failed_at.clear()
        self._write(feed, value)

    def _fail(self, feed: _Feed, error: str, now: float) -> None:
        name = feed.source.name
        self._telemetry.source_failures.labels(name).inc()
        if error != feed.error:
            log.warning("source %s: %s", name, error)
        feed.error = error
        feed.failed_at = {
            text: at for text, at in feed.failed_at.items() if now < at + SAME_FAILURE_S
        }
        if error not in feed.failed_at:
            feed.failed_at[error] = now
            self._write(feed, None, error)

    def _write(self, feed: _Feed, value: float | None, error: str = "") -> None:
        told = SourceValue(feed.source.name, value, error, feed.source.definition)
        self._tenure.append(SOURCES, pack_source(told))

    def _age_s(self, feed: _Feed) -> float:
        return self._clock.monotonic() - feed.told_at


@dataclass(slots=True, eq=False)
class _Feed:
    """A source in force: its last turn (None: not asked yet), and what came of it.

    `told_at` is when it last told a figure, before its first one when it was first asked;
    `failed_at` when each reason for a failure was last written.
    """

    source: Source
    adapter: FigureSource
    turn: int | None = None
    told_at: float = 0.0
    error: str = ""
    failed_at: dict[str, float] = field(default_factory=dict)

    @property
    def due_at(self) -> float:
        """When the next turn begins."""
        if self.turn is None:
            return 0.0
        return ((self.turn + 1) * self.source.every_ms + self._phase_ms) / 1000

    @property
    def silence(self) -> str:
        """What is told of a source that says nothing."""
        return f"no answer within {format_duration(self.source.timeout_ms)}"

    @property
    def _phase_ms(self) -> int:
        return zlib.crc32(self.source.name.encode()) % self.source.every_ms

    def turn_at(self, now: float) -> int:
        """The turn that is on."""
        return (round(now * 1000) - self._phase_ms) // self.source.every_ms

    def reset(self) -> None:
        """As if it had never been asked."""
        self.turn, self.told_at, self.error = None, 0.0, ""
        self.failed_at.clear()


@dataclass(slots=True, eq=False)
class _Question:
    """One that a thread waits for an answer to."""

    feed: _Feed
    give_up_at: float
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a question came to: a value, or None and why."""

    question: _Question
    value: float | None
    error: str = ""


def _answer(question: _Question) -> _Answer:
    """Ask, and wait. Whatever happens, there is an answer: nobody else would miss the thread."""
    try:
        value = question.feed.adapter.read()
    except RemoteError as error:
        return _Answer(question, None, _line(str(error)))
    except Exception as error:  # noqa: BLE001  # the edge of the thread
        # Its own words and its trace may hold a secret.
        words = f"unexpected {type(error).__name__}"
        log.debug("source %s: %s", question.feed.source.name, words)
        return _Answer(question, None, words)
    if why := why_unreadable(value):
        return _Answer(question, None, f"got {value:g}, which is {why}")
    return _Answer(question, value)


def _line(text: str) -> str:
    """One line that is not too long, whatever a remote has put into it."""
    shown = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(shown.split())[:ERROR_CHARACTERS_MAX] or "no reason given"
