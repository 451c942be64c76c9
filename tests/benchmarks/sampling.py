"""How long one look at this engine's running containers takes: cgroup files against the SDK.

    python tests/benchmarks/sampling.py --socket unix:///var/run/docker.sock --containers 60

Starts nothing. Takes running containers, of Swarm tasks or not, up to the number given.
"""

# ruff: noqa: T201  # a script that people run prints

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import docker

from autoheal.adapters.cgroup import CgroupStats
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.containers import TaskContainer, container_pid
from autoheal.adapters.docker_api import ReadOnlyDocker


def main() -> None:
    """Measure both and print the times and their ratio."""
    arguments = _arguments()
    reader = ReadOnlyDocker(arguments.socket)
    rows = reader.get("/containers/json")[: arguments.containers]
    containers = [TaskContainer(row["Id"], "", "") for row in rows]
    if not containers:
        raise SystemExit(f"no container runs at {arguments.socket}")
    stats = CgroupStats(
        SystemClock(),
        cgroup_root=arguments.cgroup_root,
        pid_of=lambda container: container_pid(reader, container),
    )
    readable = len(stats.sample(containers).keys)  # finds the directories, once per container
    passes = [_seconds(lambda: stats.sample(containers)) for _ in range(arguments.passes)]
    cgroup_s = sorted(passes)[len(passes) // 2]
    plain_s = _seconds(lambda: _plain_loop(arguments.socket, containers))
    print(f"containers     {len(containers)}, readable {readable}")
    print(f"cgroup pass    {cgroup_s:.4f} s (median of {len(passes)})")
    print(f"SDK stats loop {plain_s:.2f} s")
    print(f"ratio          {plain_s / cgroup_s:.0f}")


def _plain_loop(url: str, containers: Sequence[TaskContainer]) -> None:
    client = docker.DockerClient(base_url=url)
    for container in containers:
        client.containers.get(container.id).stats(stream=False)
    client.close()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default="unix:///var/run/docker.sock")
    parser.add_argument("--containers", type=int, default=60)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--cgroup-root", default="/sys/fs/cgroup")
    return parser.parse_args()


if __name__ == "__main__":
    main()
