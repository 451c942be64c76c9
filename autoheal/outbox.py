"""A bounded buffer in front of the store: entries keep their order and number until it has them.

A lost reply costs nothing: the same entry goes again under the same sequence number, and readers
drop the repetition. When the store stays away for long, the oldest entries go, and the numbers they
leave out are never used again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from autoheal.ports import Write

if TYPE_CHECKING:
    from autoheal.ports import StreamWriter
    from autoheal.telemetry import Telemetry

ENTRIES_MAX = 10_000
BYTES_MAX = 64 * 2**20
BATCH_MAX = 100

_log = logging.getLogger(__name__)


class Outbox:
    """FIFO of writes on their way to the store. For any number of threads.

    Two outboxes of one writer must not share a stream: each numbers its own entries. The newest
    entry is always kept, however large.
    """

    def __init__(
        self,
        name: str,
        writer: StreamWriter,
        telemetry: Telemetry,
        *,
        entries_max: int = ENTRIES_MAX,
        bytes_max: int = BYTES_MAX,
        batch_max: int = BATCH_MAX,
    ) -> None:
        self._name = name
        self._writer = writer
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._batch_max = batch_max
        self._buffered = telemetry.buffered.labels(name)
        self._dropped = telemetry.dropped.labels(name)
        self._waiting: deque[Write] = deque()
        self._bytes = 0
        self._sequence = 0
        self._breaks = 0
        self._away = False
        self._buffer = threading.Lock()  # held for moments only
        self._sending = threading.Lock()  # held while the store is spoken to: keeps the order

    @property
    def waiting(self) -> int:
        """Entries that the store may not have yet."""
        with self._buffer:
            return len(self._waiting)

    @property
    def breaks(self) -> int:
        """How often the flow was broken: an entry dropped, or the store back after an absence.

        Whoever sends differences sends the whole again when this has changed.
        """
        return self._breaks

    def put(self, stream: str, fields: Mapping[str, bytes], taken: float) -> None:
        """Queue an entry; `taken` is the monotonic time at which what it tells was true."""
        with self._buffer:
            self._sequence += 1
            write = Write(stream, fields, self._sequence, taken)
            self._waiting.append(write)
            self._bytes += _size(write)
            while self._is_full():
                self._bytes -= _size(self._waiting.popleft())
                self._dropped.inc()
                self._breaks += 1
            self._buffered.set(len(self._waiting))

    def flush(self) -> bool:
        """Send all that waits, oldest first; False if the store is away and entries still wait."""
        with self._sending:
            while batch := self._next():
                try:
                    self._writer.append(batch)
                except ConnectionError as error:
                    self._note_away(error)
                    return False
                self._note_back()
                self._sent(batch[-1].sequence)
            return True

    def _next(self) -> list[Write]:
        with self._buffer:
            return list(islice(self._waiting, self._batch_max))

    def _sent(self, sequence: int) -> None:
        """Remove what was sent; some of it may have been dropped in the meantime."""
        with self._buffer:
            while self._waiting and self._waiting[0].sequence <= sequence:
                self._bytes -= _size(self._waiting.popleft())
            self._buffered.set(len(self._waiting))

    def _is_full(self) -> bool:
        count = len(self._waiting)
        return count > 1 and (count > self._entries_max or self._bytes > self._bytes_max)

    def _note_away(self, error: ConnectionError) -> None:
        if not self._away:
            _log.warning("the store is away; %s are kept until it is back: %s", self._name, error)
        self._away = True

    def _note_back(self) -> None:
        if self._away:
            self._away = False
            self._breaks += 1
            _log.info("the store is back; %d %s wait", self.waiting, self._name)


def _size(write: Write) -> int:
    return sum(len(name) + len(value) for name, value in write.fields.items())
