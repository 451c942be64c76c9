import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from context_store import EmbeddedServer, Lease, Store, StoreUnavailable
from store.conftest import Connect
from store.proxy import Proxy
from store.scenes import an_append
from store.servers import Server, binary, raw, until


def taken(lease: Lease | None) -> Lease:
    assert lease is not None
    return lease


def test_one_holder_at_a_time(store: Store) -> None:
    assert (store.holder("l"), store.epoch("l")) == (None, 0)
    lease = taken(store.acquire("l", "one", 60))
    assert (lease.name, lease.holder, lease.epoch) == ("l", "one", 1)
    assert store.acquire("l", "two", 60) is None
    assert (store.holder("l"), store.epoch("l")) == ("one", 1)
    assert taken(store.acquire("other", "two", 60)).epoch == 1


def test_a_lease_ends_and_the_next_has_a_higher_epoch(store: Store) -> None:
    old = taken(store.acquire("l", "one", 0.05))
    until(lambda: store.holder("l") is None)
    assert store.renew(old, 60) is None
    new = taken(store.acquire("l", "two", 60))
    assert new.epoch == 2
    assert store.renew(old, 60) is None
    store.release(old)
    assert store.holder("l") == "two"


def test_renewing_extends(store: Store, server: Server, prefix: str) -> None:
    lease = taken(store.acquire("l", "one", 5))
    renewed = taken(store.renew(lease, 60))
    assert renewed.epoch == lease.epoch
    assert renewed.deadline > lease.deadline
    with raw(server.url) as client:
        assert client.pttl(f"{prefix}lease:l") > 5000


def test_releasing_ends_the_lease_and_keeps_the_epoch(store: Store) -> None:
    lease = taken(store.acquire("l", "one", 60))
    store.release(lease)
    assert (store.holder("l"), store.epoch("l")) == (None, 1)
    assert store.renew(lease, 60) is None
    assert taken(store.acquire("l", "one", 60)).epoch == 2


def test_a_holder_that_asks_again_fences_what_it_had(store: Store) -> None:
    old = taken(store.acquire("l", "one", 60))
    new = taken(store.acquire("l", "one", 60))
    assert new.epoch == 2
    assert store.renew(old, 60) is None
    assert not store.commit(old, state={"_": b"1"}, marker="_", appends=[])
    assert store.renew(new, 60) is not None


def test_a_holder_whose_name_is_part_of_anothers_is_another(store: Store) -> None:
    taken(store.acquire("l", "one:1", 60))
    assert store.acquire("l", "one", 60) is None
    assert store.holder("l") == "one:1"
    with pytest.raises(ValueError, match="holder"):
        store.acquire("l", "", 60)


def test_the_deadline_is_measured_before_the_store_is_asked(server: Server, prefix: str) -> None:
    with raw(server.url) as client:
        left_ms: list[int] = []

        def clock() -> float:
            left_ms.append(client.pttl(f"{prefix}lease:l"))
            return 100.0

        store = Store.connect(server.url, monotonic=clock, prefix=prefix)
        lease = taken(store.acquire("l", "one", 5))
        renewed = taken(store.renew(lease, 60))
        store.close()
    assert (lease.deadline, renewed.deadline) == (105.0, 160.0)
    # -2: there is no such key yet; and the renewal had not yet extended.
    assert left_ms[0] == -2
    assert 0 < left_ms[1] <= 5000


@pytest.mark.parametrize("fault", ["lose reply", "lose request"])
def test_after_a_lost_answer_acquiring_again_gives_a_new_epoch(
    store: Store, proxy: Proxy, connect: Connect, fault: str
) -> None:
    through = connect(proxy.url)
    proxy.on(b"EXEC", "lose reply" if fault == "lose reply" else "lose request")
    with pytest.raises(StoreUnavailable):
        through.acquire("l", "one", 60)
    given = store.epoch("l")
    assert given == (1 if fault == "lose reply" else 0)
    assert taken(through.acquire("l", "one", 60)).epoch == given + 1


def test_an_acquire_that_arrives_late_takes_nothing(
    store: Store, proxy: Proxy, connect: Connect
) -> None:
    proxy.on(b"EXEC", "hold request")
    with pytest.raises(StoreUnavailable):
        connect(proxy.url, timeout_s=0.3).acquire("l", "one", 60)
    lease = taken(store.acquire("l", "two", 60))
    proxy.go.set()
    assert proxy.delivered.wait(10)
    assert (store.holder("l"), store.epoch("l")) == ("two", lease.epoch)
    assert store.renew(lease, 60) is not None


def test_a_lost_epoch_counter_loses_the_lease(store: Store, server: Server, prefix: str) -> None:
    lease = taken(store.acquire("l", "one", 60))
    with raw(server.url) as client:
        client.incr(f"{prefix}epoch:l")
    assert store.renew(lease, 60) is None


def test_a_store_that_lost_its_data_does_not_take_an_old_lease_for_the_new(
    store: Store, server: Server, prefix: str
) -> None:
    old = taken(store.acquire("l", "one", 60))
    with raw(server.url) as client:
        client.delete(f"{prefix}lease:l", f"{prefix}epoch:l")
    new = taken(store.acquire("l", "two", 60))
    assert new.epoch == old.epoch
    assert store.renew(old, 60) is None
    store.release(old)
    assert store.holder("l") == "two"


def test_what_one_operation_watched_does_not_abort_the_next(
    store: Store, server: Server, connect: Connect
) -> None:
    lease = taken(connect(server.url).acquire("l", "one", 60))
    assert store.acquire("l", "two", 60) is None
    connect(server.url).release(lease)
    assert len(store.append_all([an_append()])) == 1


def test_threads_that_compete_never_share_an_epoch(server: Server, connect: Connect) -> None:
    given: list[Lease] = []
    epochs_seen: list[list[int]] = []

    def compete(holder: str) -> None:
        store = connect(server.url)
        seen = []
        for _ in range(40):
            try:
                lease = store.acquire("l", holder, 60)
            except StoreUnavailable:
                continue  # overtaken too often: the attempt wrote nothing
            seen.append(store.epoch("l"))
            if lease is not None:
                given.append(lease)
                assert store.holder("l") == holder
                store.release(lease)
        epochs_seen.append(seen)

    threads = [threading.Thread(target=compete, args=(f"holder{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    epochs = [lease.epoch for lease in given]
    assert len(set(epochs)) == len(epochs) > 0
    assert max(epochs) == len(epochs)
    assert all(seen == sorted(seen) for seen in epochs_seen)


HOLDERS = st.sampled_from(["one", "two", "three"])


class Leases(RuleBasedStateMachine):
    """Any order of what holders and time can do, against the shortest possible model."""

    url: str
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).runs += 1
        self.prefix = f"h{self.runs}:"
        self.store = Store.connect(self.url, monotonic=time.monotonic, prefix=self.prefix)
        self.given: dict[str, Lease] = {}
        self.holder: str | None = None
        self.epoch = 0
        self.committed = 0

    @rule(holder=HOLDERS)
    def acquire(self, holder: str) -> None:
        lease = self.store.acquire("l", holder, 60)
        assert (lease is not None) == (self.holder in {None, holder})
        if lease is not None:
            self.epoch += 1
            assert lease.epoch == self.epoch
            self.holder, self.given[holder] = holder, lease

    def _is_valid(self, holder: str) -> bool:
        return self.holder == holder and self.given[holder].epoch == self.epoch

    @rule(holder=HOLDERS)
    def renew(self, holder: str) -> None:
        if holder in self.given:
            renewed = self.store.renew(self.given[holder], 60)
            assert (renewed is not None) == self._is_valid(holder)

    @rule(holder=HOLDERS)
    def release(self, holder: str) -> None:
        if holder in self.given:
            valid = self._is_valid(holder)
            self.store.release(self.given[holder])
            if valid:
                self.holder = None

    @rule()
    def expire(self) -> None:
        with raw(self.url) as client:
            client.delete(f"{self.prefix}lease:l")
        self.holder = None

    @rule(holder=HOLDERS)
    def commit(self, holder: str) -> None:
        if holder in self.given:
            mark = b"%d" % (self.committed + 1)
            lease = self.given[holder]
            done = self.store.commit(lease, state={"_": mark}, marker="_", appends=[])
            # The epoch alone decides: a lease that only ended has no successor yet.
            assert done == (lease.epoch == self.epoch)
            self.committed += done

    @invariant()
    def the_store_agrees(self) -> None:
        assert self.store.holder("l") == self.holder
        assert self.store.epoch("l") == self.epoch
        assert self.store.state().get("_", b"0") == b"%d" % self.committed

    def teardown(self) -> None:
        self.store.close()


@pytest.fixture
def embedded_url() -> Iterator[str]:
    binary("valkey")
    server = EmbeddedServer()
    yield server.start()
    server.stop()


def test_any_order_of_holders_and_time(embedded_url: str) -> None:
    Leases.url = embedded_url
    run_state_machine_as_test(
        Leases,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None
        ),
    )
