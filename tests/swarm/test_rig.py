"""The rig proves itself: what tests on it rely on, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rig.alertmanager import Alertmanager
from rig.commands import RigError, RigTimeoutError
from rig.docker_proxy import DockerProxy
from rig.engine import EngineError, request
from rig.leftovers import remove_orphans
from rig.swarm import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.node import Node

TESTS = Path(__file__).resolve().parent.parent
OWNER = """
import sys, time
from rig.swarm import Rig
Rig(sys.argv[1], managers=1, workers=0).start()
print("started", flush=True)
time.sleep(600)
"""


def own_name(letter: str) -> str:
    """A rig's name that no other test process uses."""
    return f"{letter}{os.getpid()}"


# -- the Swarm


def test_three_nodes_are_ready_and_have_names_and_engines_of_their_own(swarm: Rig) -> None:
    seen = swarm.manager.get("/nodes")
    assert {entry["Description"]["Hostname"] for entry in seen} == {"m1", "w1", "w2"}
    assert {entry["Status"]["State"] for entry in seen} == {"ready"}
    assert {entry["ID"] for entry in seen} == {node.node_id for node in swarm.nodes}
    assert len({node.get("/info")["ID"] for node in swarm.nodes}) == 3
    assert [node.name for node in swarm.managers] == ["m1"]
    assert [node.name for node in swarm.workers] == ["w1", "w2"]


def test_tasks_spread_over_all_nodes_and_really_run_there(swarm: Rig) -> None:
    swarm.create_service("spread", replicas=3, labels={"autoheal.enable": "true"})
    tasks = swarm.wait_running("spread", 3)
    assert {task.node.name for task in tasks} == {"m1", "w1", "w2"}
    for task in tasks:
        assert task.node.get(f"/containers/{task.container_id}/json")["State"]["Running"]
    assert swarm.replicas("spread") == 3
    assert swarm.spec("spread")["Labels"] == {"autoheal.enable": "true"}


def test_every_mode_of_service_can_be_created(swarm: Rig) -> None:
    swarm.create_service("all", mode="global", constraints=["node.role==worker"])
    swarm.create_service("once", mode="replicated-job", command=["true"])
    swarm.create_service("once-each", mode="global-job", command=["true"])
    assert {task.node.name for task in swarm.wait_running("all", 2)} == {"w1", "w2"}
    assert swarm.replicas("all") is None

    def completed(name: str) -> int:
        return sum(task["Status"]["State"] == "complete" for task in swarm.tasks(name))

    swarm.wait(lambda: completed("once") == 1 and completed("once-each") == 3, 20, "the jobs")


def test_an_update_reaches_the_tasks(swarm: Rig) -> None:
    swarm.create_service("scaled", replicas=1)
    before = swarm.version("scaled")
    swarm.update_service("scaled", "--replicas", "3")
    assert len(swarm.wait_running("scaled", 3)) == 3
    assert swarm.version("scaled") > before


# -- load and figures


def cpu_share(node: Node, container_id: str, seconds: float) -> float:
    """Cores that a container used, on average, over this long."""

    def used() -> float:
        use = node.use_of(container_id)
        return use.user_seconds + use.system_seconds

    began, first = time.monotonic(), used()
    time.sleep(seconds)
    return (used() - first) / (time.monotonic() - began)


def busy_share(node: Node, seconds: float) -> float:
    """The part of its capacity that a node was busy, as a collector reads it."""

    def read() -> tuple[int, int]:
        first = (node.figures_root / "proc/stat").read_text().splitlines()[0]
        name, *ticks = first.split()
        assert name == "cpu"
        numbers = [int(tick) for tick in ticks]
        return sum(numbers), numbers[3]

    total_before, idle_before = read()
    time.sleep(seconds)
    total, idle = read()
    return 1 - (idle - idle_before) / (total - total_before)


def test_a_burner_uses_its_limit_when_switched_on_and_the_node_shows_it(swarm: Rig) -> None:
    swarm.create_service("burner", cpus=0.3, constraints=["node.hostname==w1"])
    (task,) = swarm.wait_running("burner", 1)
    assert cpu_share(task.node, task.container_id, 0.5) < 0.05
    assert busy_share(task.node, 2.5) < 0.05

    swarm.burn("burner")
    swarm.wait(lambda: cpu_share(task.node, task.container_id, 0.5) > 0.2, 10, "the burner to burn")
    assert 0.2 < cpu_share(task.node, task.container_id, 2) < 0.36
    assert 0.15 < busy_share(task.node, 3) < 0.4

    swarm.burn("burner", cores=0.1)
    swarm.wait(
        lambda: cpu_share(task.node, task.container_id, 1) < 0.2, 10, "the burner to slow down"
    )
    assert 0.04 < cpu_share(task.node, task.container_id, 3) < 0.2

    swarm.burn("burner", False)
    swarm.wait(
        lambda: cpu_share(task.node, task.container_id, 0.5) < 0.05, 10, "the burner to stop"
    )
    swarm.wait(lambda: busy_share(task.node, 2) < 0.05, 10, "the node to calm down")


def figure_kib(node: Node, name: str) -> int:
    """A row of the node's memory figures."""
    text = (node.figures_root / "proc/meminfo").read_text()
    return int(dict(line.split(":") for line in text.splitlines())[name].split()[0])


def test_a_node_shows_its_own_capacity_and_its_use_of_memory() -> None:
    with Rig(own_name("f"), managers=1, workers=1, limits={"w1": (0.5, "512m")}) as rig:
        (worker,) = rig.workers
        assert figure_kib(worker, "MemTotal") == 512 * 1024
        free_kib = figure_kib(worker, "MemAvailable")
        assert free_kib > 500_000
        hold = "dd if=/dev/zero of=/dev/shm/held bs=1M count=40 && sleep 600"
        rig.create_service(
            "holder",
            memory="100m",
            constraints=["node.role==worker"],
            command=["sh", "-c", hold],
        )
        rig.wait(
            lambda: figure_kib(worker, "MemAvailable") < free_kib - 35_000, 15, "the memory to show"
        )
        assert figure_kib(rig.manager, "MemAvailable") > 2_000_000


def test_exhausted_memory_is_an_oom_kill(swarm: Rig) -> None:
    swarm.create_service("greedy", memory="16m", extra=["--restart-condition", "none"])
    (task,) = swarm.wait_running("greedy", 1)
    swarm.exhaust_memory("greedy")
    swarm.wait(lambda: not swarm.running_tasks("greedy"), 15, "the task to be killed")
    state = task.node.get(f"/containers/{task.container_id}/json")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


# -- faults


def test_a_frozen_engine_does_not_answer_and_goes_on_when_thawed(swarm: Rig) -> None:
    (worker, _) = swarm.workers
    worker.freeze()
    assert worker.is_frozen
    with pytest.raises(EngineError):
        worker.get("/info", timeout_seconds=0.5)
    worker.thaw()
    swarm.wait(worker.answers, 5, "the engine to answer")


def test_a_killed_node_comes_back(swarm: Rig) -> None:
    worker = swarm.workers[0]
    swarm.create_service("stays", mode="global")
    swarm.wait_running("stays", 3)
    before = worker.pid
    worker.kill(containers=True)
    assert not worker.is_running
    assert not worker.answers()
    worker.restart()
    assert worker.pid != before
    swarm.wait_ready()
    swarm.wait_running("stays", 3)


def test_a_pulled_cable_parts_the_node(swarm: Rig) -> None:
    worker = swarm.workers[1]

    def reaches(source: Node, target: Node) -> bool:
        with contextlib.suppress(RigError):
            source.run_inside("busybox", "ping", "-c", "1", "-W", "1", target.address)
            return True
        return False

    assert reaches(swarm.manager, worker)
    worker.link_down()
    assert not reaches(swarm.manager, worker)
    assert worker.answers()
    worker.link_up()
    swarm.wait(lambda: reaches(swarm.manager, worker), 10, "the cable to work again")


# -- images


def test_a_pushed_image_is_pulled_by_its_digest(swarm: Rig) -> None:
    reference = swarm.push_image(name="app")
    assert "@sha256:" in reference
    swarm.create_service("pulled", image=reference, replicas=3)
    swarm.wait_running("pulled", 3)
    assert swarm.spec("pulled")["TaskTemplate"]["ContainerSpec"]["Image"] == reference


def test_python_clients_reach_each_other_across_nodes(swarm: Rig) -> None:
    image = swarm.python_image()
    swarm.manager.docker("network", "create", "--driver", "overlay", "between")
    swarm.create_service(
        "servers",
        mode="global",
        image=image,
        cpus=0.5,
        memory="64m",
        command=["python3", "-m", "http.server", "8000"],
        extra=[
            "--network=between",
            "--endpoint-mode=dnsrr",
            "--publish=mode=host,published=8080,target=8000",
        ],
    )
    tasks = swarm.wait_running("servers", 3)
    ask_all = (
        "import socket, urllib.request as r\n"
        "for a in socket.gethostbyname_ex('servers')[2]:\n"
        "    print(r.urlopen(f'http://{a}:8000/', timeout=5).status)"
    )

    def answers() -> list[str]:
        task = tasks[0]
        return task.node.docker("exec", task.container_id, "python3", "-c", ask_all).split()

    swarm.wait(lambda: answers() == ["200"] * 3, 30, "all servers to answer across nodes")
    with urllib.request.urlopen(f"http://{tasks[1].node.address}:8080/", timeout=5) as published:
        assert published.status == 200


# -- the proxy


@pytest.fixture
def proxy(swarm: Rig, tmp_path: Path) -> Iterator[DockerProxy]:
    with DockerProxy(tmp_path / "proxy.sock", swarm.manager.socket) as running:
        yield running


def is_update(method: str, path: str) -> bool:
    return method == "POST" and path.split("?", maxsplit=1)[0].endswith("/update")


def scale_through(proxy: DockerProxy, service: dict[str, Any], replicas: int) -> None:
    service["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas
    target = f"/services/{service['ID']}/update?version={service['Version']['Index']}"
    request(proxy.listen_path, "POST", target, service["Spec"])


def test_a_dropped_request_is_not_applied(swarm: Rig, proxy: DockerProxy) -> None:
    swarm.create_service("written", replicas=1)
    before = swarm.version("written")
    proxy.drop_next_request(is_update)
    with pytest.raises(EngineError) as caught:
        scale_through(proxy, swarm.service("written"), 2)
    assert caught.value.status == 0
    assert (swarm.version("written"), swarm.replicas("written")) == (before, 1)
    assert [method for method, _ in proxy.dropped] == ["POST"]

    scale_through(proxy, swarm.service("written"), 2)
    assert swarm.replicas("written") == 2


def test_a_cut_reply_hides_that_it_was_applied(swarm: Rig, proxy: DockerProxy) -> None:
    swarm.create_service("hidden", replicas=1)
    before = swarm.version("hidden")
    proxy.cut_next_reply(is_update)
    with pytest.raises(EngineError) as caught:
        scale_through(proxy, swarm.service("hidden"), 2)
    assert caught.value.status == 0
    assert swarm.version("hidden") > before
    assert swarm.replicas("hidden") == 2
    assert [method for method, _ in proxy.cut] == ["POST"]


def test_the_proxy_carries_the_client_library_and_the_command_line(
    swarm: Rig, proxy: DockerProxy, tmp_path: Path
) -> None:
    import docker  # noqa: PLC0415 - slow, and no other test here needs it

    client = docker.DockerClient(base_url=proxy.url, version="auto", timeout=10)
    with contextlib.closing(client):
        assert {node.attrs["Description"]["Hostname"] for node in client.nodes.list()} == {
            "m1",
            "w1",
            "w2",
        }
        events = client.events(decode=True, filters={"type": "service"})
        swarm.create_service("seen")
        assert next(events)["Actor"]["Attributes"]["name"] == "seen"
        events.close()
    tar = tmp_path / "root.tar"
    subprocess.run(["tar", "-cf", tar, "-C", tmp_path, "."], check=False, capture_output=True)
    subprocess.run(["docker", "-H", proxy.url, "import", tar, "rig/sent:1"], check=True)
    assert swarm.manager.get("/images/rig/sent:1/json")["RepoTags"] == ["rig/sent:1"]
    assert ("GET", "/version") in proxy.requests


# -- alertmanager


@pytest.mark.skipif(Alertmanager.program() is None, reason="alertmanager is not installed")
def test_alertmanager_takes_alerts_and_tells_the_webhook() -> None:
    told: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    def post(url: str, alert: dict[str, Any]) -> None:
        asked = urllib.request.Request(  # noqa: S310 - a loopback address
            f"{url}/api/v2/alerts",
            json.dumps([alert]).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310  # an address of the rig's own
            assert answer.status == 200

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Alertmanager(f"http://127.0.0.1:{server.server_port}/") as manager:
            post(manager.url, {"labels": {"alertname": "Full", "service": "web"}})
            wait_until(
                lambda: [alert["labels"]["service"] for alert in manager.alerts()] == ["web"]
            )
            wait_until(lambda: [entry["status"] for entry in told] == ["firing"])
            past = {
                "labels": {"alertname": "Full", "service": "web"},
                "endsAt": "2001-01-01T00:00:00Z",
                "startsAt": "2000-01-01T00:00:00Z",
            }
            post(manager.url, past)
            wait_until(lambda: [entry["status"] for entry in told] == ["firing", "resolved"])
            assert manager.history() == {"firing": 1.0, "resolved": 1.0}
            assert manager.alerts() == []
        server.shutdown()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- nothing stays behind


def traces(name: str) -> list[str]:
    """Everything of a rig that still exists; found here on other ways than the rig's own."""
    work = f"/tmp/autoheal-rig-{name}"  # noqa: S108 - where rigs are, said here once more
    found = [work] if Path(work).exists() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{work}/".encode() in (entry / "cmdline").read_bytes() + b"/":
                    found.append(f"process {entry.name}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if work in line or f"/ah{name}" in line]
    found += [line for line in run_text("ip", "netns").splitlines() if line.startswith(f"ah{name}")]
    found += [line for line in run_text("ip", "-o", "link").splitlines() if f"ah{name}" in line]
    found += run_text("find", "/sys/fs/cgroup", "-name", f"autoheal-rig-{name}").split()
    with contextlib.suppress(FileNotFoundError):
        rules = run_text("iptables", "-S").splitlines()
        found += [rule for rule in rules if f"ah{name} " in rule]
    return found


def run_text(*arguments: str) -> str:
    return subprocess.run(arguments, capture_output=True, text=True, check=False).stdout


def test_a_stopped_rig_leaves_nothing() -> None:
    name = own_name("s")
    with Rig(name, managers=1, workers=1) as rig:
        rig.manager.docker("network", "create", "--driver", "overlay", "between")
        rig.create_service(
            "load",
            mode="global",
            extra=[
                "--network=between",
                "--endpoint-mode=dnsrr",
                "--publish=mode=host,published=80,target=80",
            ],
        )
        tasks = rig.wait_running("load", 2)
        rig.registry()
        # The states that hold a process back from ending.
        rig.workers[0].freeze()
        (paused,) = [task for task in tasks if task.node is rig.manager]
        rig.manager.docker("pause", paused.container_id)
        assert traces(name)
        sockets = shim_sockets(rig.work)
        assert len(sockets) == 2
    assert traces(name) == []
    assert not [socket for socket in sockets if socket.exists()]


def shim_sockets(work: Path) -> list[Path]:
    """The sockets of all containers' shims: they are outside of the rig's directory."""
    addresses = (Path(path, "address") for path, _, files in os.walk(work) if "address" in files)
    return [Path(address.read_text().removeprefix("unix://")) for address in addresses]


def test_a_rig_that_fails_to_start_leaves_nothing_and_says_why() -> None:
    name = own_name("b")
    with pytest.raises(RigError, match="no-such-option"):
        Rig(name, managers=1, workers=1, daemon_arguments=("--no-such-option",)).start()
    assert traces(name) == []


def start_owner(name: str) -> subprocess.Popen[str]:
    """A process of its own that starts a rig and then does nothing."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, name],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "started\n"
    assert traces(name)
    return owner


def end(owner: subprocess.Popen[str], number: signal.Signals) -> None:
    owner.send_signal(number)
    owner.wait(30)
    assert owner.stdout is not None
    owner.stdout.close()


def test_a_terminated_owner_removes_its_rig() -> None:
    name = own_name("u")
    end(start_owner(name), signal.SIGTERM)
    assert traces(name) == []


def test_a_rig_in_use_is_not_replaced_and_a_killed_owners_rig_is_removed() -> None:
    name = own_name("k")
    owner = start_owner(name)
    with pytest.raises(RigError, match=f"started by process {owner.pid}"):
        Rig(name).start()
    assert name not in remove_orphans()
    end(owner, signal.SIGKILL)
    assert traces(name)
    said = subprocess.run(
        [TESTS / "rig/rig", "down", "--name", name], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"rig {name} is down\n"
    assert traces(name) == []


def test_the_command_line_starts_shows_and_removes_a_detached_rig() -> None:
    name = own_name("c")

    def rig(*arguments: str) -> str:
        command = [str(TESTS / "rig/rig"), *arguments, "--name", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
        return done.stdout

    try:
        rig("up", "--managers", "1", "--workers", "0")
        assert name not in remove_orphans()
        (line,) = [line for line in rig("status").splitlines() if line.startswith("m1")]
        _, role, state, _, url, root = line.split()
        assert (role, state) == ("manager", "running")
        assert Path(root, "proc/stat").exists()
        environment = {**os.environ, "DOCKER_HOST": url}
        subprocess.run(["docker", "node", "ls"], env=environment, check=True, capture_output=True)
    finally:
        rig("down")
    assert traces(name) == []


# -- what pytest says about rig tests


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_a_rig_test_that_cannot_run_is_skipped_or_fails_where_it_is_required(
    tmp_path: Path, required: str, code: int
) -> None:
    (tmp_path / "test_one.py").write_text(
        "import pytest\n@pytest.mark.rig\ndef test_one():\n    pass\ndef test_two():\n    pass\n"
    )
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            "/dev/null",
            "-p",
            "rig.pytest_plugin",
            "-rs",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nowhere", "PYTHONPATH": str(TESTS), "AUTOHEAL_REQUIRE_RIG": required},
    )
    assert said.returncode == code, said.stdout + said.stderr
    assert "rig tests run: 0" in said.stdout
    assert "no rig: missing dockerd, containerd, docker" in said.stdout


def test_a_time_out_says_what_was_waited_for(swarm: Rig) -> None:
    with pytest.raises(RigTimeoutError, match=r"waited 0.1 s for rain; last seen: 0"):
        swarm.wait(lambda: 0, 0.1, "rain")
