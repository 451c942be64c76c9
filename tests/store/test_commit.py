import pytest

from context_store import Append, Lease, Retention, Store, StoreFull, StoreRefused, StoreUnavailable
from store.conftest import Connect
from store.proxy import Proxy
from store.scenes import all_values, an_append
from store.servers import Server, raw

CHANGES: dict[str, bytes | None] = {"_": b"tick 1", "web": b"firing"}


def a_lease(store: Store) -> Lease:
    lease = store.acquire("engine", "me", 60)
    assert lease is not None
    return lease


def commit(store: Store, lease: Lease) -> bool:
    appends = [an_append(sequence=n, value=b"%d" % n) for n in (1, 2)]
    return store.commit(lease, state=CHANGES, marker="_", appends=appends)


def happened_once(store: Store) -> bool:
    return store.state() == CHANGES and store.reach(["s"])["s"].entries == 2


def nothing_happened(store: Store) -> bool:
    return store.state() == {} and store.reach(["s"])["s"].entries == 0


def test_a_commit_changes_the_state_and_appends(store: Store) -> None:
    lease = a_lease(store)
    assert commit(store, lease)
    assert all_values(store) == [b"1", b"2"]
    assert store.commit(lease, state={"_": b"tick 2", "web": None}, marker="_", appends=[])
    assert store.state() == {"_": b"tick 2"}


def test_a_commit_of_an_older_epoch_writes_nothing(store: Store) -> None:
    lease = a_lease(store)
    store.release(lease)
    newer = store.acquire("engine", "other", 60)
    assert not commit(store, lease)
    assert nothing_happened(store)
    assert newer is not None
    assert commit(store, newer)
    assert happened_once(store)


def test_a_commit_without_any_lease_given_before_is_fenced(store: Store) -> None:
    assert not commit(store, Lease("engine", "me", 1, 0.0))
    assert nothing_happened(store)


def test_a_marker_needs_a_value(store: Store) -> None:
    for state in ({}, {"_": None}):
        with pytest.raises(ValueError, match="marker"):
            store.commit(a_lease(store), state=state, marker="_", appends=[])


def two_appends() -> list[Append]:
    return [an_append(sequence=n, value=b"%d" % n) for n in (1, 2)]


def test_appends_under_a_lease_happen_while_it_is_the_newest(store: Store) -> None:
    lease = a_lease(store)
    assert store.append_under(lease, two_appends())
    store.release(lease)
    assert store.append_under(lease, [an_append(sequence=3, value=b"3")]), "nobody came after"
    assert store.acquire("engine", "other", 60) is not None
    assert not store.append_under(lease, [an_append(sequence=4, value=b"4")])
    assert all_values(store) == [b"1", b"2", b"3"]


def test_appends_under_a_lease_that_was_never_given_write_nothing(store: Store) -> None:
    assert not store.append_under(Lease("engine", "me", 1, 0.0), two_appends())
    assert nothing_happened(store)


def test_a_newer_epoch_between_the_check_and_the_appends_fences(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = a_lease(store)
    xadd = store._xadd

    def overtaken(append: Append) -> object:
        store.acquire("engine", "me", 60)
        return xadd(append)

    monkeypatch.setattr(store, "_xadd", overtaken)
    assert not store.append_under(lease, two_appends())
    assert nothing_happened(store)


def test_appends_whose_reply_was_lost_are_read_once_when_sent_again(
    store: Store, proxy: Proxy, connect: Connect
) -> None:
    lease = a_lease(store)
    through = connect(proxy.url)
    proxy.on(b"EXEC", "lose reply")
    with pytest.raises(StoreUnavailable):
        through.append_under(lease, two_appends())
    assert through.append_under(lease, two_appends())
    assert all_values(store) == [b"1", b"2"]


@pytest.mark.parametrize("fault", ["lose reply", "lose request"])
@pytest.mark.parametrize("word", [b"WATCH", b"EXEC"])
def test_an_unknown_outcome_is_settled_by_calling_again(
    store: Store, proxy: Proxy, connect: Connect, word: bytes, fault: str
) -> None:
    lease = a_lease(store)
    through = connect(proxy.url)
    proxy.on(word, "lose reply" if fault == "lose reply" else "lose request")
    with pytest.raises(StoreUnavailable):
        commit(through, lease)
    assert commit(through, lease)
    assert happened_once(store)


def test_a_commit_that_arrives_after_its_repetition_writes_nothing(
    store: Store, proxy: Proxy, connect: Connect
) -> None:
    lease = a_lease(store)
    proxy.on(b"EXEC", "hold request")
    with pytest.raises(StoreUnavailable):
        commit(connect(proxy.url, timeout_s=0.3), lease)
    assert proxy.held.is_set()
    assert commit(store, lease)
    proxy.go.set()
    assert proxy.delivered.wait(10)
    assert happened_once(store)


def test_a_commit_that_arrives_after_a_newer_lease_writes_nothing(
    store: Store, proxy: Proxy, connect: Connect
) -> None:
    lease = a_lease(store)
    proxy.on(b"EXEC", "hold request")
    with pytest.raises(StoreUnavailable):
        commit(connect(proxy.url, timeout_s=0.3), lease)
    store.release(lease)
    store.acquire("engine", "other", 60)
    proxy.go.set()
    assert proxy.delivered.wait(10)
    assert nothing_happened(store)
    assert not commit(store, lease)


def test_a_newer_epoch_between_the_check_and_the_write_fences(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = a_lease(store)
    changes = store._changes

    def overtaken(*arguments: object) -> object:
        store.acquire("engine", "me", 60)
        return changes(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(store, "_changes", overtaken)
    assert not commit(store, lease)
    assert nothing_happened(store)


def test_a_key_that_is_no_stream_refuses_the_whole_commit(
    store: Store, server: Server, prefix: str
) -> None:
    with raw(server.url) as client:
        client.set(f"{prefix}t", "mine")
    with pytest.raises(StoreRefused, match=f"the key {prefix}t is a string, not a stream"):
        store.commit(
            a_lease(store), state=CHANGES, marker="_", appends=[an_append("s"), an_append("t")]
        )
    assert nothing_happened(store)


def test_several_appends_are_all_or_nothing(store: Store, server: Server, prefix: str) -> None:
    ids = store.append_all([an_append("s", 1), an_append("t", 1)])
    assert len(ids) == 2
    assert store.append_all([]) == ()
    with raw(server.url) as client:
        client.set(f"{prefix}u", "mine")
    with pytest.raises(StoreRefused, match="cannot do this"):
        store.append(an_append("u"))


def test_a_full_store_refuses_whole_and_recovers_by_trimming(
    own_server: Server, connect: Connect
) -> None:
    store = connect(own_server.url)
    lease = a_lease(store)
    for n in range(64):
        store.append(an_append("big", n, value=bytes(65536), entry_id=f"{n + 1}-0"))
    with raw(own_server.url) as client:
        client.config_set("maxmemory", 4_000_000)
        with pytest.raises(StoreFull):
            store.append(an_append())
        with pytest.raises(StoreFull):
            store.append_all([an_append()])
        with pytest.raises(StoreFull):
            commit(store, lease)
        with pytest.raises(StoreFull):
            store.acquire("other", "me", 60)
        assert nothing_happened(store)
        assert store.epoch("other") == 0
        assert store.renew(lease, 60) is not None
        assert len(store.reader(["big"], since_ms=0).cut().entries) == 64
        assert store.trim({"big": Retention(age_ms=store.now_ms(), bytes_max=500_000)})["big"] > 0
    assert commit(store, lease)
    assert happened_once(store)


def test_a_lease_can_be_given_back_in_a_full_store(own_server: Server, connect: Connect) -> None:
    store = connect(own_server.url)
    lease = a_lease(store)
    with raw(own_server.url) as client:
        client.config_set("maxmemory", 1)
        store.release(lease)
        assert store.holder("engine") is None


def test_plain_values(store: Store) -> None:
    assert store.get("rules:1") is None
    store.put("rules:1", b"\x00text")
    assert store.get("rules:1") == b"\x00text"
