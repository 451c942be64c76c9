from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from adapters.fakes import HandClock, container, figures, write
from autoheal.adapters.cgroup import CgroupStats
from autoheal.metrics import MEASURED
from autoheal.records import container_key

A, B = container("a"), container("b")
PLACES = {
    "cgroupfs": "docker/{}",
    "systemd": "system.slice/docker-{}.scope",
    "custom parent": "my/parent/{}",
    "custom slice": "apps.slice/apps-web.slice/docker-{}.scope",
    "braces in a parent": "odd{{}}/{}",
}
MIB = 2**20


def v1(place: str, cpu_ns: int, periods: int, throttled: int) -> dict[str, str]:
    return {
        f"cpuacct/{place}/cpuacct.usage": f"{cpu_ns}\n",
        f"cpu/{place}/cpu.stat": (
            f"nr_periods {periods}\nnr_throttled {throttled}\nthrottled_time 99\n"
        ),
        f"cpu/{place}/cpu.cfs_quota_us": "50000\n",
        f"cpu/{place}/cpu.cfs_period_us": "100000\n",
        f"memory/{place}/memory.usage_in_bytes": f"{100 * MIB}\n",
        f"memory/{place}/memory.limit_in_bytes": f"{256 * MIB}\n",
        f"memory/{place}/memory.stat": (
            f"cache 1\ninactive_file 7\ntotal_cache 2\ntotal_inactive_file {30 * MIB}\n"
        ),
        f"pids/{place}/pids.current": "12\n",
    }


def v2(place: str, cpu_us: int, periods: int, throttled: int) -> dict[str, str]:
    return {
        "cgroup.controllers": "cpu memory pids\n",
        f"{place}/cpu.stat": (
            f"usage_usec {cpu_us}\nuser_usec 1\nsystem_usec 1\n"
            f"nr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 99\n"
        ),
        f"{place}/cpu.max": "50000 100000\n",
        f"{place}/memory.current": f"{100 * MIB}\n",
        f"{place}/memory.max": f"{256 * MIB}\n",
        f"{place}/memory.stat": f"anon 1\nfile 2\ninactive_file {30 * MIB}\n",
        f"{place}/pids.current": "12\n",
    }


def tree(hierarchy: str, place: str, cpu_s: float, periods: int, throttled: int) -> dict[str, str]:
    if hierarchy == "v1":
        return v1(place, int(cpu_s * 1e9), periods, throttled)
    return v2(place, int(cpu_s * 1e6), periods, throttled)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["v1", "v2"])
def hierarchy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_golden_figures_wherever_the_container_is(
    tmp_path: Path, clock: HandClock, hierarchy: str, place: str
) -> None:
    where = place.format(A.id)
    write(tmp_path, tree(hierarchy, where, 10.0, 1000, 100))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    first = figures(stats.sample([A]), A.id)
    assert math.isnan(first["cpu_cores"])
    assert math.isnan(first["throttled_percent"])
    assert (first["memory_bytes"], first["pids"]) == (70 * MIB, 12)

    write(tmp_path, tree(hierarchy, where, 12.0, 1050, 110))
    clock.pass_seconds(5)
    samples = stats.sample([A])
    assert samples.metrics == MEASURED
    assert samples.matrix.dtype == np.float32
    assert figures(samples, A.id) == {
        "cpu_cores": pytest.approx(0.4),
        "memory_bytes": 70 * MIB,
        "throttled_percent": pytest.approx(20.0),
        "pids": 12,
    }
    (row,) = stats.roster([A])
    assert (row.key, row.container, row.task, row.service) == (
        container_key(A.id),
        A.id,
        A.task,
        A.service,
    )
    assert (row.cpu_limit, row.memory_limit) == (0.5, 256 * MIB)


def test_no_limits(tmp_path: Path, clock: HandClock, hierarchy: str) -> None:
    place = PLACES["cgroupfs"].format(A.id)
    write(tmp_path, tree(hierarchy, place, 1.0, 0, 0))
    if hierarchy == "v1":
        write(
            tmp_path,
            {
                f"cpu/{place}/cpu.cfs_quota_us": "-1\n",
                f"memory/{place}/memory.limit_in_bytes": "9223372036854771712\n",
            },
        )
    else:
        write(tmp_path, {f"{place}/cpu.max": "max 100000\n", f"{place}/memory.max": "max\n"})
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    (row,) = stats.roster([A])
    assert (row.cpu_limit, row.memory_limit) == (None, None)
    stats.sample([A])
    clock.pass_seconds(5)
    assert figures(stats.sample([A]), A.id)["throttled_percent"] == 0.0, "no period, no throttling"


V1_FILES = {
    "cpuacct/{}/cpuacct.usage": {"cpu_cores"},
    "cpu/{}/cpu.stat": {"throttled_percent"},
    "memory/{}/memory.usage_in_bytes": {"memory_bytes"},
    "memory/{}/memory.stat": {"memory_bytes"},
    "pids/{}/pids.current": {"pids"},
}
V2_FILES = {
    "{}/cpu.stat": {"cpu_cores", "throttled_percent"},
    "{}/memory.current": {"memory_bytes"},
    "{}/memory.stat": {"memory_bytes"},
    "{}/pids.current": {"pids"},
}
LACKING = [("v1", *item) for item in V1_FILES.items()] + [("v2", *i) for i in V2_FILES.items()]


@pytest.mark.parametrize("damage", ["gone", "empty", "nonsense"])
@pytest.mark.parametrize(("hierarchy", "name", "lost"), LACKING)
def test_a_file_that_cannot_be_read_is_missing_not_zero(  # the scene
    tmp_path: Path, clock: HandClock, hierarchy: str, name: str, lost: set[str], damage: str
) -> None:
    place = f"docker/{A.id}"
    write(tmp_path, tree(hierarchy, place, 10.0, 10, 1))
    path = tmp_path / name.format(place)
    path.unlink() if damage == "gone" else path.write_text({"empty": "", "nonsense": "x y"}[damage])
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    clock.pass_seconds(5)
    found = figures(stats.sample([A]), A.id)
    assert {name for name, value in found.items() if math.isnan(value)} == lost


def test_a_vanished_container_is_left_out_and_its_directory_forgotten(
    tmp_path: Path, clock: HandClock, hierarchy: str
) -> None:
    for one in (A, B):
        write(tmp_path, tree(hierarchy, f"docker/{one.id}", 10.0, 10, 1))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    assert len(stats.sample([A, B]).keys) == 2
    for directory in list(tmp_path.rglob(A.id)):
        shutil.rmtree(directory)
    assert stats.sample([A, B]).keys == (container_key(B.id),)
    assert [row.container for row in stats.roster([A, B])] == [B.id]
    assert stats.sample([]).matrix.shape == (len(MEASURED), 0)


def test_a_container_whose_directory_just_went_has_no_row(
    tmp_path: Path, clock: HandClock, hierarchy: str
) -> None:
    write(tmp_path, tree(hierarchy, f"docker/{A.id}", 10.0, 10, 1))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    for directory in list(tmp_path.rglob(A.id)):
        shutil.rmtree(directory)
    assert stats.roster([A]) == ()


def test_a_container_whose_directory_moved_is_looked_for_again(
    tmp_path: Path, clock: HandClock, hierarchy: str
) -> None:
    write(tmp_path, tree(hierarchy, f"docker/{A.id}", 10.0, 10, 1))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    for directory in list(tmp_path.rglob(A.id)):
        shutil.rmtree(directory)
    stats.sample([A])
    write(tmp_path, tree(hierarchy, f"system.slice/docker-{A.id}.scope", 10.0, 10, 1))
    assert stats.sample([A]).keys == (container_key(A.id),)


def test_a_counter_that_goes_back_gives_no_rate(
    tmp_path: Path, clock: HandClock, hierarchy: str
) -> None:
    place = f"docker/{A.id}"
    write(tmp_path, tree(hierarchy, place, 10.0, 100, 10))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    clock.pass_seconds(5)
    write(tmp_path, tree(hierarchy, place, 9.0, 50, 5))
    found = figures(stats.sample([A]), A.id)
    assert math.isnan(found["cpu_cores"])
    assert math.isnan(found["throttled_percent"])


def test_no_time_passed_gives_no_rate(tmp_path: Path, clock: HandClock) -> None:
    write(tmp_path, tree("v2", f"docker/{A.id}", 10.0, 100, 10))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    assert math.isnan(figures(stats.sample([A]), A.id)["cpu_cores"])


def test_a_container_without_a_process_is_missing_though_its_directory_is_there(
    tmp_path: Path, clock: HandClock, hierarchy: str
) -> None:
    """While Docker hangs nobody removes the directory of a container that ended."""
    for one in (A, B):
        write(tmp_path, tree(hierarchy, f"docker/{one.id}", 10.0, 10, 1))
    pids = "pids/" if hierarchy == "v1" else ""
    write(tmp_path, {f"{pids}docker/{A.id}/pids.current": "0\n"})
    samples = CgroupStats(clock, cgroup_root=str(tmp_path)).sample([A, B])
    assert samples.keys == (container_key(B.id),)


def test_a_container_that_cannot_be_found_is_not_asked_for_at_every_tick(
    tmp_path: Path, clock: HandClock
) -> None:
    asked: list[str] = []

    def pid_of(container: str) -> None:
        asked.append(container)

    write(tmp_path, tree("v2", f"docker/{B.id}", 10.0, 10, 1))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path), pid_of=pid_of)
    for _ in range(4):
        stats.sample([A, B])
        stats.roster([A, B])
    assert asked == [A.id]
    clock.pass_seconds(60)
    stats.sample([A, B])
    assert asked == [A.id, A.id]


def test_the_working_set_is_never_negative(tmp_path: Path, clock: HandClock) -> None:
    write(tmp_path, tree("v2", f"docker/{A.id}", 10.0, 100, 10))
    write(tmp_path, {f"docker/{A.id}/memory.current": "1\n"})
    samples = CgroupStats(clock, cgroup_root=str(tmp_path)).sample([A])
    assert figures(samples, A.id)["memory_bytes"] == 0.0


@pytest.mark.parametrize("joint", ["cpu,cpuacct", "cpuacct,cpu"])
def test_v1_with_joint_controllers(tmp_path: Path, clock: HandClock, joint: str) -> None:
    write(tmp_path, tree("v1", f"docker/{A.id}", 10.0, 100, 10))
    (tmp_path / "cpu" / "docker" / A.id / "cpuacct.usage").write_text("10000000000\n")
    (tmp_path / "cpu").rename(tmp_path / joint)
    shutil.rmtree(tmp_path / "cpuacct")
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    assert stats.roster([A])[0].cpu_limit == 0.5
    stats.sample([A])
    clock.pass_seconds(5)
    assert figures(stats.sample([A]), A.id)["cpu_cores"] == 0.0


@pytest.mark.parametrize("below", ["", "/init.scope", "/a/b"])
def test_found_through_the_first_process(
    tmp_path: Path, clock: HandClock, hierarchy: str, below: str
) -> None:
    """Deeper than a walk would go; the process may have moved below the container's cgroup."""
    place = f"1/2/3/4/5/6/7/8/{A.id}"
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    write(root, tree(hierarchy, place, 10.0, 100, 10))
    lines = {
        "v1": f"9:name=systemd:/x\n4:memory:/{place}{below}\n1:cpuacct:/{place}{below}\n",
        "v2": f"0::/{place}{below}\n",
    }
    write(proc, {"4711/cgroup": lines[hierarchy]})
    stats = CgroupStats(clock, cgroup_root=str(root), proc_root=str(proc), pid_of={A.id: 4711}.get)
    assert figures(stats.sample([A, B]), A.id)["pids"] == 12
    assert len(stats.sample([A, B]).keys) == 1


def test_a_foreign_namespace_in_proc_is_not_followed(tmp_path: Path, clock: HandClock) -> None:
    root, proc = tmp_path / "cgroup", tmp_path / "proc"
    write(root, tree("v2", f"some/where/{A.id}", 10.0, 100, 10))
    (tmp_path / A.id).mkdir()
    write(proc, {"4711/cgroup": f"0::/../{A.id}\n"})
    stats = CgroupStats(clock, cgroup_root=str(root), proc_root=str(proc), pid_of={A.id: 4711}.get)
    assert figures(stats.sample([A]), A.id)["pids"] == 12, "found by the walk"


def test_a_place_once_found_serves_the_next_container_without_a_walk(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, tree("v1", f"odd{{}}/{A.id}", 10.0, 100, 10))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([A])
    write(tmp_path, tree("v1", f"odd{{}}/{B.id}", 10.0, 100, 10))
    monkeypatch.setattr("os.walk", lambda _: pytest.fail("walked"))
    assert len(stats.sample([A, B]).keys) == 2


def test_the_tree_is_not_walked_for_every_tick(tmp_path: Path, clock: HandClock) -> None:
    write(tmp_path, tree("v2", f"rig/{A.id}", 10.0, 100, 10))
    stats = CgroupStats(clock, cgroup_root=str(tmp_path))
    stats.sample([B])
    write(tmp_path, tree("v2", f"other/{B.id}", 10.0, 100, 10))
    clock.pass_seconds(5)
    assert stats.sample([B]).keys == ()
    clock.pass_seconds(11)
    assert len(stats.sample([B]).keys) == 1


def test_no_cgroups_at_all(tmp_path: Path, clock: HandClock) -> None:
    stats = CgroupStats(clock, cgroup_root=str(tmp_path / "none"))
    assert stats.sample([A]).keys == ()
    assert stats.roster([A]) == ()
