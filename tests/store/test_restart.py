import os
import signal
import threading

import pytest

from context_store import StoreUnavailable
from store.conftest import Connect
from store.scenes import an_append, cut_of_all, sequences
from store.servers import Server, raw


def test_a_killed_server_comes_back_with_all_that_was_acknowledged(
    own_server: Server, connect: Connect
) -> None:
    store = connect(own_server.url)
    reader = store.reader(["s"], since_ms=0)
    lease = store.acquire("l", "me", 600)
    assert lease is not None
    assert store.commit(lease, state={"_": b"1"}, marker="_", appends=[])
    first = reader.cut()
    acknowledged = threading.Event()
    restarted = threading.Event()

    def write() -> None:
        # As a writer does: each append again and again, until it is acknowledged.
        for n in range(1, 501):
            while True:
                try:
                    store.append(an_append(sequence=n))
                except StoreUnavailable:
                    restarted.wait()
                else:
                    break
            if n == 100:
                acknowledged.set()

    writer = threading.Thread(target=write)
    writer.start()
    acknowledged.wait()
    own_server.restart()
    restarted.set()
    writer.join()

    second = cut_of_all(store, reader)
    assert sequences(second) == list(range(1, 501))
    assert second.run_id != first.run_id
    assert (store.holder("l"), store.epoch("l"), store.state()) == ("me", 1, {"_": b"1"})
    assert store.renew(lease, 60) is not None


def test_a_restart_while_idle_costs_no_write(own_server: Server, connect: Connect) -> None:
    store = connect(own_server.url)
    store.append(an_append(sequence=1))
    own_server.restart()
    store.append(an_append(sequence=2))
    assert sequences(cut_of_all(store, store.reader(["s"], since_ms=0))) == [1, 2]


def test_a_dead_server_is_unavailable_until_it_is_back(
    own_server: Server, connect: Connect
) -> None:
    store = connect(own_server.url)
    own_server.kill()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store.append(an_append())
    with pytest.raises(StoreUnavailable):
        store.wait({"s": "0"}, 1)
    own_server.restart()
    store.append(an_append())


def test_a_frozen_server_is_unavailable_and_may_have_written(
    own_server: Server, connect: Connect, prefix: str
) -> None:
    store = connect(own_server.url, timeout_s=0.3)
    os.kill(own_server.pid, signal.SIGSTOP)
    with pytest.raises(StoreUnavailable, match="Timeout"):
        store.append(an_append())
    os.kill(own_server.pid, signal.SIGCONT)
    patient = connect(own_server.url)
    patient.append(an_append())
    with raw(own_server.url) as client:
        assert client.xlen(f"{prefix}s") == 2
    assert sequences(cut_of_all(patient, patient.reader(["s"], since_ms=0))) == [1]
