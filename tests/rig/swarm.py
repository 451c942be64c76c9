"""The rig: a real Swarm of several nodes on one machine, and what tests ask of it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from rig import cgroups, images, leftovers, network
from rig.commands import RigError, wait_for
from rig.engine import EngineError
from rig.node import Node
from rig.processes import FIGURES_MODULE
from rig.state import NodeState, State, check_name, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import FrameType, TracebackType

T = TypeVar("T")

READY_TIMEOUT_SECONDS = 60.0
REMOVE_TIMEOUT_SECONDS = 40.0
REAP_TIMEOUT_SECONDS = 5.0
REGISTRY_PORT = 5000
SWARM_PORT = 2377
DEFAULT_CPUS = 1.0
DEFAULT_MEMORY = "2g"
TESTS_DIRECTORY = Path(__file__).resolve().parent.parent

REGISTRY_CONFIG = """version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {directory}/blobs}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""


class RunningTask(NamedTuple):
    """A task that runs: its id, the node it runs on, its container's id."""

    task_id: str
    node: Node
    container_id: str


class Rig:
    """A Swarm that lives from start() to stop(), or within a `with`."""

    def __init__(
        self,
        name: str = "rig",
        *,
        managers: int = 1,
        workers: int = 2,
        cpus: float = DEFAULT_CPUS,
        memory: str = DEFAULT_MEMORY,
        limits: Mapping[str, tuple[float, str]] | None = None,
        daemon_arguments: tuple[str, ...] = (),
        detached: bool = False,
    ) -> None:
        """Plan a rig. `limits` gives single nodes (m1, w1, ...) their own (cpus, memory).

        A detached rig outlives this process; any other ends with it, or at the next rig's start.
        """
        check_name(name)
        self._state = State(name)
        self._detached = detached
        self._daemon_arguments = daemon_arguments
        self._helpers: list[subprocess.Popen[bytes]] = []
        self.nodes: list[Node] = []
        names = [f"m{index + 1}" for index in range(managers)] + [
            f"w{index + 1}" for index in range(workers)
        ]
        for node_name in names:
            node_cpus, node_memory = (limits or {}).get(node_name, (cpus, memory))
            role = "manager" if node_name.startswith("m") else "worker"
            self._state.nodes.append(
                NodeState(node_name, role, "", node_cpus, bytes_of(node_memory))
            )

    @classmethod
    def attach(cls, name: str) -> Rig:
        """Return the rig that another process has started."""
        state = read_state(name)
        if state is None:
            message = f"no rig named {name}"
            raise RigError(message)
        rig = cls(name, managers=0, workers=0, detached=True)
        rig._adopt(state)
        return rig

    # -- its parts

    @property
    def name(self) -> str:
        """The rig's name, which marks everything that it owns."""
        return self._state.name

    @property
    def work(self) -> Path:
        """The directory that holds everything of this rig."""
        return self._state.work

    @property
    def bridge_address(self) -> str:
        """This machine's address in the nodes' network, at which nodes and containers reach it."""
        return self._state.bridge_address

    @property
    def switch_dir(self) -> Path:
        """The directory that every burner sees as /switch."""
        return self.work / "switch"

    @property
    def managers(self) -> list[Node]:
        """All managers."""
        return [node for node in self.nodes if node.role == "manager"]

    @property
    def workers(self) -> list[Node]:
        """All workers."""
        return [node for node in self.nodes if node.role == "worker"]

    @property
    def manager(self) -> Node:
        """The first manager."""
        return self.managers[0]

    @property
    def reader(self) -> Node:
        """The first manager whose dockerd is neither dead nor frozen: the one that helpers ask."""
        return next(
            (node for node in self.managers if node.is_running and not node.is_frozen), self.manager
        )

    def node(self, name: str) -> Node:
        """Return the node with this name."""
        return next(node for node in self.nodes if node.name == name)

    # -- life

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Bring the Swarm up; on failure leave nothing behind."""
        self._refuse_when_in_use()
        leftovers.remove_orphans()
        leftovers.remove(self.name)
        self._claim()
        try:
            self._build()
        except BaseException:
            self.stop()
            raise
        if self._detached:
            self._state.owner_pid = 0
            self._state.save()

    def stop(self) -> None:
        """Remove everything that the rig owns."""
        _living.pop(self.name, None)
        try:
            leftovers.remove(self.name)
        finally:
            # Killed above; an ended child stays a zombie until its parent has asked for it.
            for child in (
                *self._helpers,
                *(child for node in self.nodes for child in node.children),
            ):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(REAP_TIMEOUT_SECONDS)

    def _refuse_when_in_use(self) -> None:
        state = read_state(self.name)
        if state is None or (state.owner_pid and not state.owner_lives()):
            return
        owner = (
            f"process {state.owner_pid}" if state.owner_pid else "`rig up`; `rig down` removes it"
        )
        message = f"a rig named {self.name} is up already, started by {owner}"
        raise RigError(message)

    def _claim(self) -> None:
        try:
            self.work.mkdir()
        except FileExistsError as error:
            message = f"a rig named {self.name} is being started by another process"
            raise RigError(message) from error
        self._state.take_ownership()
        self._state.save()
        _remember(self)

    def _build(self) -> None:
        for directory in (self.switch_dir, self.work / "cli", self.work / "images"):
            directory.mkdir()
        self.switch_dir.chmod(0o755)
        images.write_busybox_tar(self._tar(images.BUSYBOX_IMAGE))
        subnet = network.add_bridge(self._state.bridge)
        self._state.subnet, self._state.bridge_address = str(subnet), str(subnet[1])
        for index, plan in enumerate(self._state.nodes):
            plan.address = str(subnet[network.FIRST_NODE_HOST + index])
            (self.work / plan.name).mkdir()
            network.add_node(self._state.bridge, plan.name, plan.address, subnet.prefixlen)
            cgroups.create(self._state.group_of(plan), plan.cpus, plan.memory_bytes)
        self._adopt(self._state)
        self._state.save()
        self._start_figures()
        self.on_every_node(Node.start)
        self._form_swarm()
        self.on_every_node(lambda node: self._load(node, images.BUSYBOX_IMAGE))
        self.wait_ready()
        self._state.save()

    def _adopt(self, state: State) -> None:
        self._state = state
        self.nodes = [Node(plan, state, self._daemon_arguments) for plan in state.nodes]

    def _start_figures(self) -> None:
        self._help("figures", [sys.executable, "-m", FIGURES_MODULE, str(self.work)])
        wanted = [
            node.figures_root / "proc" / name for node in self.nodes for name in ("stat", "meminfo")
        ]
        self.wait(lambda: all(path.exists() for path in wanted), 10, "the nodes' figures")

    def _form_swarm(self) -> None:
        first = self.manager
        address = f"{first.address}:{SWARM_PORT}"
        first.post(
            "/swarm/init", {"ListenAddr": address, "AdvertiseAddr": address}, timeout_seconds=30
        )
        tokens = first.get("/swarm")["JoinTokens"]
        for node in self.managers[1:]:  # One after another: each one's joining changes the quorum.
            self._join(node, tokens["Manager"])
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: self._join(node, tokens["Worker"]), self.workers))
        for node in self.nodes:
            node.plan.node_id = node.get("/info")["Swarm"]["NodeID"]

    def _join(self, node: Node, token: str) -> None:
        body = {
            "ListenAddr": f"{node.address}:{SWARM_PORT}",
            "AdvertiseAddr": f"{node.address}:{SWARM_PORT}",
            "RemoteAddrs": [f"{self.manager.address}:{SWARM_PORT}"],
            "JoinToken": token,
        }
        node.post("/swarm/join", body, timeout_seconds=30)

    def _help(self, label: str, command: list[str]) -> None:
        """Start a helper on the host, recognisable by the work directory in its command line."""
        path = os.pathsep.join([str(TESTS_DIRECTORY), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        )
        with (self.work / f"{label}.log").open("ab") as log:
            helper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        (self.work / f"{label}.pid").write_text(str(helper.pid))
        self._helpers.append(helper)

    # -- waiting and faults

    def wait(
        self,
        condition: Callable[[], T],
        timeout_seconds: float = 30.0,
        what: str = "a condition",
    ) -> T:
        """Poll until the condition is truthy and return its value."""
        return wait_for(condition, timeout_seconds, what)

    def on_every_node(self, work: Callable[[Node], object]) -> None:
        """Do something on all nodes at once."""
        with ThreadPoolExecutor(max_workers=max(1, len(self.nodes))) as pool:
            list(pool.map(work, self.nodes))

    def wait_ready(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Wait until Swarm says that all nodes are ready and all managers are reachable."""
        wanted = {node.name for node in self.nodes}
        self.wait(
            lambda: self._ready_names() >= wanted,
            timeout_seconds,
            f"nodes {sorted(wanted)} to be ready",
        )

    def _ready_names(self) -> set[str]:
        return {
            entry["Description"]["Hostname"]
            for entry in self.reader.get("/nodes")
            if entry["Status"]["State"] == "ready"
            and entry.get("ManagerStatus", {}).get("Reachability", "reachable") == "reachable"
        }

    def heal(self) -> None:
        """Undo every fault that was done to a node, and wait until all are ready."""
        for node in self.nodes:
            node.heal()
        self.wait_ready()

    def reset(self) -> None:
        """Return to a healthy, empty Swarm.

        Undoes faults; removes services, overlay networks, configs, secrets, node labels, switches.
        """
        self.heal()
        self.remove_all_services()
        for kind in ("configs", "secrets"):
            for entry in self.manager.get(f"/{kind}"):
                self.manager.delete(f"/{kind}/{entry['ID']}")
        self.wait(self._no_networks, REMOVE_TIMEOUT_SECONDS, "the overlay networks to go")
        for entry in self.manager.get("/nodes"):
            self._reset_node(entry)
        for path in self.switch_dir.iterdir():
            path.unlink()

    def _no_networks(self) -> bool:
        listed = self.manager.get(f"/networks?filters={_filters(driver=['overlay'])}")
        found = [entry["Id"] for entry in listed if not entry.get("Ingress")]
        for network_id in found:
            # Refused while a task still ends, unknown where it is gone and only not forgotten yet.
            with contextlib.suppress(EngineError):
                self.manager.delete(f"/networks/{network_id}")
        return not found

    def _reset_node(self, entry: dict[str, Any]) -> None:
        role = self.node(entry["Description"]["Hostname"]).role
        plain = {"Availability": "active", "Role": role, "Labels": {}}
        if entry["Spec"] != plain:
            self.manager.post(
                f"/nodes/{entry['ID']}/update?version={entry['Version']['Index']}", plain
            )

    # -- services

    def create_service(
        self,
        name: str,
        *,
        replicas: int = 1,
        mode: str = "replicated",
        image: str | None = None,
        command: Iterable[str] | None = None,
        labels: Mapping[str, str] | None = None,
        container_labels: Mapping[str, str] | None = None,
        cpus: float | None = 0.1,
        memory: str | None = "32m",
        constraints: Iterable[str] = (),
        extra: Iterable[str] = (),
    ) -> str:
        """Create a service without waiting for its tasks, and return its id.

        Without a command it is a burner that obeys burn(name). `extra` are more options of
        `docker service create`.
        A limit above the node's own cpus is refused by the kernel when the task starts.
        """
        arguments = [
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--stop-grace-period=1s",  # PID 1 may ignore SIGTERM, and the default is 10 s.
            "--name",
            name,
            "--mode",
            mode,
        ]
        if mode.startswith("replicated"):
            arguments += ["--replicas", str(replicas)]
        for option, values in (("--label", labels), ("--container-label", container_labels)):
            for key, value in (values or {}).items():
                arguments += [option, f"{key}={value}"]
        arguments += ["--limit-cpu", f"{cpus:g}"] if cpus is not None else []
        arguments += ["--limit-memory", memory] if memory is not None else []
        for constraint in constraints:
            arguments += ["--constraint", constraint]
        arguments += [
            "--mount",
            f"type=bind,source={self.switch_dir},target=/switch,readonly",
            *extra,
        ]
        orders = images.burner_command(name) if command is None else list(command)
        return self.reader.docker(*arguments, image or images.BUSYBOX_IMAGE, *orders).strip()

    def service(self, name: str) -> dict[str, Any]:
        """Return the whole raw service: ID, Version, Spec, PreviousSpec, UpdateStatus."""
        found: dict[str, Any] = self.reader.get(f"/services/{name}")
        return found

    def spec(self, name: str) -> dict[str, Any]:
        """Return the whole raw spec."""
        found: dict[str, Any] = self.service(name)["Spec"]
        return found

    def version(self, name: str) -> int:
        """Return the service's version index."""
        return int(self.service(name)["Version"]["Index"])

    def replicas(self, name: str) -> int | None:
        """Return the replicas that the spec asks for; None for a global service or a job."""
        replicated = self.spec(name)["Mode"].get("Replicated")
        return None if replicated is None else int(replicated["Replicas"])

    def tasks(self, name: str) -> list[dict[str, Any]]:
        """Return all raw tasks of a service that Swarm remembers."""
        found: list[dict[str, Any]] = self.reader.get(f"/tasks?filters={_filters(service=[name])}")
        return found

    def running_tasks(self, name: str) -> list[RunningTask]:
        """Return the tasks that run and shall run, by slot."""
        nodes = {node.node_id: node for node in self.nodes}
        tasks = sorted(self.tasks(name), key=lambda task: (task.get("Slot", 0), task["ID"]))
        return [
            RunningTask(
                task["ID"], nodes[task["NodeID"]], task["Status"]["ContainerStatus"]["ContainerID"]
            )
            for task in tasks
            if task["Status"]["State"] == "running"
            and task["DesiredState"] in {"running", "complete"}
        ]

    def wait_running(
        self, name: str, count: int, timeout_seconds: float = 30.0
    ) -> list[RunningTask]:
        """Wait until exactly so many tasks run, and return them."""

        def exactly() -> list[RunningTask] | None:
            tasks = self.running_tasks(name)
            return tasks if len(tasks) == count else None

        return self.wait(exactly, timeout_seconds, f"{count} running tasks of {name}") or []

    def update_service(self, name: str, *arguments: str) -> None:
        """Update a service as an operator would, without waiting for the rollout."""
        self.reader.docker("service", "update", "--detach", "--no-resolve-image", *arguments, name)

    def remove_service(self, name: str) -> None:
        """Remove a service; its containers end a moment later."""
        self.reader.delete(f"/services/{name}")

    def remove_all_services(self) -> None:
        """Remove all services and wait until their containers are gone."""
        for entry in self.reader.get("/services"):
            self.remove_service(entry["ID"])
        self.wait(self._no_task_containers, REMOVE_TIMEOUT_SECONDS, "the tasks' containers to go")

    def _no_task_containers(self) -> bool:
        target = f"/containers/json?all=1&filters={_filters(label=['com.docker.swarm.task.id'])}"
        found = [(node, entry) for node in self.nodes for entry in node.get(target)]
        for node, entry in found:
            # Swarm never removes the containers of a job, not even one that still runs.
            with contextlib.suppress(EngineError):
                node.delete(f"/containers/{entry['Id']}?force=1")
        return not found

    # -- orders to burners

    def burn(self, name: str, on: bool = True, *, cores: float | None = None) -> None:  # noqa: FBT002  # a switch, read as one
        """Let each task of a burner use its CPU limit, or about `cores` of a core, or nothing."""
        path = self.switch_dir / name
        if not on:
            path.unlink(missing_ok=True)
            return
        turns = "full"
        if cores is not None:
            turns = str(int(cores * images.BURN_CYCLE_SECONDS * images.turns_per_core_second()))
        part = path.with_name(f".{name}.part")
        part.write_text(f"{turns}\n")
        part.rename(path)

    def exhaust_memory(self, name: str, on: bool = True) -> None:  # noqa: FBT002  # a switch, read as one
        """Let each task of a burner, and each replacement, be killed for its memory limit."""
        path = self.switch_dir / f"{name}.oom"
        if on:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    # -- images and the registry

    def python_image(self) -> str:
        """Return an image with python and busybox, made on first use and present on every node."""
        tar = self._tar(images.PYTHON_IMAGE)
        if not tar.exists():
            images.write_python_tar(tar)
            self.on_every_node(lambda node: self._load(node, images.PYTHON_IMAGE))
        return images.PYTHON_IMAGE

    def load_image(self, tar: Path, image: str, *changes: str) -> str:
        """Import a root directory's tar on every node; `changes` are Dockerfile lines."""
        options = [part for change in changes for part in ("--change", change)]
        self.on_every_node(lambda node: node.docker("import", *options, str(tar), image))
        return image

    def registry(self) -> str:
        """Return the address of a registry that all nodes can pull from, started on first use."""
        address = f"{self.bridge_address}:{REGISTRY_PORT}"
        directory = self.work / "registry"
        if not directory.exists():
            if shutil.which("docker-registry") is None:
                message = "docker-registry is not installed"
                raise RigError(message)
            directory.mkdir()
            (directory / "config.yml").write_text(
                REGISTRY_CONFIG.format(directory=directory, address=address)
            )
            self._help("registry", ["docker-registry", "serve", str(directory / "config.yml")])
            self.wait(lambda: _listens(address), 10, f"the registry at {address}")
        return address

    def push_image(
        self, image: str = images.BUSYBOX_IMAGE, name: str = "app", tag: str = "1"
    ) -> str:
        """Push an image of the manager under a name, and return that reference with its digest."""
        repository = f"{self.registry()}/{name}"
        self.manager.docker("tag", image, f"{repository}:{tag}")
        said = self.manager.docker("push", f"{repository}:{tag}")
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
        if digest is None:
            message = f"the push of {repository}:{tag} named no digest: {said}"
            raise RigError(message)
        return f"{repository}:{tag}@{digest[1]}"

    def _tar(self, image: str) -> Path:
        return self.work / "images" / f"{re.sub('[^a-z0-9]', '-', image)}.tar"

    def _load(self, node: Node, image: str) -> None:
        node.docker("import", "--change", 'CMD ["sh"]', str(self._tar(image)), image)


def bytes_of(text: str) -> int:
    """Read a size as docker writes it: 512m, 2g."""
    match = re.fullmatch(r"(\d+)([kmg]?)", text)
    if match is None:
        message = f"{text!r} is not a size (try 512m)"
        raise RigError(message)
    size: int = int(match[1]) * 1024 ** " kmg".index(match[2] or " ")
    return size


def _filters(**wanted: list[str]) -> str:
    return urllib.parse.quote(json.dumps(wanted))


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


# -- the end of this process: rigs that it owns end with it

_living: dict[str, Rig] = {}


def _remember(rig: Rig) -> None:
    if not _living:
        atexit.register(_stop_all)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _stop_all_and_die)
    _living[rig.name] = rig


def _stop_all() -> None:
    for rig in list(_living.values()):
        # A forked child inherits this table, but not the rigs.
        if rig._state.owner_pid == os.getpid():
            rig.stop()


def _stop_all_and_die(number: int, _frame: FrameType | None) -> None:
    _stop_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
