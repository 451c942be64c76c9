"""The bridge of a rig, and each node's namespace with a cable to it."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rig.commands import RigError, run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACES = Path("/var/run/netns")
# Outside of what Docker (172.16/12, 192.168/16) and Swarm (10.0/16 upwards) hand out themselves.
POOL = ipaddress.IPv4Network("10.213.0.0/16")
FIRST_NODE_HOST = 11


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold off other rigs of this machine while a subnet is chosen and taken."""
    handle = os.open("/run", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def free_subnet() -> ipaddress.IPv4Network:
    """Return the first subnet of the pool that no address or route of this machine touches."""
    taken = [
        ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for link in json.loads(run("ip", "-j", "-4", "address"))
        for address in link["addr_info"]
    ]
    routes = json.loads(run("ip", "-j", "-4", "route"))
    taken += [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]
    for subnet in POOL.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    message = f"no free subnet in {POOL}"
    raise RigError(message)


def add_bridge(bridge: str) -> ipaddress.IPv4Network:
    """Create the bridge with the first address of a free subnet, and return that subnet."""
    with exclusive():
        subnet = free_subnet()
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", bridge)
    run("ip", "link", "set", bridge, "up")
    if shutil.which("iptables"):
        # A host that runs Docker, or a firewall, drops bridged and incoming packets otherwise.
        for rule in firewall_rules(bridge):
            run("iptables", "--wait", "-I", *rule)
    return subnet


def firewall_rules(bridge: str) -> list[tuple[str, ...]]:
    """Return the rules that the rig adds to the host's firewall."""
    return [
        ("FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"),
        ("INPUT", "-i", bridge, "-j", "ACCEPT"),
    ]


def add_node(bridge: str, node: str, address: str, prefix_length: int) -> None:
    """Create a node's namespace and its cable to the bridge."""
    namespace = f"{bridge}-{node}"
    run("ip", "netns", "add", namespace)
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    run("ip", "link", "add", namespace, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    run("ip", "link", "set", namespace, "master", bridge, "up")
    run("ip", "-n", namespace, "address", "add", f"{address}/{prefix_length}", "dev", "eth0")
    run("ip", "-n", namespace, "link", "set", "eth0", "up")


def namespaces_of(bridge: str) -> list[str]:
    """Return the rig's namespaces that exist."""
    return sorted(path.name for path in NAMESPACES.glob(f"{bridge}-*"))


def links_of(bridge: str) -> list[str]:
    """Return the rig's interfaces on the host that exist: its cables and its bridge."""
    names = (path.name for path in Path("/sys/class/net").iterdir())
    return sorted(
        (name for name in names if name == bridge or name.startswith(f"{bridge}-")), reverse=True
    )


def remove(bridge: str) -> None:
    """Remove the rig's interfaces, namespaces and firewall rules."""
    for link in links_of(bridge):
        with contextlib.suppress(RigError):  # A cable may vanish with its namespace in between.
            run("ip", "link", "delete", link)
    for namespace in namespaces_of(bridge):
        with contextlib.suppress(RigError):
            run("ip", "netns", "delete", namespace)
    if shutil.which("iptables"):
        for rule in firewall_rules(bridge):
            with contextlib.suppress(RigError):
                while True:
                    run("iptables", "--wait", "-D", *rule)
    with contextlib.suppress(RigError):
        wait_for(lambda: not links_of(bridge), 5, "the interfaces to go")
