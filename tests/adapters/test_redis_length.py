"""The length of a list or a stream of a real Redis and a real Valkey."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from autoheal.adapters.redis_length import Measure, RedisLength
from autoheal.errors import RemoteError, RemoteUnreachable
from store.servers import TCP_KINDS, TcpServer, raw

LIST, STREAM = Measure.LIST, Measure.STREAM
NO_PERSISTENCE = ("--save", "", "--appendonly", "no")


@pytest.fixture(scope="module", params=TCP_KINDS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TcpServer]:
    started = TcpServer(request.param, tmp_path_factory.mktemp("queue"), *NO_PERSISTENCE)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def server(running: TcpServer) -> TcpServer:
    """With no keys in it."""
    with raw(running.url) as client:
        client.flushall()
    return running


def length(
    url: str, measure: Measure = LIST, timeout_ms: int = 20_000, password_file: Path | None = None
) -> float:
    file = None if password_file is None else str(password_file)
    source = RedisLength(url, "jobs", measure, timeout_ms=timeout_ms, password_file=file)
    return source.read()


def let_in(client: redis.Redis, name: str, password: str, *commands: str) -> None:
    client.acl_setuser(
        name, reset=True, enabled=True, passwords=f"+{password}", keys=["jobs"], commands=commands
    )


def test_the_length_of_a_list_is_read(server: TcpServer) -> None:
    with raw(server.url) as client:
        client.rpush("jobs", *range(7))
    assert length(server.url) == 7.0


def test_the_length_of_a_stream_is_read(server: TcpServer) -> None:
    with raw(server.url) as client:
        for _ in range(3):
            client.xadd("jobs", {"a": 1})
    assert length(server.url, STREAM) == 3.0


@pytest.mark.parametrize("measure", list(Measure))
def test_a_key_that_is_not_there_has_length_0(server: TcpServer, measure: Measure) -> None:
    assert length(server.url, measure) == 0.0


def test_a_database_is_looked_into(server: TcpServer) -> None:
    with raw(f"{server.url}/3") as client:
        client.rpush("jobs", 1)
    assert (length(f"{server.url}/3"), length(f"{server.url}/0")) == (1.0, 0.0)


@pytest.mark.parametrize("measure", list(Measure))
def test_a_key_of_another_type_is_told(server: TcpServer, measure: Measure) -> None:
    with raw(server.url) as client:
        client.set("jobs", "text")
    with pytest.raises(RemoteError) as error:
        length(server.url, measure)
    assert str(error.value) == f"{server.url}: jobs is not a {measure.value}"


def test_the_password_is_read_again_at_each_reading(server: TcpServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    url = server.url.replace("://", "://reader@")
    with raw(server.url) as client:
        client.rpush("jobs", 1)
        for secret in ("first", "second"):
            let_in(client, "reader", secret, "+llen")
            password.write_text(f"{secret}\n")
            assert length(url, password_file=password) == 1.0


def test_a_wrong_password_is_told_and_not_repeated(server: TcpServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    with pytest.raises(RemoteError) as error:
        length(server.url.replace("://", "://nobody@"), password_file=password)
    assert str(error.value) == f"{server.url}: WRONGPASS: the user or the password is wrong"


def test_a_command_that_is_not_allowed_is_told(server: TcpServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    with raw(server.url) as client:
        let_in(client, "other", "s3cret")
    with pytest.raises(RemoteError, match="NOPERM: the user may not ask for this length"):
        length(server.url.replace("://", "://other@"), password_file=password)


def test_a_server_that_is_frozen_is_given_up(server: TcpServer) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RemoteUnreachable) as error:
            length(server.url, timeout_ms=200)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert str(error.value) == f"{server.url}: no answer within 200ms"


def test_a_server_that_is_away_is_asked_once_and_told(server: TcpServer) -> None:
    server.kill()
    try:
        with pytest.raises(RemoteError) as error:
            length(server.url)
    finally:
        server.restart()
    assert str(error.value) == f"{server.url}: Connection refused"


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Something that takes one connection and says the same to whatever it is told."""

    def serve() -> None:
        connected, _ = listening.accept()
        with connected:
            while connected.recv(4096):
                connected.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "reply", [b"$3\r\nmuch\r\n", b":much\r\n", b"$-1\r\n", b"*0\r\n", b"$1\r\n7\r\n"]
)
def test_what_is_no_length_is_told(reply: bytes) -> None:
    with answering(reply) as url, pytest.raises(RemoteError) as error:
        length(url)
    assert str(error.value) == f"{url}: not an answer of Redis"


def test_what_is_no_redis_is_told() -> None:
    with answering(b"HTTP/1.1 400 Bad\r\n\r\n") as url, pytest.raises(RemoteError) as error:
        length(url)
    assert str(error.value).startswith(f"{url}: Protocol Error")


def test_a_server_that_repeats_the_password_does_not_have_it_told(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    unknown = b"-ERR unknown command 'AUTH', with args beginning with: 's3cret'\r\n"
    with answering(unknown) as url, pytest.raises(RemoteError) as error:
        length(url, password_file=password)
    assert str(error.value) == f"{url}: ERR: refused"


@pytest.mark.parametrize(
    "reply",
    [
        b"-ERR unknown command 'AUTH', with args beginning with: '%b'\r\n",
        b"-NEW %b\r\n",
        b"-%b\r\n",
        b"%b\r\n",
    ],
)
def test_nor_is_a_part_of_a_long_password(tmp_path: Path, reply: bytes) -> None:
    """Redis repeats no more than 128 characters of it."""
    password = tmp_path / "password"
    password.write_text("s3cret" * 30)
    repeated = reply % (b"s3cret" * 30)[:128]
    with answering(repeated) as url, pytest.raises(RemoteError) as error:
        length(url, password_file=password)
    assert str(error.value).startswith(f"{url}: ")
    assert "s3cret" not in str(error.value)


def test_with_a_password_a_server_that_is_away_is_told(server: TcpServer, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    server.kill()
    try:
        with pytest.raises(RemoteError) as error:
            length(server.url, password_file=password)
    finally:
        server.restart()
    assert str(error.value) == f"{server.url}: Connection refused"
