"""What a rig writes down about itself, so that another process can use it or remove it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rig.commands import RigError
from rig.processes import started_at

BASE = Path("/tmp")  # noqa: S108 - short, because a unix socket's path holds 107 bytes
PREFIX = "autoheal-rig-"
STATE_FILE = "state.json"
# 'ah' + name + '-' + node must fit into an interface name of 15 characters.
NAME_PATTERN = re.compile(r"[a-z0-9]{1,8}")


@dataclass
class NodeState:
    """One node, as planned: its place in the network and its capacity."""

    name: str
    role: str
    address: str
    cpus: float
    memory_bytes: int
    node_id: str = ""


@dataclass
class State:
    """One rig, as planned. While it has an owner it lives no longer than that process."""

    name: str
    owner_pid: int = 0
    owner_started_at: int = 0
    bridge_address: str = ""
    subnet: str = ""
    nodes: list[NodeState] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The directory that holds everything of this rig."""
        return work_directory(self.name)

    @property
    def bridge(self) -> str:
        """The name of the bridge that joins the nodes."""
        return bridge_name(self.name)

    def group_of(self, node: NodeState) -> str:
        """Return a node's parent cgroup, relative to each hierarchy's mount."""
        return f"{rig_group(self.name)}/{node.name}"

    def root_of(self, node: NodeState) -> Path:
        """Return the directory that stands for a node's / when its figures are read."""
        return self.work / node.name / "root"

    def take_ownership(self) -> None:
        """Bind the rig's life to this process."""
        self.owner_pid = os.getpid()
        self.owner_started_at = started_at(self.owner_pid) or 0

    def owner_lives(self) -> bool:
        """Say whether the owner is still the process that it was."""
        return self.owner_pid != 0 and started_at(self.owner_pid) == self.owner_started_at

    def save(self) -> None:
        """Write the state file, all or nothing."""
        part = self.work / f".{STATE_FILE}.part"
        part.write_text(json.dumps(asdict(self), indent=2))
        part.rename(self.work / STATE_FILE)

    @classmethod
    def load(cls, work: Path) -> State:
        """Read the state file of the rig in this directory."""
        raw = json.loads((work / STATE_FILE).read_text())
        raw["nodes"] = [NodeState(**node) for node in raw["nodes"]]
        return cls(**raw)


def check_name(name: str) -> None:
    """Refuse a name that would not fit into interface names or would be ambiguous as a prefix."""
    if not NAME_PATTERN.fullmatch(name):
        message = f"a rig's name is 1 to 8 of a-z and 0-9, not {name!r}"
        raise RigError(message)


def work_directory(name: str) -> Path:
    """Return the directory that holds everything of the rig with this name."""
    return BASE / f"{PREFIX}{name}"


def rig_group(name: str) -> str:
    """Return the cgroup above all nodes of the rig with this name."""
    return f"{PREFIX}{name}"


def bridge_name(name: str) -> str:
    """Return the bridge's name; with '-' and a node's name, its namespace's and cable's."""
    return f"ah{name}"


def read_state(name: str) -> State | None:
    """Return the rig's state, or None where there is none that can be read."""
    try:
        return State.load(work_directory(name))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def existing_names() -> list[str]:
    """Return the names of all rigs that have a work directory."""
    return sorted(
        path.name.removeprefix(PREFIX) for path in BASE.glob(f"{PREFIX}*") if path.is_dir()
    )
