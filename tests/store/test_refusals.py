"""What is refused, with the exact words."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as ConnectionLost

import context_store
from context_store import Store, StoreFull, StoreRefused, StoreUnavailable
from context_store.connection import server_facts
from context_store.errors import translate
from store.scenes import an_append
from store.servers import DURABLE, TCP_KINDS, TcpServer, raw

SECRET = "s3cret-%41"  # noqa: S105  # of a test


def refusal(url: str, *, password: str | None = None, timeout_s: float = 5.0) -> str:
    with pytest.raises((StoreRefused, StoreUnavailable)) as caught:
        Store.connect(url, monotonic=time.monotonic, password=password, timeout_s=timeout_s)
    text = f"{type(caught.value).__name__}: {caught.value}"
    assert "\n" not in text
    assert SECRET not in repr(caught.value.__cause__) + text
    return text


@pytest.fixture(params=TCP_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def serving(kind: str, directory: Path, *settings: str) -> Iterator[TcpServer]:
    server = TcpServer(kind, directory, *settings)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def stub(reply: bytes) -> Iterator[str]:
    """Something that listens and gives the same answer to whatever comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        while client.recv(4096):
                            client.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_policy_that_evicts(kind: str, tmp_path: Path, policy: str) -> None:
    with serving(kind, tmp_path, *DURABLE[:-1], policy) as server:
        assert refusal(server.url) == (
            f"StoreRefused: {server.url} may evict data (maxmemory-policy {policy}); "
            "set maxmemory-policy noeviction in its configuration"
        )


@pytest.mark.parametrize("version", ["6.2.14", "5.0.7", "3.2"])
def test_a_version_that_is_too_old(version: str) -> None:
    with stub(bulk(f"redis_version:{version}\r\nmaxmemory_policy:noeviction")) as url:
        assert refusal(url) == f"StoreRefused: {url} is redis {version}; 7.0 or later is needed"


@pytest.mark.parametrize("version", ["7.0.0", "8.2.1", "10.0.0"])
def test_versions_that_are_new_enough(version: str) -> None:
    with stub(bulk(f"redis_version:{version}\r\nmaxmemory_policy:noeviction")) as url:
        store = Store.connect(url, monotonic=time.monotonic)
        assert store.check().version == version
        store.close()


def test_the_facts_in_an_info_reply() -> None:
    facts = server_facts(
        b"# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n"
        b"run_id:abc\r\n\r\n# Memory\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
    )
    assert (facts.name, facts.version, facts.policy) == ("valkey", "9.1.2", "noeviction")
    assert (facts.append_only, facts.run_id) == (True, "abc")


def test_passwords(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path, *DURABLE, "--requirepass", SECRET) as server:
        assert refusal(server.url) == (
            f"StoreRefused: {server.url} asks for a password and none was given; configure one"
        )
        wrong = (
            f"StoreRefused: {server.url} did not accept the password; "
            "check the user and the password"
        )
        assert refusal(server.url, password="wr0ng") == wrong  # noqa: S106  # of a test
        assert refusal(f"redis://:wr0ng@127.0.0.1:{server.port}") == wrong
        url = f"redis://:wr0ng@127.0.0.1:{server.port}"
        Store.connect(url, monotonic=time.monotonic, password=SECRET).close()


def test_a_password_for_a_server_without_one(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path, *DURABLE) as server:
        assert refusal(server.url, password=SECRET) == (
            f"StoreRefused: {server.url} has no password set, but one was given; "
            "set it there or leave it out here"
        )


def test_a_user_who_may_not(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path, *DURABLE) as server:
        with raw(server.url) as client:
            client.acl_setuser(
                "reader",
                enabled=True,
                passwords=f"+{SECRET}",
                keys="*",
                commands=["+info", "+xrange"],
            )
        store = Store.connect(
            f"redis://reader@127.0.0.1:{server.port}",
            monotonic=time.monotonic,
            password=SECRET,
        )
        with pytest.raises(StoreRefused, match=r"does not permit this; extend .*xadd") as caught:
            store.append(an_append())
        assert SECRET not in str(caught.value)
        store.close()


def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{unused.getsockname()[1]}"
        text = refusal(url)
    assert text.startswith(f"StoreUnavailable: the store at {url} does not answer: ")
    assert "refused" in text


def test_no_such_socket(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    text = refusal(url)
    assert text.startswith(f"StoreUnavailable: the store at {url} does not answer: ")


def test_not_a_redis() -> None:
    with stub(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        assert refusal(url) == (
            f"StoreRefused: {url} does not speak the Redis protocol; check the host and the port"
        )


def test_a_server_that_says_nothing() -> None:
    with stub(b"") as url:
        text = refusal(url, timeout_s=0.2)
    assert text.startswith(f"StoreUnavailable: the store at {url} does not answer: Timeout")


def test_a_reply_of_another_shape_is_no_crash() -> None:
    with stub(b":1\r\n") as url:
        assert "unexpected shape: int" in refusal(url)


@pytest.mark.parametrize(
    "url",
    ["http://host", "host:6379", f"redis://:{SECRET}/x@host:6379", "unix://", "redis://[::1"],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    assert refusal(url) == (
        "StoreRefused: the store's URL must look like redis://host:6379/0, "
        "rediss://user@host:6379 or unix:///path/store.sock, "
        "with special characters in the password percent-encoded"
    )


def test_options_in_the_url_that_would_undo_what_the_library_relies_on() -> None:
    text = refusal("redis://127.0.0.1:1?socket_timeout=99&retry_on_timeout=true")
    assert text.startswith("StoreRefused: the store's URL has options that are not known (2 of ")


@pytest.mark.parametrize(
    ("reply", "kind_of_error"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreFull),
        ("LOADING Redis is loading the dataset in memory", StoreUnavailable),
        ("READONLY You can't write against a read only replica.", StoreUnavailable),
        ("MISCONF Errors writing to the AOF file: No space left on device", StoreUnavailable),
        ("MASTERDOWN Link with MASTER is down", StoreUnavailable),
        ("BUSY Redis is busy running a script.", StoreUnavailable),
        ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable),
        ("ERR max number of clients reached", StoreUnavailable),
        ("NOPERM User x has no permissions to run the 'xadd' command", StoreRefused),
        ("MOVED 3999 127.0.0.1:6381", StoreRefused),
        ("CROSSSLOT Keys in request don't hash to the same slot", StoreRefused),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreRefused),
        ("ERR unknown command 'XADD'", StoreRefused),
    ],
)
def test_error_replies_and_what_they_become(reply: str, kind_of_error: type[Exception]) -> None:
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # redis-py has no types here
    translated = translate(error, "redis://store")
    assert type(translated) is kind_of_error
    assert "redis://store" in str(translated)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (PermissionError(13, "Permission denied"), "may not be opened by this user"),
        (ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED"), "that is not trusted"),
    ],
)
def test_causes_that_a_person_has_to_remove(cause: OSError, words: str) -> None:
    error = ConnectionLost("Error connecting")
    error.__context__ = cause
    translated = translate(error, "redis://store")
    assert type(translated) is StoreRefused
    assert words in str(translated)


def test_a_stream_that_was_bricked_is_refused_in_plain_words(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path, *DURABLE) as server:
        store = Store.connect(server.url, monotonic=time.monotonic)
        store.append(an_append(entry_id=f"{2**64 - 1}-{2**64 - 1}"))
        with pytest.raises(StoreRefused, match="exhausted"):
            store.append(an_append())
        store.close()


def test_the_configuration_that_is_shipped_is_fit(kind: str, tmp_path: Path) -> None:
    shipped = Path(context_store.__file__).with_name("redis.conf")
    with serving(kind, tmp_path, str(shipped)) as server:
        store = Store.connect(server.url, monotonic=time.monotonic)
        assert store.check().append_only
        store.close()
