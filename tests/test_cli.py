"""The command line as a person meets it: one clear line for each mistake, exit code 2."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import builders
from autoheal import app, records, rulefile
from autoheal.core.decision import changes
from autoheal.core.state import OVERALL_FIELD, ServiceState, State, pack_overall, pack_service
from autoheal.model import Command
from autoheal.settings import load_settings
from rig.swarm import Rig
from store.servers import DURABLE, TcpServer, raw

USER_ERROR = 2
KEY = "k" * 32
GOOD_RULE = """
rules:
  - name: cpu-high
    when: {metric: cpu_percent, over: 2m, above: 80}
    then: {action: scale_up, max: 3}
    cooldown: 3m
"""
EVENT_RULE = """
rules:
  - name: oom
    when: {event: oom_killed, over: 1h, at_least: 1}
    then: {action: escalate}
"""
BAD_RULE = GOOD_RULE.replace("2m", "2 minutes")


def autoheal(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AUTOHEAL_")}
    return subprocess.run(
        [sys.executable, "-m", "autoheal", *arguments],
        env={**clean, "AUTOHEAL_LISTEN": "off", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert done.returncode == USER_ERROR
    assert done.stderr.splitlines() == [f"autoheal: {line}" for line in lines]
    assert done.stdout == ""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD_RULE)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TcpServer]:
    server = TcpServer("redis", tmp_path, *DURABLE)
    yield server
    server.stop()


def engine(url: str, rules: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {"AUTOHEAL_STORE_URL": url, "AUTOHEAL_SIGNING_KEY": KEY, **environment}
    return autoheal("engine", "--rules", str(rules), **settings)


def test_help_names_every_command() -> None:
    done = autoheal("--help")
    assert done.returncode == 0
    for command in ("run", "collector", "engine", "executor", "status", "reset", "check"):
        assert f"  {command} " in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, autoheal.cli\n"
        "heavy = {'docker', 'redis', 'numpy', 'pydantic', 'apscheduler', 'ruamel'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_says_ok(rules: Path) -> None:
    done = autoheal("check", str(rules))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 rule in 1 file: ok\n", "")


def test_check_reports_every_mistake_with_its_place(rules: Path) -> None:
    rules.write_text(BAD_RULE.replace("scale_up", "scale_upp"))
    done = autoheal("check", str(rules))
    assert done.returncode == USER_ERROR
    first, second = done.stderr.splitlines()
    assert first.startswith(f"autoheal: {rules}:4:") and '"2 minutes" is not a duration' in first  # noqa: PT018  # one line, two parts
    assert second.startswith(f"autoheal: {rules}:5:") and "scale_up" in second  # noqa: PT018  # likewise


def test_no_docker(tmp_path: Path, rules: Path) -> None:
    url = f"unix://{tmp_path}/docker.sock"
    done = autoheal("run", "--rules", str(rules), "--docker-url", url)
    assert_refused(
        done,
        f"no Docker engine at {url}: Docker at {url} gave no answer: No such file or directory"
        " (is it running, and may this user open its socket?)",
    )


def test_no_store(rules: Path) -> None:
    done = engine("redis://127.0.0.1:1", rules)
    assert done.returncode == USER_ERROR
    (line,) = done.stderr.splitlines()
    assert line.startswith("autoheal: the store at redis://127.0.0.1:1 does not answer: ")


def test_no_store_configured(rules: Path) -> None:
    done = autoheal("engine", "--rules", str(rules), AUTOHEAL_SIGNING_KEY=KEY)
    assert_refused(done, "no store: set AUTOHEAL_STORE_URL (redis://HOST:PORT)")


def test_no_signing_key(rules: Path, store: TcpServer) -> None:
    done = autoheal("engine", "--rules", str(rules), AUTOHEAL_STORE_URL=store.url)
    assert_refused(
        done,
        "no signing key: engine and executor must share one"
        " (set AUTOHEAL_SIGNING_KEY_FILE, or the secret autoheal_signing_key)",
    )


def test_a_store_that_evicts(tmp_path: Path, rules: Path) -> None:
    server = TcpServer("redis", tmp_path, "--maxmemory-policy", "allkeys-lru")
    try:
        done = engine(server.url, rules)
    finally:
        server.stop()
    assert done.returncode == USER_ERROR
    (line,) = done.stderr.splitlines()
    assert "allkeys-lru" in line
    assert "noeviction" in line


def test_a_rule_file_that_is_not_there(tmp_path: Path, store: TcpServer) -> None:
    missing = tmp_path / "nowhere.yaml"
    done = engine(store.url, missing)
    assert done.returncode == USER_ERROR
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"autoheal: {missing}:1:1: ")


def test_a_rule_file_that_cannot_be_read(tmp_path: Path, store: TcpServer) -> None:
    unreadable = tmp_path / "folder.yaml"
    unreadable.symlink_to("/proc/self/mem")
    done = engine(store.url, unreadable)
    assert done.returncode == USER_ERROR
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"autoheal: {unreadable}:1:1: ")


def test_an_invalid_rule_file(rules: Path, store: TcpServer) -> None:
    rules.write_text(BAD_RULE)
    done = engine(store.url, rules)
    assert_refused(
        done,
        f'{rules}:4:39: rules[0].when.over: "2 minutes" is not a duration (try 2m)',
    )


def test_a_misspelt_setting(rules: Path) -> None:
    done = autoheal("run", "--rules", str(rules), AUTOHEAL_STORE_ULR="redis://x")
    assert_refused(
        done, "AUTOHEAL_STORE_ULR: there is no such setting (did you mean AUTOHEAL_STORE_URL?)"
    )


def test_a_lease_shorter_than_three_steps(rules: Path, store: TcpServer) -> None:
    done = engine(store.url, rules, AUTOHEAL_STEP="60s", AUTOHEAL_LEASE_TTL="10s")
    assert_refused(done, "AUTOHEAL_LEASE_TTL (10s) must be at least 3 times AUTOHEAL_STEP (1m)")


def test_rules_that_look_back_further_than_samples_are_kept(rules: Path, store: TcpServer) -> None:
    rules.write_text(GOOD_RULE.replace("2m", "6h"))
    done = engine(store.url, rules)
    assert_refused(
        done,
        "AUTOHEAL_SAMPLES_AGE (2h) must be at least 6h8m20s for how far back the rules look",
    )


def test_a_node_counts_as_saturated_over_no_longer_than_samples_are_kept(
    rules: Path, store: TcpServer
) -> None:
    done = engine(store.url, rules, AUTOHEAL_SATURATED_WINDOW="1h", AUTOHEAL_SAMPLES_AGE="1h")
    assert_refused(
        done,
        "AUTOHEAL_SAMPLES_AGE (1h) must be at least 1h8m20s for how far back the rules look",
    )


def test_a_node_counts_as_saturated_over_a_step_at_least(rules: Path, store: TcpServer) -> None:
    done = engine(store.url, rules, AUTOHEAL_SATURATED_WINDOW="4s")
    assert_refused(done, "AUTOHEAL_SATURATED_WINDOW (4s) must be at least AUTOHEAL_STEP (5s)")


def test_rules_that_count_events_further_back_than_they_are_kept(
    rules: Path, store: TcpServer
) -> None:
    rules.write_text(EVENT_RULE)
    done = engine(store.url, rules, AUTOHEAL_EVENTS_AGE="10m")
    assert_refused(
        done,
        "AUTOHEAL_EVENTS_AGE (10m) must be at least 1h for how far back the rules count events",
    )


def test_more_actions_at_once_than_in_an_hour(rules: Path, store: TcpServer) -> None:
    done = engine(store.url, rules, AUTOHEAL_ACTIONS_AT_ONCE="6")
    assert_refused(
        done, "AUTOHEAL_ACTIONS_AT_ONCE (6) must not be more than AUTOHEAL_ACTIONS_PER_HOUR (5)"
    )


def test_status_without_a_run(tmp_path: Path) -> None:
    done = autoheal("status", AUTOHEAL_DATA_DIRECTORY=str(tmp_path))
    assert_refused(
        done,
        f"no store: {tmp_path}/store.url tells of no running `autoheal run`"
        " (start one, or set AUTOHEAL_STORE_URL)",
    )


def test_status_of_a_store_without_an_engine(store: TcpServer) -> None:
    done = autoheal("status", AUTOHEAL_STORE_URL=store.url)
    assert_refused(done, "no engine has decided anything in the last hour (is one running?)")


@pytest.fixture
def _quarantined(store: TcpServer) -> None:
    """An engine that ticked on the store has quarantined the rule cpu-high on shop_web."""
    memory = app.open_memory(load_settings({"AUTOHEAL_STORE_URL": store.url}))
    found = rulefile.parse({"rules.yaml": GOOD_RULE.encode()})
    memory.put(f"rules:{found.hash}", records.canonical({"rules.yaml": GOOD_RULE}))
    seen = changes.look(builders.service())
    known = ServiceState("shop_web", seen, 0, quarantined={"cpu-high": memory.now_ms() - 60_000})
    overall = State(tick=1, now_ms=memory.now_ms(), epoch=1, rule_set=found.hash)
    with raw(store.url) as client:
        client.hset("ah:state", "web-id", pack_service(known))
        client.hset("ah:state", OVERALL_FIELD, pack_overall(overall))


def commands_in(store: TcpServer) -> list[Command]:
    """As they lie there: a reader's cut leaves out what is written in its very millisecond."""
    with raw(store.url) as client:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange("ah:commands"))
    return [records.unpack_command({"body": fields[b"body"]}) for _, fields in entries]


@pytest.mark.usefixtures("_quarantined")
def test_reset_tells_the_engine_and_says_what_will_happen(store: TcpServer) -> None:
    done = autoheal("reset", "shop_web", "cpu-high", AUTOHEAL_STORE_URL=store.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        "from the engine's next tick on autoheal may act on shop_web again by"
        r" cpu-high \(quarantined for 1m\d*s?\)\n",
        done.stdout,
    )
    (command,) = commands_in(store)
    user = f"{getpass.getuser()}@{socket.gethostname()}"
    assert command == Command("reset", "web-id", "cpu-high", user)


@pytest.mark.usefixtures("_quarantined")
def test_reset_of_all_rules_of_a_service(store: TcpServer) -> None:
    assert autoheal("reset", "--store-url", store.url, "shop_web").returncode == 0
    (command,) = commands_in(store)
    assert (command.service, command.rule) == ("web-id", "")


@pytest.mark.usefixtures("_quarantined")
def test_reset_by_a_user_without_a_name(store: TcpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    app.reset(load_settings({"AUTOHEAL_STORE_URL": store.url}), "shop_web", "")
    assert [each.by for each in commands_in(store)] == [f"54321@{socket.gethostname()}"]


@pytest.mark.usefixtures("_quarantined")
def test_resetting_nothing_is_no_error(store: TcpServer) -> None:
    with raw(store.url) as client:
        seen = changes.look(builders.service())
        client.hset("ah:state", "web-id", pack_service(ServiceState("shop_web", seen, 0)))
    done = autoheal("reset", "shop_web", AUTOHEAL_STORE_URL=store.url)
    line = "nothing to reset: on shop_web nothing is held against any rule\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
    assert commands_in(store) == []


@pytest.mark.usefixtures("_quarantined")
def test_reset_of_what_nobody_knows(store: TcpServer) -> None:
    done = autoheal("reset", "shop_wbe", AUTOHEAL_STORE_URL=store.url)
    assert_refused(done, "there is no service shop_wbe (did you mean shop_web?)")
    done = autoheal("reset", "shop_web", "cpu-hihg", AUTOHEAL_STORE_URL=store.url)
    assert_refused(done, "there is no rule cpu-hihg (did you mean cpu-high?)")


def test_reset_on_a_store_without_an_engine(store: TcpServer) -> None:
    done = autoheal("reset", "web", AUTOHEAL_STORE_URL=store.url)
    assert_refused(done, "no engine has ticked on this store yet (is one running?)")


def test_reset_without_a_run(tmp_path: Path) -> None:
    done = autoheal("reset", "web", AUTOHEAL_DATA_DIRECTORY=str(tmp_path))
    assert_refused(
        done,
        f"no store: {tmp_path}/store.url tells of no running `autoheal run`"
        " (start one, or set AUTOHEAL_STORE_URL)",
    )


@pytest.mark.rig
def test_the_engine_must_be_a_manager_of_a_swarm(rules: Path) -> None:
    with Rig(f"c{os.getpid() % 10**6}", managers=1, workers=1) as rig:
        (worker,) = rig.workers
        not_manager = (
            f"the engine at {worker.url} is not a Swarm manager:"
            " run this on a manager (on workers: autoheal collector)"
        )
        arguments = ("run", "--rules", str(rules), "--docker-url", worker.url)
        assert_refused(autoheal(*arguments), not_manager)
        worker.docker("swarm", "leave")
        assert_refused(
            autoheal(*arguments),
            f"the engine at {worker.url} is in no Swarm (docker swarm init, or join)",
        )


def embedded_server_of(parent: int) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (server,) = [c for c in children if "server" in Path(f"/proc/{c}/cmdline").read_text()]
    return int(server)


@pytest.mark.rig
def test_run_alone_keeps_its_memory_revives_its_store_and_drains_on_sigterm(
    tmp_path: Path, rules: Path
) -> None:
    with Rig(f"a{os.getpid() % 10**6}", managers=1, workers=0) as rig:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AUTOHEAL_")}
        data = tmp_path / "data"
        settings = {
            "AUTOHEAL_LISTEN": "off",
            "AUTOHEAL_DATA_DIRECTORY": str(data),
            "AUTOHEAL_STEP": "1s",
            "AUTOHEAL_RULES": str(rules),
            "AUTOHEAL_DOCKER_URL": rig.manager.url,
        }
        rig.create_service("web")
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-m", "autoheal", "run"],
                env={**clean, **settings},
                stderr=subprocess.PIPE,
                text=True,
            )
            deadline = time.monotonic() + 60
            while "web" not in autoheal("status", **settings).stdout:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.5)
            os.kill(embedded_server_of(process.pid), signal.SIGKILL)
            time.sleep(2)
            while "web" not in autoheal("status", **settings).stdout:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.5)
            process.terminate()
            _, log = process.communicate(timeout=30)
            assert process.returncode == 0, log
            assert log.splitlines()[-1].endswith("INFO app: stopped")
            assert "Traceback" not in log
            assert "the embedded store ended; it runs again, on the same data" in log
            assert not (data / "store.url").exists()
        assert (data / "signing_key").stat().st_mode & 0o777 == 0o600
