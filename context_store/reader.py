"""Reading by cuts, so that what a cut holds depends on its `now` and on nothing else.

The server runs one command at a time and gives each entry an id from its clock that is never below
the ids before it. Once TIME has answered `now`, every later entry therefore has an id of `now` or
above: the entries below `now` are complete and never change again (trimming takes them from the
old end, and only then). A cut is exactly these, and so the same cut can be read again later. What
has an id of `now` or above when the cut is read waits for the next one.

TIME and the first page of each stream are asked for in one round trip, TIME first. It is no MULTI:
what is below `now` is complete whenever it is read after TIME, and a full Redis refuses even reads
in a MULTI. For the same reason further pages can follow one by one.

An append whose reply was lost is sent again and is then there twice. The stamp tells: for each
stream and boot a sequence at or below the highest one seen is a repetition and is dropped.

If the store's clock steps back, `now` stays where it was until the clock has caught up: it never
goes back. Entries keep their order, but their times say the same millisecond all along. Whoever
compares `now` with a monotonic clock of their own sees that; the reader has none.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .connection import (
    Command,
    Connector,
    Reply,
    as_bytes,
    as_list,
    as_ms,
    as_text,
    server_facts,
)
from .entries import AGE_FIELD, BOOT_FIELD, SEQUENCE_FIELD, STAMP_FIELDS, Cut, Entry, parse_id

PAGE_ENTRIES = 1000
# One boot is one life of one writer; the least recently heard of is forgotten first.
BOOTS_MAX = 100_000


class Reader:
    """The position of one reader in some streams. Not for several threads at once."""

    def __init__(
        self, connector: Connector, *, prefix: str, streams: Sequence[str], since_ms: int
    ) -> None:
        self._connector = connector
        self._prefix = prefix
        self._since_ms = since_ms
        self._cursors: dict[str, str] = dict.fromkeys(streams, "")
        self._heard: dict[tuple[str, str], int] = {}
        self._now_ms = since_ms
        self._foreign = 0

    @property
    def now_ms(self) -> int:
        """The `now` of the last cut, `since_ms` before the first."""
        return self._now_ms

    @property
    def cursors(self) -> Mapping[str, str]:
        """For each stream the id up to which it has been read; fit for `Store.wait`."""
        before = f"{max(0, self._since_ms - 1)}-{2**64 - 1}"
        return MappingProxyType({name: at or before for name, at in self._cursors.items()})

    @property
    def foreign(self) -> int:
        """How many entries were left out because they carry no valid stamp: not written by us."""
        return self._foreign

    def cut(self, now_ms: int | None = None) -> Cut:
        """Return what is new and older than now.

        `now_ms` is only for a simulator or a replay, which have a time of their own. After an
        error the reader stands where it stood before.
        """
        end = "+" if now_ms is None else str(max(now_ms, self._now_ms, 1) - 1)
        first_pages = [self._page(name, end) for name in self._cursors]
        replies = self._connector.batch([("TIME",), ("INFO", "server"), *first_pages])
        asked_ms = as_ms(replies[0]) if now_ms is None else now_ms
        now_ms = max(asked_ms, self._now_ms)
        run_id = server_facts(as_bytes(replies[1])).run_id
        rows = {
            name: self._complete(name, as_list(page), now_ms)
            for name, page in zip(self._cursors, replies[2:], strict=True)
        }
        # All reading is done: from here on nothing can fail halfway.
        for name, found in rows.items():
            if found:
                self._cursors[name] = found[-1][0]
        self._now_ms = now_ms
        return Cut(now_ms, run_id, self._entries(rows))

    def _page(self, stream: str, end: str, *, after: str = "") -> Command:
        cursor = after or self._cursors[stream]
        start = f"({cursor}" if cursor else str(max(0, self._since_ms))
        return ("XRANGE", self._prefix + stream, start, end, "COUNT", PAGE_ENTRIES)

    def _complete(
        self, stream: str, page: list[Reply], now_ms: int
    ) -> list[tuple[str, list[Reply]]]:
        """Return all rows below now, fetching the pages that follow the first."""
        rows: list[tuple[str, list[Reply]]] = []
        while True:
            read = [_row(item) for item in page]
            rows.extend(row for row in read if parse_id(row[0])[0] < now_ms)
            if len(page) < PAGE_ENTRIES or parse_id(read[-1][0])[0] >= now_ms:
                return rows
            following = self._page(stream, str(now_ms - 1), after=read[-1][0])
            page = as_list(self._connector.call(*following))

    def _entries(self, rows: Mapping[str, list[tuple[str, list[Reply]]]]) -> tuple[Entry, ...]:
        ordered = sorted(
            (*parse_id(entry_id), stream, entry_id, position)
            for stream, found in rows.items()
            for position, (entry_id, _) in enumerate(found)
        )
        entries: list[Entry] = []
        for ms, _, stream, entry_id, position in ordered:
            entry = _entry(stream, entry_id, ms, rows[stream][position][1])
            if entry is None:
                self._foreign += 1
            elif self._is_new(entry):
                entries.append(entry)
        return tuple(entries)

    def _is_new(self, entry: Entry) -> bool:
        writer = (entry.stream, entry.boot)
        highest = self._heard.pop(writer, None)
        is_new = highest is None or entry.sequence > highest
        # Put back at the end: the first key is the one not heard of for longest.
        self._heard[writer] = entry.sequence if highest is None or is_new else highest
        if len(self._heard) > BOOTS_MAX:
            del self._heard[next(iter(self._heard))]
        return is_new


def _row(item: Reply) -> tuple[str, list[Reply]]:
    entry_id, fields = as_list(item)
    return as_text(entry_id), as_list(fields)


def _entry(stream: str, entry_id: str, ms: int, flat: list[Reply]) -> Entry | None:
    """Return the entry, or None if it was not written by this library."""
    fields = {as_text(flat[i]): as_bytes(flat[i + 1]) for i in range(0, len(flat), 2)}
    try:
        sequence, age_ms = int(fields[SEQUENCE_FIELD]), int(fields[AGE_FIELD])
        boot = fields[BOOT_FIELD].decode()
    except (KeyError, ValueError):
        return None
    if age_ms < 0:
        return None  # nothing is true before it happens
    own = {name: value for name, value in fields.items() if name not in STAMP_FIELDS}
    return Entry(stream, entry_id, ms, ms - age_ms, boot, sequence, own)
