"""Service specs in Docker's JSON, for those who describe services to a simulated Swarm."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from autoheal.sim.objects import NANO
from autoheal.sim.program import RELEASE

DIGEST = "sha256:" + 64 * "5"


def service_spec(  # noqa: PLR0913  # all that a service may be told, each with its default
    name: str,
    *,
    replicas: int = 1,
    cpus: float | None = 0.5,
    memory: int | None = 256 * 2**20,
    labels: Mapping[str, str] | None = None,
    release: str = "1",
    pinned: bool = True,
    check_every_s: int | None = None,
    restart: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | None = None,
    constraints: Sequence[str] = (),
) -> dict[str, Any]:
    """A replicated service, with limits in cores and bytes; None is no limit.

    `restart` and `update` are Docker's RestartPolicy and UpdateConfig, over Docker's own defaults.
    With `check_every_s` it has a health check, which fails three times before it counts.
    """
    image = f"shop/{name}:{release}"
    container: dict[str, Any] = {
        "Image": f"{image}@{DIGEST}" if pinned else image,
        "Env": [f"{RELEASE}={release}"],
    }
    if check_every_s is not None:
        container["Healthcheck"] = {
            "Test": ["CMD", "check"],
            "Interval": check_every_s * NANO,
            "Retries": 3,
        }
    limits: dict[str, Any] = {}
    if cpus is not None:
        limits["NanoCPUs"] = int(cpus * NANO)
    if memory is not None:
        limits["MemoryBytes"] = memory
    return {
        "Name": name,
        "Labels": dict(labels or {}),
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": limits},
            "RestartPolicy": {"Condition": "any", "Delay": 5 * NANO, **(restart or {})},
            "Placement": {"Constraints": list(constraints)},
            "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": {
            "Parallelism": 1,
            "FailureAction": "pause",
            "Monitor": 5 * NANO,
            "Order": "stop-first",
            **(update or {}),
        },
    }


def released(spec: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The same service with another release of its program."""
    changed = copy.deepcopy(dict(spec))
    container = changed["TaskTemplate"]["ContainerSpec"]
    repository = str(container["Image"]).partition("@")[0].rpartition(":")[0]
    pinned = "@" in container["Image"]
    container["Image"] = f"{repository}:{release}" + (f"@{DIGEST}" if pinned else "")
    others = [line for line in container["Env"] if not line.startswith(f"{RELEASE}=")]
    container["Env"] = [*others, f"{RELEASE}={release}"]
    return changed


def scaled(spec: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """The same service with another number of replicas."""
    changed = copy.deepcopy(dict(spec))
    changed["Mode"]["Replicated"]["Replicas"] = replicas
    return changed
