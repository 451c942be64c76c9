import threading
import time

import pytest

from context_store import Append, Cut, Stamp, Store, StoreUnavailable
from context_store.reader import PAGE_ENTRIES
from store.conftest import Connect
from store.proxy import Proxy
from store.scenes import an_append, cut_of_all, past, sequences
from store.servers import Server, raw


def test_an_entry_comes_back_with_its_times_and_without_the_stamp_among_its_fields(
    store: Store,
) -> None:
    fields = {"x": b"\x00\xff", "empty": b""}
    entry_id = store.append(Append("s", fields, Stamp("boot", 7, 1234)))
    (entry,) = cut_of_all(store, store.reader(["s"], since_ms=0)).entries
    assert (entry.stream, entry.id, entry.boot, entry.sequence) == ("s", entry_id, "boot", 7)
    assert entry.ms == int(entry_id.split("-")[0])
    assert entry.at_ms == entry.ms - 1234
    assert entry.fields == fields


@pytest.mark.parametrize("name", ["a", "b", "q"])
def test_a_field_may_not_have_a_name_of_the_stamp(name: str) -> None:
    with pytest.raises(ValueError, match="belong to the stamp"):
        Append("s", {name: b""}, Stamp("boot", 1, 0))


def test_a_cut_leaves_what_is_not_older_than_now_for_the_next_one(store: Store) -> None:
    for ms in (1000, 1999, 2000, 2001):
        store.append(an_append(sequence=ms, entry_id=f"{ms}-0"))
    reader = store.reader(["s"], since_ms=0)
    assert sequences(reader.cut(2000)) == [1000, 1999]
    assert sequences(reader.cut(2001)) == [2000]
    assert sequences(reader.cut(2001)) == []
    assert sequences(reader.cut(2002)) == [2001]


def test_an_entry_ahead_of_the_stores_clock_does_not_count_yet(store: Store) -> None:
    ahead = store.now_ms() + 3_600_000
    store.append(an_append(entry_id=f"{ahead}-0"))
    reader = store.reader(["s"], since_ms=0)
    cut = cut_of_all(store, reader)
    assert cut.entries == ()
    assert cut.now_ms < ahead
    assert sequences(reader.cut(ahead + 1)) == [1]


def test_now_never_goes_back(store: Store) -> None:
    reader = store.reader(["s"], since_ms=0)
    assert reader.cut(5000).now_ms == 5000
    assert reader.cut(4000).now_ms == 5000
    assert reader.now_ms == 5000


def test_the_first_cut_starts_at_since_inclusive(store: Store) -> None:
    for ms in (99, 100, 101):
        store.append(an_append(sequence=ms, entry_id=f"{ms}-0"))
    assert sequences(store.reader(["s"], since_ms=100).cut()) == [100, 101]


def test_entries_of_all_streams_come_by_time_then_id_then_stream(store: Store) -> None:
    for stream, entry_id in (("b", "5-0"), ("b", "5-1"), ("a", "5-1"), ("a", "10-0"), ("b", "9-0")):
        store.append(an_append(stream, sequence=parse(entry_id), entry_id=entry_id))
    cut = store.reader(["b", "a"], since_ms=0).cut()
    assert [(entry.id, entry.stream) for entry in cut.entries] == [
        ("5-0", "b"), ("5-1", "a"), ("5-1", "b"), ("9-0", "b"), ("10-0", "a"),
    ]  # fmt: skip


def parse(entry_id: str) -> int:
    ms, sequence = entry_id.split("-")
    return int(ms) * 100 + int(sequence)


@pytest.mark.parametrize("count", [PAGE_ENTRIES, PAGE_ENTRIES + 1, 2 * PAGE_ENTRIES + 500])
def test_a_cut_of_several_pages_is_complete(store: Store, count: int) -> None:
    # All in one millisecond: a page's end then lies in the middle of it.
    store.append_all([an_append(sequence=n, entry_id=f"7-{n}") for n in range(1, count + 1)])
    store.append(an_append("other", sequence=1, entry_id="7-3"))
    store.append(an_append(sequence=count + 1, entry_id="8-0"))
    reader = store.reader(["s", "other"], since_ms=0)
    cut = reader.cut(8)
    assert [e.sequence for e in cut.entries if e.stream == "s"] == list(range(1, count + 1))
    assert sequences(reader.cut(9)) == [count + 1]


def test_cuts_beside_four_writers_never_differ_when_read_again(
    server: Server, connect: Connect, store: Store
) -> None:
    streams, each = ("s", "t"), 300
    start_ms = store.now_ms()

    def write(boot: str) -> None:
        writer = connect(server.url)
        for n in range(1, each + 1):
            for stream in streams:
                writer.append(an_append(stream, n, boot=boot))

    writers = [threading.Thread(target=write, args=(f"boot{i}",)) for i in range(4)]
    reader = store.reader(streams, since_ms=start_ms)
    cuts: list[Cut] = []
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        cuts.append(reader.cut())
        time.sleep(0.001)
    for writer in writers:
        writer.join()
    cuts.append(cut_of_all(store, reader))

    assert sum(len(cut.entries) for cut in cuts) == 4 * each * len(streams)
    again = store.reader(streams, since_ms=start_ms)
    for cut in cuts:
        assert again.cut(cut.now_ms) == cut


def test_a_repeated_append_after_a_lost_reply_is_read_once(
    store: Store, proxy: Proxy, connect: Connect, server: Server, prefix: str
) -> None:
    writer = connect(proxy.url)
    proxy.on(b"XADD", "lose reply")
    with pytest.raises(StoreUnavailable):
        writer.append(an_append(sequence=1))
    writer.append(an_append(sequence=1))
    writer.append(an_append(sequence=2))
    with raw(server.url) as client:
        assert client.xlen(f"{prefix}s") == 3
    assert sequences(cut_of_all(store, store.reader(["s"], since_ms=0))) == [1, 2]


def test_the_client_never_sends_a_write_twice_by_itself(
    proxy: Proxy, connect: Connect, server: Server, prefix: str
) -> None:
    writer = connect(proxy.url)
    proxy.on(b"XADD", "lose reply")
    with pytest.raises(StoreUnavailable):
        writer.append(an_append())
    with raw(server.url) as client:
        assert client.xlen(f"{prefix}s") == 1


def test_repetitions_are_told_by_stream_and_boot_also_across_cuts(store: Store) -> None:
    reader = store.reader(["s", "t"], since_ms=0)
    store.append(an_append("s", 5, boot="one", entry_id="1-0"))
    assert sequences(reader.cut(2)) == [5]
    store.append(an_append("s", 5, boot="one", entry_id="2-0"))
    store.append(an_append("s", 4, boot="one", entry_id="2-1"))
    store.append(an_append("s", 5, boot="two", entry_id="2-2"))
    store.append(an_append("t", 5, boot="one", entry_id="2-3"))
    store.append(an_append("s", 6, boot="one", entry_id="2-4"))
    found = [(e.stream, e.boot, e.sequence) for e in reader.cut(3).entries]
    assert found == [("s", "two", 5), ("t", "one", 5), ("s", "one", 6)]


def test_what_carries_no_stamp_is_left_out_and_counted(
    store: Store, server: Server, prefix: str
) -> None:
    with raw(server.url) as client:
        client.xadd(f"{prefix}s", {"hello": "world"}, id="1-0")
        client.xadd(f"{prefix}s", {"b": "boot", "q": "not a number", "a": "0"}, id="2-0")
    store.append(an_append())
    reader = store.reader(["s"], since_ms=0)
    assert sequences(cut_of_all(store, reader)) == [1]
    assert reader.foreign == 2


@pytest.mark.parametrize("page", [1, 2])
def test_a_failed_cut_leaves_the_reader_where_it_stood(
    store: Store, proxy: Proxy, connect: Connect, page: int
) -> None:
    total = PAGE_ENTRIES + 10
    store.append_all([an_append(sequence=n, entry_id=f"{n}-0") for n in range(1, total + 1)])
    reader = connect(proxy.url).reader(["s"], since_ms=0)
    assert sequences(reader.cut(5)) == [1, 2, 3, 4]
    before = dict(reader.cursors)
    proxy.on(b"XRANGE", "lose reply", spare=page - 1)
    with pytest.raises(StoreUnavailable):
        reader.cut()
    assert (dict(reader.cursors), reader.now_ms) == (before, 5)
    assert sequences(reader.cut()) == list(range(5, total + 1))


def test_waiting_ends_with_something_new_or_with_the_time(store: Store) -> None:
    reader = store.reader(["s", "t"], since_ms=0)
    assert not store.wait(reader.cursors, 0.02)
    assert not store.wait({"s": "$"}, 0)
    store.append(an_append("t"))
    assert store.wait(reader.cursors, 0.02)
    assert not store.wait({"t": "$"}, 0.02)
    cut_of_all(store, reader)
    assert not store.wait(reader.cursors, 0.02)


def test_waiting_is_woken_by_an_append(store: Store) -> None:
    wakes: list[bool] = []
    waiter = threading.Thread(target=lambda: wakes.append(store.wait({"s": "0"}, 9)))
    waiter.start()
    past(store, store.now_ms() + 20)
    store.append(an_append())
    waiter.join()
    assert wakes == [True]


def test_waiting_longer_than_a_reply_may_take_is_no_failure(
    server: Server, connect: Connect
) -> None:
    assert not connect(server.url, timeout_s=0.2).wait({"s": "$"}, 0.6)


def test_a_cut_names_the_servers_life(store: Store) -> None:
    assert store.reader(["s"], since_ms=0).cut().run_id == store.check().run_id
