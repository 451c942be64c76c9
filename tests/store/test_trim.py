from context_store import Reach, Retention, Store
from store.scenes import an_append, cut_of_all, sequences


def test_trimming_by_age_goes_by_the_stores_clock(store: Store) -> None:
    now_ms = store.now_ms()
    for n, age_ms in enumerate((7_200_001, 3_660_000, 3_540_000, 1000), start=1):
        store.append(an_append(sequence=n, entry_id=f"{now_ms - age_ms}-0"))
    assert store.trim({"s": Retention(age_ms=3_600_000)}) == {"s": 2}
    assert sequences(cut_of_all(store, store.reader(["s"], since_ms=0))) == [3, 4]


def test_trimming_by_bytes_drops_the_oldest_until_the_cap_holds(store: Store) -> None:
    store.append_all([an_append(sequence=n, value=bytes(1000)) for n in range(1, 2001)])
    day = Retention(age_ms=86_400_000)
    assert store.trim({"s": day}) == {"s": 0}
    capped = Retention(age_ms=86_400_000, bytes_max=500_000)
    removed = store.trim({"s": capped})["s"]
    reach = store.reach(["s"])["s"]
    assert reach.bytes <= 500_000
    assert removed + reach.entries == 2000
    # What was kept is most of what fits, and the newest.
    assert reach.entries > 300
    left = sequences(cut_of_all(store, store.reader(["s"], since_ms=0)))
    assert left == list(range(removed + 1, 2001))
    assert store.trim({"s": capped}) == {"s": 0}


def test_a_cap_that_nothing_fits_leaves_an_empty_stream(store: Store) -> None:
    store.append(an_append(value=bytes(10_000)))
    assert store.trim({"s": Retention(age_ms=86_400_000, bytes_max=1)}) == {"s": 1}


def test_trimming_what_is_not_there(store: Store) -> None:
    assert store.trim({"s": Retention(age_ms=0, bytes_max=0)}) == {"s": 0}


def test_the_reach_of_streams(store: Store) -> None:
    for ms in (1000, 2000, 3000):
        store.append(an_append(sequence=ms, entry_id=f"{ms}-0"))
    reach = store.reach(["s", "none"])
    assert (reach["s"].oldest_ms, reach["s"].newest_ms, reach["s"].entries) == (1000, 3000, 3)
    assert reach["s"].bytes > 0
    assert reach["none"] == Reach(oldest_ms=None, newest_ms=None, entries=0, bytes=0)
