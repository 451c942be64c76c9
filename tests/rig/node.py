"""One node of a rig: its daemons, its engine, and the faults that can be done to it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rig import cgroups, engine, network
from rig.commands import RigError, run, wait_for
from rig.leftovers import unlink_shim_sockets
from rig.processes import (
    arguments_of,
    belongs_to,
    rig_processes,
    send,
    started_at,
    thread_states,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient

    from rig.state import NodeState, State

START_TIMEOUT_SECONDS = 30.0
CLIENT_TIMEOUT_SECONDS = 10
LOG_TAIL_CHARACTERS = 1500
FIRST_MAJOR_WITHOUT_KEY = 23

CONTAINERD_CONFIG = """version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{home}/containerd.sock"
"""


class Node:
    """A dockerd with its own containerd, in a network namespace of its own."""

    def __init__(
        self, plan: NodeState, state: State, daemon_arguments: tuple[str, ...] = ()
    ) -> None:
        """Describe the node; nothing is started yet."""
        self.plan = plan
        self.name = plan.name
        self.role = plan.role
        self.address = plan.address
        self.cpus = plan.cpus
        self.memory_bytes = plan.memory_bytes
        self.directory = state.work / plan.name
        self.socket = self.directory / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.figures_root = state.root_of(plan)
        self.cgroup_parent = f"/{state.group_of(plan)}"
        self.namespace = f"{state.bridge}-{plan.name}"
        self._state = state
        self._daemon_arguments = daemon_arguments
        self.children: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        """Name the node in a test's failure."""
        return f"<Node {self.name} {self.url}>"

    @property
    def node_id(self) -> str:
        """The node's id in the Swarm."""
        return self.plan.node_id

    @property
    def pid(self) -> int:
        """The process id of the dockerd; raise when it does not run."""
        number = self._daemon()
        if number is None:
            message = f"dockerd of {self.name} is not running"
            raise RigError(message)
        return number

    @property
    def is_running(self) -> bool:
        """Whether the dockerd lives, frozen or not."""
        return self._daemon() is not None

    @property
    def is_frozen(self) -> bool:
        """Whether the dockerd is stopped by a signal."""
        number = self._daemon()
        return number is not None and set(thread_states(number)) == {"T"}

    # -- asking the engine

    def docker(self, *arguments: str, timeout_seconds: float = 60.0) -> str:
        """Run the docker command line against this node and return its output."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")
        }
        environment["DOCKER_CONFIG"] = str(self._state.work / "cli")
        return run(
            "docker",
            "--host",
            self.url,
            *arguments,
            timeout_seconds=timeout_seconds,
            environment=environment,
        )

    def client(self, timeout_seconds: int = CLIENT_TIMEOUT_SECONDS) -> DockerClient:
        """Return a new client of the docker library; the caller closes it."""
        from docker import DockerClient  # noqa: PLC0415 - 0.3 s that the command line saves

        return DockerClient(base_url=self.url, version="auto", timeout=timeout_seconds)

    def get(self, target: str, *, timeout_seconds: float = engine.REQUEST_TIMEOUT_SECONDS) -> Any:  # noqa: ANN401  # Docker's JSON
        """GET raw JSON."""
        return engine.request(self.socket, "GET", target, timeout_seconds=timeout_seconds)

    def post(
        self,
        target: str,
        body: object = None,
        *,
        timeout_seconds: float = engine.REQUEST_TIMEOUT_SECONDS,
    ) -> Any:  # noqa: ANN401  # Docker's JSON
        """POST raw JSON and return the reply's JSON."""
        return engine.request(self.socket, "POST", target, body, timeout_seconds=timeout_seconds)

    def delete(self, target: str) -> None:
        """Send a DELETE."""
        engine.request(self.socket, "DELETE", target)

    def cgroup_of(self, container_id: str, controller: str = "cpu") -> Path:
        """Return the directory of a container's cgroup in the tree of this controller."""
        tree = next(tree for tree in cgroups.hierarchies() if controller in tree.controllers)
        return tree.mount / self.cgroup_parent.lstrip("/") / container_id

    def use_of(self, container_id: str) -> cgroups.Use:
        """Return what a container has used, read from its cgroup."""
        return cgroups.use_of(f"{self.cgroup_parent.lstrip('/')}/{container_id}")

    def run_inside(self, *arguments: str, timeout_seconds: float = 60.0) -> str:
        """Run a command of this machine in the node's network namespace."""
        return run(*self._enter(), *arguments, timeout_seconds=timeout_seconds)

    # -- starting

    def start(self) -> None:
        """Start the daemons and wait until the engine answers."""
        home = self.directory / "containerd"
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(CONTAINERD_CONFIG.format(home=home))
        (self.directory / "daemon.json").write_text(json.dumps(_daemon_options(self.directory)))
        if not self._containerd_runs():
            (home / "containerd.sock").unlink(missing_ok=True)
            self._spawn("containerd", ["containerd", "--config", f"{home}/config.toml"])
            self._wait_until("containerd", (home / "containerd.sock").exists)
        # A killed daemon leaves its pid file, and another process may have the number by now.
        (self.directory / "docker.pid").unlink(missing_ok=True)
        naming = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        self._spawn("dockerd", [*naming, *self._dockerd_command()])
        self._wait_until("dockerd", self.answers)

    def answers(self) -> bool:
        """Say whether the engine answers a ping."""
        try:
            engine.request(self.socket, "GET", "/_ping", timeout_seconds=2)
        except engine.EngineError:
            return False
        return True

    def _dockerd_command(self) -> list[str]:
        home = self.directory
        return [
            "dockerd",
            f"--config-file={home}/daemon.json",
            f"--host={self.url}",
            f"--containerd={home}/containerd/containerd.sock",
            f"--data-root={home}/data",
            f"--exec-root={home}/exec",
            f"--pidfile={home}/docker.pid",
            f"--bip=172.31.{self.address.rpartition('.')[2]}.1/24",
            f"--cgroup-parent={self.cgroup_parent}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--insecure-registry={self._state.subnet}",
            *self._daemon_arguments,
        ]

    def _enter(self) -> list[str]:
        # `ip netns exec` would mount a fresh /sys, and dockerd would find no cgroups there.
        return ["nsenter", f"--net={network.NAMESPACES / self.namespace}"]

    def _spawn(self, label: str, command: list[str]) -> None:
        with (self.directory / f"{label}.log").open("ab") as log:
            # A session of its own, so that Ctrl-C reaches the rig's owner and not the daemons.
            child = subprocess.Popen(
                [*self._enter(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.children.append(child)

    def _wait_until(self, label: str, ready: Callable[[], bool]) -> None:
        child = self.children[-1]

        def ready_or_dead() -> bool:
            return child.poll() is not None or ready()

        with contextlib.suppress(RigError):
            wait_for(ready_or_dead, START_TIMEOUT_SECONDS, label, interval_seconds=0.03)
        if child.poll() is not None or not ready():
            tail = (self.directory / f"{label}.log").read_text(errors="replace")[
                -LOG_TAIL_CHARACTERS:
            ]
            message = f"{label} of {self.name} did not start; its log ends:\n{tail}"
            raise RigError(message)

    def _containerd_runs(self) -> bool:
        mark = self.directory / "containerd" / "config.toml"
        return any(str(mark) in arguments_of(number) for number in rig_processes(self.directory))

    def _daemon(self) -> int | None:
        self._reap()
        try:
            number = int((self.directory / "docker.pid").read_text())
        except (OSError, ValueError):
            return None
        alive = belongs_to(arguments_of(number), self.directory) and started_at(number) is not None
        return number if alive else None

    def _reap(self) -> None:
        self.children = [child for child in self.children if child.poll() is None]

    # -- faults

    def freeze(self) -> None:
        """Stop the dockerd as it stands: sockets stay open, nothing answers, containers run on."""
        send([self.pid], signal.SIGSTOP)
        # The signal returns at once, while threads may still be at work.
        wait_for(lambda: self.is_frozen, 5, f"{self.name} to freeze", interval_seconds=0.005)

    def thaw(self) -> None:
        """Let a frozen dockerd go on."""
        send([self.pid], signal.SIGCONT)
        wait_for(lambda: not self.is_frozen, 5, f"{self.name} to thaw", interval_seconds=0.005)

    def kill(self, *, containers: bool = False) -> None:
        """Kill the dockerd; with `containers` all else too, as when a machine loses power."""
        self._end(self.pid)
        if containers:
            for number in rig_processes(self.directory):
                self._end(number)
            group = self.cgroup_parent.lstrip("/")
            cgroups.signal_all(group, signal.SIGKILL)
            what = f"the containers of {self.name} to end"
            wait_for(lambda: not cgroups.process_ids(group), 10, what)
            unlink_shim_sockets(self.directory / "containerd")

    def restart(self) -> None:
        """Start the dockerd again, killing it first where it runs."""
        if self.is_running:
            self.kill()
        self.start()

    def link_down(self) -> None:
        """Pull the node's network cable."""
        run("ip", "link", "set", self.namespace, "down")

    def link_up(self) -> None:
        """Plug the node's network cable in."""
        run("ip", "link", "set", self.namespace, "up")

    def heal(self) -> None:
        """Undo every fault above."""
        self.link_up()
        if self.is_running:
            self.thaw()
        else:
            self.start()

    def _end(self, number: int) -> None:
        send([number], signal.SIGKILL)

        def gone() -> bool:
            self._reap()
            return started_at(number) is None

        wait_for(gone, 10, f"process {number} to end", interval_seconds=0.02)


@functools.cache
def _engine_major() -> int:
    found = re.search(r"version (\d+)", run("dockerd", "--version"))
    return int(found[1]) if found else 0


def _daemon_options(directory: Path) -> dict[str, str]:
    """Give each engine an id of its own: before 23 it comes from one key for the machine."""
    old = _engine_major() < FIRST_MAJOR_WITHOUT_KEY
    return {"deprecated-key-path": f"{directory}/key.json"} if old else {}


def unavailable_reason() -> str | None:
    """Say in one line why no rig can run here, or None when one can."""
    if not Path("/proc/self/mounts").exists():
        return "no rig: Linux only"
    if os.geteuid() != 0:
        return "no rig: root only (namespaces, cgroups)"
    programs = (
        *("dockerd", "containerd", "docker", "docker-registry"),
        *("ip", "nsenter", "unshare", "umount", "busybox"),
    )
    missing = [program for program in programs if shutil.which(program) is None]
    return f"no rig: missing {', '.join(missing)}" if missing else None
