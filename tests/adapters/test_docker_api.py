from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from adapters.engine import Engine, Handler, Seen
from autoheal.adapters.docker_api import (
    ForbiddenRequestError,
    ReadOnlyDocker,
    SwarmRole,
    WritableDocker,
    swarm_role,
)
from autoheal.errors import RemoteRefused, RemoteUnreachable, UserError

SERVICE = "8uq2sbrs6jfqnjtmr2rnlsvc9"
MUTATING = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "post", "CONNECT", "TRACE", "BREW")
URLS = (
    "http+docker://localhost/v1.41/services",
    "http://localhost/v1.41/services",
    "https://localhost/v1.41/services",
    "unknown://localhost/v1.41/services",
    "HTTP+DOCKER://localhost/v1.41/services",
)


@pytest.fixture
def reader(engine: Engine) -> Iterator[ReadOnlyDocker]:
    with closing(ReadOnlyDocker(engine.url, timeout_s=1)) as docker:
        yield docker


@pytest.fixture
def writer(engine: Engine) -> Iterator[WritableDocker]:
    with closing(WritableDocker(engine.url, timeout_s=1)) as docker:
        yield docker


class TestReadOnly:
    @pytest.mark.parametrize("url", URLS)
    @pytest.mark.parametrize("method", MUTATING)
    def test_no_route_of_the_session_lets_a_mutation_out(
        self, engine: Engine, reader: ReadOnlyDocker, method: str, url: str
    ) -> None:
        session = reader._session
        with pytest.raises(ForbiddenRequestError):
            session.request(method, url, data="{}")
        prepared = requests.Request(method, url, data="{}").prepare()
        with pytest.raises(ForbiddenRequestError):
            session.send(prepared)
        with pytest.raises(ForbiddenRequestError):
            session.get_adapter(url).send(prepared)
        assert engine.seen == []

    @pytest.mark.parametrize("name", ["post", "put", "delete", "patch", "options"])
    def test_nor_do_its_named_methods(
        self, engine: Engine, reader: ReadOnlyDocker, name: str
    ) -> None:
        with pytest.raises(ForbiddenRequestError):
            getattr(reader._session, name)(URLS[0])
        assert engine.seen == []

    @pytest.mark.parametrize(
        ("call", "argument"),
        [("remove_service", SERVICE), ("stop", "web"), ("leave_swarm", True), ("remove_node", "n")],
    )
    def test_nor_do_the_sdks_own(
        self, engine: Engine, reader: ReadOnlyDocker, call: str, argument: object
    ) -> None:
        with pytest.raises(ForbiddenRequestError):
            getattr(reader._session, call)(argument)
        assert engine.seen == []

    @pytest.mark.parametrize(
        "path",
        [
            "/swarm",
            "/secrets",
            "/containers/abc/archive",
            "/containers/abc/attach/ws",
            "/containers/abc/logs",
            "/services/../swarm",
            "/services/a/b",
            "/services/%2e%2e",
            "/services//x",
            "",
        ],
    )
    def test_nothing_is_read_but_what_is_listed(self, reader: ReadOnlyDocker, path: str) -> None:
        with pytest.raises(ForbiddenRequestError):
            reader.get(path)

    def test_over_tcp_too(self) -> None:
        with closing(ReadOnlyDocker("tcp://127.0.0.1:9")) as reader:
            for url in ("http://127.0.0.1:9/v1.41/x", "https://127.0.0.1:9/v1.41/x"):
                with pytest.raises(ForbiddenRequestError):
                    reader._session.post(url)


class TestWritable:
    def test_posts_the_spec_as_it_is_to_the_one_path(
        self, engine: Engine, writer: WritableDocker
    ) -> None:
        engine.says(f"/services/{SERVICE}/update", {"Warnings": None})
        spec = {"Name": "web", "Labels": None, "TaskTemplate": {"ForceUpdate": 0}}
        writer.update_service(SERVICE, 42, spec)
        sent = engine.seen[-1]
        assert (sent.method, sent.path) == ("POST", f"/v1.41/services/{SERVICE}/update")
        assert sent.parameters == {"version": "42"}
        assert json.loads(sent.body) == spec

    @pytest.mark.parametrize(
        ("method", "target"),
        [
            ("POST", "/services/create"),
            ("POST", f"/services/{SERVICE}/update"),
            ("POST", f"/services/{SERVICE}/update?version=1&rollback=previous"),
            ("POST", f"/services/{SERVICE}/update?version=-1"),
            ("POST", "/services/../containers/create/update?version=1"),
            ("POST", f"/services/{SERVICE}/update/x?version=1"),
            ("POST", "/nodes/abc/update?version=1"),
            ("POST", "/swarm/update?version=1"),
            ("PUT", f"/services/{SERVICE}/update?version=1"),
            ("DELETE", f"/services/{SERVICE}"),
        ],
    )
    def test_nothing_else_gets_out(
        self, engine: Engine, writer: WritableDocker, method: str, target: str
    ) -> None:
        with pytest.raises(ForbiddenRequestError):
            writer._session.request(method, f"{writer._base}/v1.41{target}", data="{}")
        assert engine.seen == []

    def test_a_stale_version_is_a_refusal_with_dockers_words(
        self, engine: Engine, writer: WritableDocker
    ) -> None:
        words = "rpc error: code = Unknown desc = update out of sequence"
        engine.says(f"/services/{SERVICE}/update", {"message": words}, 500)
        with pytest.raises(RemoteRefused) as refused:
            writer.update_service(SERVICE, 1, {})
        assert (refused.value.status, refused.value.detail) == (500, words)

    def test_a_lost_reply_is_unknown_not_refused(
        self, engine: Engine, writer: WritableDocker
    ) -> None:
        engine.routes[f"/services/{SERVICE}/update"] = lambda _, handler: handler.cut()
        with pytest.raises(RemoteUnreachable, match="gave no answer"):
            writer.update_service(SERVICE, 1, {})
        assert [seen.method for seen in engine.seen] == ["GET", "POST"], "sent once, not retried"


class TestVersion:
    def test_construction_connects_to_nothing(self, tmp_path: Path) -> None:
        ReadOnlyDocker(f"unix://{tmp_path}/nobody.sock").close()

    def test_is_asked_without_a_version_and_once(
        self, engine: Engine, reader: ReadOnlyDocker
    ) -> None:
        engine.says("/version", {"ApiVersion": "1.52", "MinAPIVersion": "1.44"})
        engine.says("/services", [])
        assert reader.get("/services", status="true") == []
        reader.get("/services")
        assert engine.paths == ["/version", "/v1.52/services", "/v1.52/services"]
        assert engine.seen[1].parameters == {"status": "true"}

    def test_is_asked_again_after_a_failure(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        engine.says("/services", [])
        reader.get("/services")
        engine.says("/version", {"ApiVersion": "1.47"})
        engine.says("/services", {"message": "client version 1.41 is too old"}, 400)
        with pytest.raises(RemoteRefused):
            reader.get("/services")
        engine.says("/services", [])
        reader.get("/services")
        assert engine.paths[-2:] == ["/version", "/v1.47/services"]

    @pytest.mark.parametrize("answer", [[], {}, {"ApiVersion": 1.41}, {"ApiVersion": "1.41/../"}])
    def test_what_is_no_engine_is_said_so(
        self, engine: Engine, reader: ReadOnlyDocker, answer: object
    ) -> None:
        engine.says("/version", answer)
        with pytest.raises(RemoteUnreachable, match="is not a Docker engine"):
            reader.get("/info")

    def test_a_restarted_engine_needs_no_restart_of_ours(
        self, engine: Engine, reader: ReadOnlyDocker
    ) -> None:
        engine.says("/services", [])
        reader.get("/services")
        engine.stop()
        engine.start()
        assert reader.get("/services") == []


class TestErrors:
    def test_nobody_there(self, tmp_path: Path) -> None:
        url = f"unix://{tmp_path}/nobody.sock"
        with closing(ReadOnlyDocker(url)) as reader, pytest.raises(RemoteUnreachable) as caught:
            reader.get("/info")
        assert str(caught.value) == f"Docker at {url} gave no answer: No such file or directory"

    def test_silence(self, engine: Engine) -> None:
        engine.routes["/info"] = lambda *_: time.sleep(2)
        with (
            closing(ReadOnlyDocker(engine.url, timeout_s=0.2)) as reader,
            pytest.raises(RemoteUnreachable, match=r"nothing within 0\.2 s"),
        ):
            reader.get("/info")

    def test_an_answer_cut_short(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        def half(_: Seen, handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"half": ')
            handler.cut()

        engine.routes["/info"] = half
        with pytest.raises(RemoteUnreachable, match="the connection was cut"):
            reader.get("/info")

    def test_not_json(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        engine.routes["/info"] = lambda _, handler: handler.raw(b"<html>")
        with pytest.raises(RemoteUnreachable, match="was not JSON"):
            reader.get("/info")

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b'{"message": "This node is not a swarm manager."}', "This node is not a swarm"),
            (b"<html>denied</html>", "<html>denied"),
            (b"", "Service Unavailable"),
            (b'{"message": "' + b"x" * 9999 + b'"}', "x" * 500),
        ],
    )
    def test_a_refusal_carries_status_and_words(
        self, engine: Engine, reader: ReadOnlyDocker, body: bytes, detail: str
    ) -> None:
        engine.routes["/nodes"] = lambda _, handler: handler.raw(body, 503)
        with pytest.raises(RemoteRefused) as caught:
            reader.get("/nodes")
        assert caught.value.status == 503
        assert caught.value.detail.startswith(detail)
        assert len(caught.value.detail) <= 500

    def test_redirects_are_not_followed(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        def elsewhere(_: Seen, handler: Handler) -> None:
            handler.send_response(307)
            handler.send_header("Location", "/services")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        engine.routes["/info"] = elsewhere
        with pytest.raises(RemoteRefused):
            reader.get("/info")
        assert engine.paths == ["/version", "/v1.41/info"]

    def test_proxies_of_the_environment_are_not_asked(
        self, engine: Engine, reader: ReadOnlyDocker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        engine.says("/info", {})
        assert reader.get("/info") == {}

    @pytest.mark.parametrize("url", ["", "/var/run/docker.sock", "ssh://host", "npipe://x"])
    def test_a_url_that_cannot_be_meant(self, url: str) -> None:
        with pytest.raises(UserError, match="is not a Docker URL"):
            ReadOnlyDocker(url)


def test_speaks_tcp_past_the_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    class Tcp(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ApiVersion": "1.41"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Tcp) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with closing(ReadOnlyDocker(f"tcp://127.0.0.1:{server.server_port}")) as reader:
            assert reader.get("/version") == {"ApiVersion": "1.41"}
        server.shutdown()


def test_many_paths_share_one_pool_of_connections(engine: Engine, reader: ReadOnlyDocker) -> None:
    for number in range(40):
        engine.says(f"/containers/c{number}/json", {})
        reader.get(f"/containers/c{number}/json")
    server = engine._server
    assert server is not None
    assert len(server.connections) == 1


class TestSwarmRole:
    def test_of_the_leader(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        swarm = {"NodeID": "n1", "LocalNodeState": "active", "ControlAvailable": True}
        engine.says("/info", {"Swarm": swarm})
        engine.says("/nodes/n1", {"ManagerStatus": {"Leader": True}})
        assert swarm_role(reader) == SwarmRole("n1", active=True, manager=True, leader=True)
        engine.says("/nodes/n1", {"ManagerStatus": {"Reachability": "reachable"}})
        assert swarm_role(reader) == SwarmRole("n1", active=True, manager=True, leader=False)

    def test_of_a_worker_and_of_no_node(self, engine: Engine, reader: ReadOnlyDocker) -> None:
        swarm = {"NodeID": "n2", "LocalNodeState": "active", "ControlAvailable": False}
        engine.says("/info", {"Swarm": swarm})
        assert swarm_role(reader) == SwarmRole("n2", active=True, manager=False, leader=False)
        engine.says("/info", {"Swarm": {"NodeID": "", "LocalNodeState": "inactive"}})
        assert swarm_role(reader) == SwarmRole("", active=False, manager=False, leader=False)
        engine.says("/info", {})
        assert not swarm_role(reader).active
