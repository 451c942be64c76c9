"""A number in a JSON response, of a real server: sound, wrong, slow and hostile ones."""

from __future__ import annotations

import base64
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.web import (
    Behaviour,
    Site,
    drips_body,
    drips_headers,
    drips_one_header,
    hangs,
    is_huge,
    is_no_http,
    redirects,
    serving,
)
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.http_get import _Until
from autoheal.adapters.json_number import JsonNumber
from autoheal.errors import RemoteError, RemoteRefused, RemoteUnreachable
from executor.fakes import FakeClock

PLENTY_MS = 20_000
SHORT_MS = 200


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as started:
        yield started


def number(url: str, path: str = "a", timeout_ms: int = PLENTY_MS, **options: str) -> JsonNumber:
    return JsonNumber(url, path, SystemClock(), timeout_ms=timeout_ms, **options)


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ('{"a": 3}', "a", 3.0),
        ('{"a": -1.5e3}', "a", -1500.0),
        ('{"a": {"b": [{"c": 1}, {"c": 2}]}}', "a.b[1].c", 2.0),
        ("[[7, 8], 9]", "[0][1]", 8.0),
        ("[9]", "[0]", 9.0),
        ('{"0": 5}', "0", 5.0),
        ('{"a-b": {"$c_1": 6}}', "a-b.$c_1", 6.0),
        ('{"a": 0}', "a", 0.0),
    ],
)
def test_the_number_at_the_path_is_read(site: Site, body: str, path: str, expected: float) -> None:
    site.says(body)
    assert number(site.url + "/stats?of=queue", path).read() == expected
    assert site.asked[0][0] == "/stats?of=queue"


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ('{"a": "3"}', "a", "a is text, not a number"),
        ('{"a": true}', "a", "a is true or false, not a number"),
        ('{"a": null}', "a", "a is null, not a number"),
        ('{"a": {"b": []}}', "a.b", "a.b is a list, not a number"),
        ('{"a": {}}', "a", "a is an object, not a number"),
        ('{"b": 1}', "a", "no a in the answer, which is an object"),
        ('{"a": {"b": 1}}', "a.c", "no .c in a, which is an object"),
        ('{"a": [1]}', "a[1]", "no [1] in a, which is a list"),
        ('{"a": {"0": 1}}', "a[0]", "no [0] in a, which is an object"),
        ('{"a": [1]}', "a.0", "no .0 in a, which is a list"),
        ('{"a": 1}', "a.b", "no .b in a, which is a number"),
        ('{"a": null}', "a.b", "no .b in a, which is null"),
        ("5", "a", "no a in the answer, which is a number"),
        ('{"a": 1' + "0" * 400 + "}", "a", "a is too large a number"),
    ],
)
def test_anything_but_a_number_is_told(site: Site, body: str, path: str, words: str) -> None:
    site.says(body)
    with pytest.raises(RemoteError) as error:
        number(site.url, path).read()
    assert str(error.value) == words


@pytest.mark.parametrize(
    "body", ["", "no", '{"a": 1', "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "\ud800"]
)
def test_what_is_not_json_is_told_and_not_repeated(site: Site, body: str) -> None:
    site.behaviour = lambda request: request.answer(200, body.encode(errors="surrogatepass"))
    with pytest.raises(RemoteError) as error:
        number(site.url).read()
    assert str(error.value) == f"{site.url}: the answer is not JSON"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (204, "204: No Content"),
        (301, "301: Moved Permanently"),
        (404, "404: Not Found"),
        (503, "503: Service Unavailable"),
        (599, "599: no success"),
    ],
)
def test_any_status_but_ok_is_a_refusal(site: Site, status: int, words: str) -> None:
    site.says('{"a": 1}' if status != 204 else "", status)
    with pytest.raises(RemoteRefused) as refused:
        number(site.url).read()
    assert str(refused.value) == f"{words}, says {site.url}"


def test_a_redirect_is_not_followed(site: Site) -> None:
    site.behaviour = redirects
    with pytest.raises(RemoteRefused, match="302: Found"):
        number(site.url).read()
    assert len(site.asked) == 1


@pytest.mark.parametrize("behaviour", [hangs, drips_headers, drips_one_header, drips_body])
def test_an_answer_that_does_not_end_is_given_up(site: Site, behaviour: Behaviour) -> None:
    site.behaviour = behaviour
    with pytest.raises(RemoteUnreachable) as error:
        number(site.url, timeout_ms=SHORT_MS).read()
    assert str(error.value) == f"{site.url}: no answer within 200ms"


def test_no_byte_is_waited_for_after_the_deadline(site: Site) -> None:
    class Leaping(SystemClock):
        def monotonic(self) -> float:
            return next(times)

    times = iter([0.0, 30.0])
    site.says('{"a": 1}')
    with pytest.raises(RemoteUnreachable, match="no answer within 20s"):
        JsonNumber(site.url, "a", Leaping(), timeout_ms=PLENTY_MS).read()


def test_each_byte_is_waited_for_until_the_deadline_and_no_longer() -> None:
    clock = FakeClock()
    ours, theirs = socket.socketpair()
    with ours, theirs, _Until(ours, clock, deadline=5.0) as received:
        theirs.sendall(b"ab")
        for passed_s in (0.0, 3.0):
            clock.advance(passed_s)
            assert received.readinto(bytearray(1)) == 1
            assert ours.gettimeout() == 5.0 - passed_s


def test_a_server_that_takes_no_connection_is_given_up() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            with pytest.raises(RemoteUnreachable, match="no answer within 200ms"):
                number(f"http://127.0.0.1:{port}", timeout_ms=SHORT_MS).read()
        finally:
            for each in waiting:
                each.close()


def test_an_answer_of_just_the_most_bytes_is_read(site: Site) -> None:
    site.says('{"a": 1}' + " " * (2**20 - 8))
    assert number(site.url).read() == 1.0


def test_one_byte_more_is_refused(site: Site) -> None:
    site.says('{"a": 1}' + " " * (2**20 - 7))
    with pytest.raises(RemoteError, match="the answer is longer than 1048576 bytes"):
        number(site.url).read()


def test_an_answer_without_an_end_is_not_read_to_it(site: Site) -> None:
    site.behaviour = is_huge
    with pytest.raises(RemoteError, match="the answer is longer than 1048576 bytes"):
        number(site.url).read()


def test_what_is_not_http_is_told_and_not_repeated(site: Site) -> None:
    site.behaviour = is_no_http
    with pytest.raises(RemoteUnreachable) as error:
        number(site.url).read()
    assert str(error.value) == f"{site.url}: BadStatusLine"


def test_nobody_there_is_told_without_the_secrets_of_the_url() -> None:
    with pytest.raises(RemoteUnreachable) as error:
        number("http://user@127.0.0.1:1/secret?token=secret").read()
    assert str(error.value) == "http://127.0.0.1:1: Connection refused"
    assert error.value.__cause__ is None


def test_no_proxy_of_the_environment_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    site.says('{"a": 4}')
    assert number(site.url).read() == 4.0


def test_a_token_is_read_again_at_each_request(site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    site.says('{"a": 4}')
    source = number(site.url, token_file=str(token))
    for secret in ("first\n", "second"):
        token.write_text(secret)
        source.read()
    sent = [headers["Authorization"] for _, headers in site.asked]
    assert sent == ["Bearer first", "Bearer second"]


def test_the_user_in_the_url_and_the_password_in_a_file_are_basic_authentication(
    site: Site, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("p:ss\n")
    site.says('{"a": 4}')
    number(f"http://us%40er@127.0.0.1:{site.port}", password_file=str(password)).read()
    number(f"http://alone@127.0.0.1:{site.port}").read()
    sent = [headers["Authorization"].partition(" ") for _, headers in site.asked]
    assert [(scheme, base64.b64decode(pair)) for scheme, _, pair in sent] == [
        ("Basic", b"us@er:p:ss"),
        ("Basic", b"alone:"),
    ]


@pytest.mark.parametrize("secret", [b"", b" \n", b"two\nlines", b"caf\xc3\xa9", b"x" * 65_537])
def test_a_file_that_holds_no_secret_is_told_and_nobody_asked(
    site: Site, tmp_path: Path, secret: bytes
) -> None:
    token = tmp_path / "token"
    token.write_bytes(secret)
    with pytest.raises(RemoteError) as error:
        number(site.url, token_file=str(token)).read()
    assert str(error.value) == f"{token}: not one line of ASCII text"
    assert site.asked == []


def test_a_file_that_is_not_there_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RemoteError) as error:
        number(site.url, token_file=str(tmp_path / "none")).read()
    assert str(error.value) == f"{tmp_path}/none: No such file or directory"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, with its key."""
    path = tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(path), "-out", f"{path}.crt",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_https_is_asked_where_the_certificate_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(certificate) as site:
        site.says('{"a": 4}')
        with pytest.raises(RemoteUnreachable, match="certificate verify failed"):
            number(site.url).read()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert number(site.url).read() == 4.0
        site.behaviour = drips_body
        with pytest.raises(RemoteUnreachable, match="no answer within 200ms"):
            number(site.url, timeout_ms=SHORT_MS).read()
