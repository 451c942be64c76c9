"""A rig as the ground of scenes: a real Swarm."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Self

from autoheal.adapters.cgroup import CgroupStats
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.containers import TaskContainers, container_pid
from autoheal.adapters.docker_api import ReadOnlyDocker, WritableDocker
from autoheal.adapters.docker_events import DockerEvents
from autoheal.errors import RemoteError
from autoheal.model import Event
from rig.node import Node
from rig.swarm import Rig
from sim.ground import BROKEN, EVERYBODY, GOOD, RELEASE, Figures, Patient, Word, figures_of

# An order's file holds 'all', or the hostname of the one container that is meant. While a killed
# child still gives its memory back, the kernel may look for another: not for the first process.
PROGRAM = r"""
if [ "$TERM_IS" = heeded ]; then trap 'exit 0' TERM; else trap '' TERM; fi
[ "$RELEASE" = broken ] && exit 3
ordered() { [ -e "/switch/$0.$1" ] && grep -qsx -e all -e "$HOSTNAME" "/switch/$0.$1"; }
fill() { head -c 64m /dev/zero | tr '\0' .; }
while :; do
    ordered crash && exit 3
    ordered finish && exit 0
    ordered fill && held=$(fill)
    ordered job && { (echo 1000 >/proc/self/oom_score_adj; held=$(fill)); sleep 1; }
    while ordered burn; do i=0; while [ "$i" -lt 20000 ]; do i=$((i+1)); done; done
    sleep 0.4 & wait $!
done
"""
HOSTNAME_CHARACTERS = 12
NOT_HEARD_S = 0.5


class RigGround:
    """Ground of a rig that is up and empty; listens to its nodes within a `with`."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._clock = SystemClock()
        self._events: list[Event] = []
        self._over = threading.Event()
        self._ears = [_Ear(node, self._clock, self._events, self._over) for node in rig.nodes]
        self._meters = {node.name: _Meter(node, self._clock) for node in rig.nodes}
        self.swarm = WritableDocker(rig.manager.url)

    def __enter__(self) -> Self:
        for ear in self._ears:
            ear.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for ear in self._ears:
            ear.join()
        for meter in self._meters.values():
            meter.close()
        self.swarm.close()

    @property
    def nodes(self) -> Sequence[str]:
        return [node.name for node in self._rig.nodes]

    def create(self, name: str, patient: Patient) -> str:
        order = f"/switch/{name}.sick"
        check = (
            f"--health-cmd=! grep -qsx -e all -e $HOSTNAME {order}",
            "--health-interval=1s",
            "--health-retries=2",
        )
        return self._rig.create_service(
            name,
            replicas=patient.replicas,
            image=self._image if patient.has_image else self._missing_image,
            command=["sh", "-c", PROGRAM, name],
            cpus=patient.cpus,
            memory=f"{patient.memory_mib}m",
            constraints=patient.constraints,
            extra=[*_options(patient), *(check if patient.has_health_check else ())],
        )

    def order(self, name: str, word: Word, whom: str = EVERYBODY) -> None:
        whom = whom if whom == EVERYBODY else whom[:HOSTNAME_CHARACTERS]
        part = self._rig.switch_dir / f".{name}.part"
        part.write_text(f"{whom}\n")
        part.rename(self._rig.switch_dir / f"{name}.{word}")  # seen whole or not at all

    def relieve(self, name: str, word: Word) -> None:
        (self._rig.switch_dir / f"{name}.{word}").unlink()

    def kill(self, container: str) -> None:
        task = next(
            task
            for entry in self.swarm.get("/services")
            for task in self._rig.running_tasks(entry["Spec"]["Name"])
            if task.container_id == container
        )
        task.node.docker("kill", container)

    def lose_node(self, hostname: str) -> None:
        self._rig.node(hostname).kill(containers=True)

    def return_node(self, hostname: str) -> None:
        self._rig.node(hostname).heal()

    def drain(self, hostname: str) -> None:
        self._rig.manager.docker("node", "update", "--availability=drain", hostname)

    def activate(self, hostname: str) -> None:
        self._rig.manager.docker("node", "update", "--availability=active", hostname)

    def events(self) -> Sequence[Event]:
        return tuple(self._events)

    def figures(self) -> Mapping[str, Figures]:
        return {
            task: figures
            for node in self._rig.nodes
            if node.is_running
            for task, figures in self._meters[node.name].figures().items()
        }

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    @cached_property
    def _image(self) -> str:
        return self._rig.push_image(name="patient")

    @cached_property
    def _missing_image(self) -> str:
        return f"{self._rig.registry()}/absent:1@sha256:{64 * '0'}"


class _Ear(threading.Thread):
    """Listens to one node until all is over; goes on where it broke off."""

    def __init__(
        self, node: Node, clock: SystemClock, heard: list[Event], over: threading.Event
    ) -> None:
        super().__init__(name=f"events of {node.name}")
        self._docker = ReadOnlyDocker(node.url)
        self._source = DockerEvents(
            self._docker, clock, node.node_id, window_s=1.0, wait=self._pause
        )
        self._heard = heard
        self._over = over

    def run(self) -> None:
        while not self._over.is_set():
            try:
                for event in self._source.events(self._over.is_set):
                    if event is not None:
                        self._heard.append(event)
            except RemoteError:  # a node that has no power
                self._pause(NOT_HEARD_S)
        self._docker.close()

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)


class _Meter:
    """The figures of one node."""

    def __init__(self, node: Node, clock: SystemClock) -> None:
        self._docker = ReadOnlyDocker(node.url)
        self._containers = TaskContainers(self._docker, clock, refresh_s=0.0)
        self._stats = CgroupStats(
            clock, pid_of=lambda container: container_pid(self._docker, container)
        )

    def figures(self) -> dict[str, Figures]:
        return figures_of(self._containers, self._stats)

    def close(self) -> None:
        self._docker.close()


def _options(patient: Patient) -> list[str]:
    """The rest of a patient, as options of `docker service create`."""
    rollout, restart = patient.rollout, patient.restart
    return [
        f"--env={RELEASE}={BROKEN if patient.is_broken else GOOD}",
        f"--env=TERM_IS={'heeded' if patient.heeds_term else 'ignored'}",
        f"--update-order={rollout.order}",
        f"--update-failure-action={rollout.failure_action}",
        f"--update-parallelism={rollout.parallelism}",
        f"--update-delay={rollout.delay_s}s",
        f"--update-monitor={rollout.monitor_s}s",
        f"--rollback-order={rollout.order}",
        f"--rollback-parallelism={rollout.parallelism}",
        f"--rollback-delay={rollout.delay_s}s",
        f"--rollback-monitor={rollout.monitor_s}s",
        f"--restart-condition={restart.condition}",
        f"--restart-delay={restart.delay_s}s",
        *([f"--restart-max-attempts={restart.max_attempts}"] if restart.max_attempts else []),
    ]
