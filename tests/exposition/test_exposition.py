"""A real client against the real server: answers, refusals, bounds, and what is left after stop."""

import http.client
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoheal.adapters import exposition
from autoheal.adapters.exposition import Exposition
from autoheal.errors import UserError
from autoheal.telemetry import Telemetry

GOLDEN = Path(__file__).with_name("metrics.golden")


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 1_700_000_000_000


class Scene:
    """A running server, and what it reports on."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.clock = HandClock()
        self.telemetry = Telemetry(self.clock)
        self.reasons: list[str] = []
        self.server = Exposition(listen, self.telemetry, lambda: self.reasons)

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        client = http.client.HTTPConnection(*self.server.address, timeout=5)
        try:
            client.request(method, path, headers=headers)
            answer = client.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            client.close()

    def connect(self, sent: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.server.address, timeout=5)
        client.sendall(sent)
        return client


@pytest.fixture
def scene() -> Iterator[Scene]:
    before = set(threading.enumerate())
    scene = Scene()
    scene.server.start()
    yield scene
    scene.server.stop()
    assert set(threading.enumerate()) == before


def test_metrics(scene: Scene) -> None:
    scene.telemetry.rules.set(7)
    status, headers, body = scene.ask("/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert headers["Content-Length"] == str(len(body))
    assert headers["Server"] == "autoheal"
    assert "autoheal_rules 7.0\n" in body


def test_metrics_as_openmetrics_for_whom_asks(scene: Scene) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    status, headers, body = scene.ask("/metrics", Accept=accept)
    assert status == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


def test_an_accept_header_that_makes_no_sense(scene: Scene) -> None:
    status, headers, _ = scene.ask("/metrics", Accept="application/openmetrics-text;version=x")
    assert (status, headers["Content-Type"][:10]) == (200, "text/plain")


def test_a_query_is_not_part_of_the_path(scene: Scene) -> None:
    assert scene.ask("/healthz?verbose=1")[0] == 200


def test_healthy_while_every_loop_ticks(scene: Scene) -> None:
    assert scene.ask("/healthz")[::2] == (200, "ok\n")
    scene.telemetry.expect("engine", 20.0)
    scene.telemetry.expect("collector", 2.5)
    scene.telemetry.expect("executor", 60.0)
    scene.clock.now_s += 43
    assert scene.ask("/healthz")[::2] == (
        503,
        "collector: last tick 43s ago, limit 2.5s\nengine: last tick 43s ago, limit 20s\n",
    )
    scene.telemetry.ticked("engine", 0.1)
    scene.telemetry.ticked("collector", 0.1)
    assert scene.ask("/healthz")[::2] == (200, "ok\n")


def test_a_failed_tick_is_no_sign_of_life(scene: Scene) -> None:
    scene.telemetry.expect("engine", 20.0)
    scene.clock.now_s += 43
    scene.telemetry.failed("engine")
    assert scene.ask("/healthz")[0] == 503


def test_ready_when_there_is_no_reason_not_to_be(scene: Scene) -> None:
    assert scene.ask("/readyz")[::2] == (200, "ok\n")
    scene.reasons = ["no rules are loaded", "the store is away"]
    assert scene.ask("/readyz")[::2] == (503, "no rules are loaded\nthe store is away\n")


@pytest.mark.parametrize("path", ["/", "/metricsx", "/metrics/", "/healthz/x", "*"])
def test_any_other_path_is_not_found(scene: Scene, path: str) -> None:
    status, _, body = scene.ask(path)
    assert (status, body) == (404, "try /metrics, /healthz or /readyz\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"])
@pytest.mark.parametrize("path", ["/metrics", "/elsewhere"])
def test_any_other_method_is_refused(scene: Scene, method: str, path: str) -> None:
    status, headers, body = scene.ask(path, method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", "only GET and HEAD\n")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/elsewhere"])
def test_head_is_get_without_the_body(scene: Scene, path: str) -> None:
    scene.reasons = ["not yet"]
    status, headers, body = scene.ask(path, "HEAD")
    get_status, get_headers, get_body = scene.ask(path)
    assert (status, body) == (get_status, "")
    assert headers["Content-Length"] == get_headers["Content-Length"] == str(len(get_body))


def test_nothing_follows_the_headers_of_an_answer_to_head(scene: Scene) -> None:
    with scene.connect(b"HEAD /metrics HTTP/1.0\r\n\r\n") as client:
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert answer.partition(b"\r\n\r\n")[2] == b""


def test_an_error_in_ready_ends_the_connection_and_is_logged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[str]:
        raise LookupError("no such thing")

    monkeypatch.setattr(scene.server._server, "ready", broken)
    with pytest.raises(http.client.RemoteDisconnected):
        scene.ask("/readyz")
    (record,) = (entry for entry in caplog.records if entry.levelno == logging.ERROR)
    assert record.message == "a request failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is LookupError
    assert scene.ask("/healthz")[0] == 200


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /healthz" + b"x" * 20_000,
        b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 20_000,
        b"GET /healthz HTTP/1.1\r\n" + b"A: x\r\n" * 90 + b"B: " + b"x" * 20_000,
    ],
)
def test_a_request_that_is_too_large(scene: Scene, request_text: bytes) -> None:
    with scene.connect(request_text[:16_384]) as client:
        assert client.recv(65_536).startswith(b"HTTP/1.0 431 ")


def test_what_is_no_request_is_answered_in_plain_text(scene: Scene) -> None:
    with scene.connect(b"GET <b> HTTP/x\r\n\r\n") as client:
        answer = client.recv(65_536)
    assert b"400 " in answer
    assert b"<html" not in answer.lower()


def test_a_client_that_says_nothing_is_hung_up_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exposition._Handler.timeout == 5
    monkeypatch.setattr(exposition._Handler, "timeout", 0.05)
    with scene.connect() as client:
        assert client.recv(1) == b""


def test_a_client_that_drips_is_hung_up_on(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "_CONNECTION_AGE_S_MAX", 0.2)
    with scene.connect(b"GET /") as client, pytest.raises(ConnectionError):
        _drip(client)


def _drip(client: socket.socket) -> None:
    until = time.monotonic() + 3
    while time.monotonic() < until:
        client.sendall(b"x")
        time.sleep(0.02)


def test_only_so_many_clients_at_once(scene: Scene) -> None:
    idle = [scene.connect() for _ in range(exposition._CONNECTIONS_MAX)]
    try:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            scene.ask("/healthz")
    finally:
        for client in idle:
            client.close()
    assert _eventually(lambda: _status(scene, "/healthz") == 200)


def _status(scene: Scene, path: str) -> int:
    try:
        return scene.ask(path)[0]
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return 0


def _eventually(what: object) -> bool:
    assert callable(what)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.01)
    return False


def test_stop_frees_the_port_and_ends_all_threads_though_clients_hang() -> None:
    before = set(threading.enumerate())
    scene = Scene()
    scene.server.start()
    host, port = scene.server.address
    idle = [scene.connect() for _ in range(3)]
    assert _eventually(lambda: len(threading.enumerate()) == len(before) + 4)
    began = time.monotonic()
    scene.server.stop()
    scene.server.stop()
    assert time.monotonic() - began < 2
    assert set(threading.enumerate()) == before
    for client in idle:
        client.close()
    again = Exposition(f"{host}:{port}", scene.telemetry, list)
    again.start()
    assert again.address == (host, port)
    again.stop()


def test_it_can_be_started_again() -> None:
    scene = Scene()
    for _ in range(2):
        scene.server.start()
        assert scene.ask("/healthz")[0] == 200
        scene.server.stop()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = scene.server.address


def test_ipv6() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    scene = Scene("[::1]:0")
    scene.server.start()
    assert scene.server.address[0] == "::1"
    assert scene.ask("/healthz")[0] == 200
    scene.server.stop()


def test_a_port_that_is_taken(scene: Scene) -> None:
    host, port = scene.server.address
    second = Exposition(f"{host}:{port}", scene.telemetry, list)
    with pytest.raises(UserError) as caught:
        second.start()
    assert str(caught.value) == f"cannot listen on {host}:{port}: Address already in use"
    second.stop()


@pytest.mark.parametrize(
    ("listen", "line"),
    [
        ("9477", 'cannot listen: "9477" is not host:port (try 0.0.0.0:9477, or off)'),
        ("", 'cannot listen: "" is not host:port (try 0.0.0.0:9477, or off)'),
        (
            "192.0.2.1:0",
            "cannot listen on 192.0.2.1:0: Cannot assign requested address",
        ),
    ],
)
def test_an_address_that_is_none(listen: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        Exposition(listen, Telemetry(HandClock()), list).start()
    assert str(caught.value) == line


def test_a_host_nobody_knows() -> None:
    with pytest.raises(UserError, match=r"^cannot listen on host\.invalid:0: "):
        Exposition("host.invalid:0", Telemetry(HandClock()), list).start()


def test_names_helps_and_types_are_as_people_wrote_them_into_their_dashboards(
    scene: Scene,
) -> None:
    body = scene.ask("/metrics")[2]
    lines = re.findall(r"^# .*\n", body, re.MULTILINE)
    # The client library adds, for each counter, the time at which it was made.
    described = "".join(line for line in lines if "_created " not in line)
    assert described == GOLDEN.read_text(), f"if this is meant, write it to {GOLDEN.name}"


def test_promtool_finds_no_fault(scene: Scene) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "promtool is not on PATH (Debian: prometheus)"
        if os.environ.get("AUTOHEAL_REQUIRE_RIG") == "1":
            pytest.fail(message)
        pytest.skip(message)
    _use_every_metric(scene.telemetry)
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=scene.ask("/metrics")[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def _use_every_metric(telemetry: Telemetry) -> None:
    telemetry.expect("engine", 20.0)
    telemetry.ticked("engine", 0.1)
    telemetry.failed("engine")
    telemetry.leader.labels("engine").set(1)
    telemetry.events.labels("oom").inc()
    telemetry.buffered.labels("samples").set(1)
    telemetry.dropped.labels("samples").inc()
    telemetry.decisions.labels("scale_up", "dry-run").inc()
    telemetry.held.labels("cooldown").inc()
    telemetry.outcomes.labels("applied").inc()
    telemetry.source_age.labels("jobs").set(5)
    telemetry.source_failures.labels("jobs").inc()
    telemetry.notifications.labels("webhook", "sent").inc()
    telemetry.reload_successful.set(0)
    telemetry.reload_success.set(1_700_000_000)
    telemetry.incidents.labels("remedied").inc()
    for histogram in (
        telemetry.time_to_detect,
        telemetry.time_to_act,
        telemetry.time_to_recover,
    ):
        histogram.observe(90)
    telemetry.quarantined.set(1)
    telemetry.outage.set(1)
