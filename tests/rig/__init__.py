"""A real Docker Swarm of several nodes on one machine, for tests and for use by hand.

By hand:   tests/rig/rig up --managers 1 --workers 2
In tests:  with Rig("mine", managers=1, workers=2) as rig: ...   (from rig.swarm import Rig)

Each node is a network namespace with its own dockerd and containerd. The nodes share one kernel,
so a node's capacity is the limit of its own parent cgroup, and its figures are files that the rig
refreshes from that cgroup.

Everything a rig owns carries its name, so it can be found and removed without its starting process:
    /tmp/autoheal-rig-NAME/     work directory, and the mark by which its processes are recognised
    ahNAME, ahNAME-m1           the bridge; a node's namespace and its cable's end
    /autoheal-rig-NAME/m1       a node's parent cgroup, in every hierarchy
"""
