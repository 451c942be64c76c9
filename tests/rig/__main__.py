"""The rig's command line: up, status, service, burn, down."""

from __future__ import annotations

import argparse
import sys
import time

from rig import leftovers
from rig.commands import RigError
from rig.node import unavailable_reason
from rig.state import existing_names
from rig.swarm import DEFAULT_CPUS, DEFAULT_MEMORY, Rig


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = argparse.ArgumentParser(
        prog="rig", description="A real Docker Swarm of several nodes on one machine."
    )
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a rig and leave it running")
    up.add_argument("--managers", type=int, default=1)
    up.add_argument("--workers", type=int, default=2)
    up.add_argument(
        "--cpus", type=float, default=DEFAULT_CPUS, help="of each node (default %(default)s)"
    )
    up.add_argument("--memory", default=DEFAULT_MEMORY, help="of each node (default %(default)s)")
    up.set_defaults(act=do_up)
    commands.add_parser("status", help="print the nodes").set_defaults(act=do_status)
    commands.add_parser("down", help="remove a rig and all that it left").set_defaults(act=do_down)
    service = commands.add_parser("service", help="create a service that burns CPU when told to")
    service.add_argument("service")
    service.add_argument("--replicas", type=int, default=1)
    service.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    service.set_defaults(act=do_service)
    burn = commands.add_parser("burn", help="let such a service burn CPU")
    burn.add_argument("service")
    burn.add_argument(
        "--cores", type=float, help="of each task (default: as much as its limit allows)"
    )
    burn.add_argument("--off", action="store_true", help="stop burning")
    burn.set_defaults(act=do_burn)
    for command in commands.choices.values():
        command.add_argument("--name", default="rig", help="the rig's name (default %(default)s)")
    return top


def do_up(chosen: argparse.Namespace) -> None:
    """Start a rig that lives on."""
    if reason := unavailable_reason():
        raise RigError(reason)
    began = time.monotonic()
    rig = Rig(
        chosen.name,
        managers=chosen.managers,
        workers=chosen.workers,
        cpus=chosen.cpus,
        memory=chosen.memory,
        detached=True,
    )
    rig.start()
    print(f"rig {chosen.name} is up after {time.monotonic() - began:.1f} s")
    print_nodes(rig)


def do_status(chosen: argparse.Namespace) -> None:
    """Print the rig's nodes."""
    if chosen.name not in existing_names():
        others = ", ".join(existing_names()) or "none"
        message = f"no rig named {chosen.name}; rigs: {others}"
        raise RigError(message)
    print_nodes(Rig.attach(chosen.name))


def print_nodes(rig: Rig) -> None:
    """Print one line for each node, for reading and for cutting."""
    rows = [("NODE", "ROLE", "STATE", "ADDRESS", "DOCKER_HOST", "FIGURES_ROOT")]
    for node in rig.nodes:
        state = "frozen" if node.is_frozen else "running" if node.is_running else "dead"
        root = str(node.figures_root)
        rows.append((node.name, node.role, state, node.address, node.url, root))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())
    print(f"switches: {rig.switch_dir}")
    print(f"this machine, as the nodes see it: {rig.bridge_address}")


def do_down(chosen: argparse.Namespace) -> None:
    """Remove everything of the rig, whoever started it."""
    found = bool(leftovers.remaining(chosen.name))
    leftovers.remove(chosen.name)
    print(f"rig {chosen.name} is down" if found else f"no rig named {chosen.name}")


def do_service(chosen: argparse.Namespace) -> None:
    """Create a burner."""
    labels = dict(text.split("=", 1) for text in chosen.label)
    Rig.attach(chosen.name).create_service(chosen.service, replicas=chosen.replicas, labels=labels)


def do_burn(chosen: argparse.Namespace) -> None:
    """Switch a burner."""
    Rig.attach(chosen.name).burn(chosen.service, not chosen.off, cores=chosen.cores)


def main() -> int:
    """Run one command; errors are one line."""
    chosen = parser().parse_args()
    try:
        chosen.act(chosen)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
