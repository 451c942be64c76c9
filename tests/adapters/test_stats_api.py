from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from adapters.fakes import HandClock, TableReader, container, figures
from autoheal.adapters.stats_api import ApiStats, AutoStats, limits_from, reading_from
from autoheal.errors import RemoteUnreachable
from autoheal.metrics import MEASURED
from autoheal.model import RosterRow
from autoheal.ports import Container
from autoheal.records import Samples, container_key

A, B = container("a"), container("b")
EMPTY: dict[str, Any] = {
    "read": "0001-01-01T00:00:00Z",
    "pids_stats": {},
    "cpu_stats": {"cpu_usage": {"total_usage": 0}, "throttling_data": {"periods": 0}},
    "memory_stats": {},
}


def stats_of(cpu_s: float, machine_s: float, periods: int = 0, throttled: int = 0) -> Any:  # noqa: ANN401  # Docker's JSON
    return {
        "read": "2026-11-21T12:21:43.048488715Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {"current": 3},
        "cpu_stats": {
            "cpu_usage": {"total_usage": int(cpu_s * 1e9)},
            "system_cpu_usage": int(2 * machine_s * 1e9),
            "online_cpus": 2,
            "throttling_data": {"periods": periods, "throttled_periods": throttled},
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 0}},
        "memory_stats": {"usage": 540_672, "stats": {"total_inactive_file": 40_672}},
    }


@pytest.fixture
def reader() -> TableReader:
    return TableReader()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def api(reader: TableReader, clock: HandClock) -> Iterator[ApiStats]:
    with closing(ApiStats(reader, clock)) as stats:
        yield stats


def test_golden_figures(reader: TableReader, api: ApiStats) -> None:
    path = f"/containers/{A.id}/stats"
    reader.answers[path] = stats_of(10, 1000, 100, 10)
    first = figures(api.sample([A]), A.id)
    assert math.isnan(first["cpu_cores"])
    reader.answers[path] = stats_of(13, 1006, 160, 40)
    assert figures(api.sample([A]), A.id) == {
        "cpu_cores": pytest.approx(0.5),
        "memory_bytes": 500_000,
        "throttled_percent": pytest.approx(50.0),
        "pids": 3,
    }


def test_without_the_machines_time_our_own_clock_serves(
    reader: TableReader, clock: HandClock, api: ApiStats
) -> None:
    path = f"/containers/{A.id}/stats"
    found = []
    for cpu_s in (10, 12):
        reader.answers[path] = stats_of(cpu_s, 1000)
        del reader.answers[path]["cpu_stats"]["system_cpu_usage"]
        clock.pass_seconds(4)
        found.append(figures(api.sample([A]), A.id)["cpu_cores"])
    assert found[1] == pytest.approx(0.5)


def test_v2_spells_inactive_file_otherwise() -> None:
    raw = stats_of(1, 1)
    raw["memory_stats"] = {"usage": 1000, "stats": {"inactive_file": 400}}
    assert reading_from(raw, 1.0).memory_bytes == 600
    raw["memory_stats"] = {"usage": 1000}
    assert math.isnan(reading_from(raw, 1.0).memory_bytes)


@pytest.mark.parametrize("raw", [EMPTY, {}, {"cpu_stats": None, "memory_stats": None}])
def test_a_stopped_container_is_missing_not_idle(
    reader: TableReader, api: ApiStats, raw: object
) -> None:
    reader.answers[f"/containers/{A.id}/stats"] = raw
    reader.answers[f"/containers/{B.id}/stats"] = stats_of(1, 1)
    assert api.sample([A, B]).keys == (container_key(B.id),)


def test_a_container_that_is_gone_is_left_out(reader: TableReader, api: ApiStats) -> None:
    assert api.sample([A]).matrix.shape == (len(MEASURED), 0)
    assert api.roster([A]) == ()
    reader.answers[f"/containers/{B.id}/json"] = {"HostConfig": {}}
    assert [row.container for row in api.roster([A, B])] == [B.id]


def test_raises_when_docker_answers_for_none(reader: TableReader, api: ApiStats) -> None:
    reader.failure = RemoteUnreachable("no answer")
    with pytest.raises(RemoteUnreachable):
        api.sample([A, B])
    assert api.sample([]).keys == ()


@pytest.mark.parametrize(
    ("host", "cpu", "memory"),
    [
        ({"NanoCpus": 1_500_000_000, "Memory": 64}, 1.5, 64),
        ({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 200_000, "Memory": 0}, 0.25, None),
        ({"CpuQuota": 50_000}, 0.5, None),
        ({"CpuQuota": -1}, None, None),
        ({}, None, None),
    ],
)
def test_limits(host: dict[str, int], cpu: float | None, memory: int | None) -> None:
    limits = limits_from({"HostConfig": host})
    assert (limits.cpu, limits.memory) == (cpu, memory)


@dataclass
class Source:
    """A StatsSource that knows some containers."""

    known: set[str] = field(default_factory=set)
    asked: int = 0

    def sample(self, containers: Sequence[Container]) -> Samples:
        self.asked += 1
        keys = tuple(container_key(c.id) for c in containers if c.id in self.known)
        return Samples(MEASURED, keys, np.zeros((len(MEASURED), len(keys)), np.float32))

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        return tuple(
            RosterRow(container_key(c.id), c.id, c.task, c.service, None, None)
            for c in containers
            if c.id in self.known
        )


class TestAuto:
    def test_reads_cgroups_where_it_can_and_says_so_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        cgroup, api = Source({A.id}), Source({A.id})
        auto = AutoStats(cgroup, api)
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert len(auto.sample([A]).keys) == 1
        assert api.asked == 0
        assert [r.message for r in caplog.records] == [
            "figures of containers come from cgroup files"
        ]
        assert len(auto.roster([A])) == 1

    def test_else_the_api_for_good(self) -> None:
        cgroup, api = Source(), Source({A.id})
        auto = AutoStats(cgroup, api)
        for _ in range(3):
            assert len(auto.sample([A]).keys) == 1
        assert cgroup.asked == 1
        assert len(auto.roster([A])) == 1

    def test_decides_again_when_all_cgroups_fail(self) -> None:
        cgroup, api = Source({A.id}), Source({A.id})
        auto = AutoStats(cgroup, api)
        auto.sample([A])
        cgroup.known.clear()
        assert len(auto.sample([A]).keys) == 1
        assert api.asked == 1

    def test_containers_that_just_ended_decide_nothing(self) -> None:
        cgroup, api = Source({A.id}), Source({A.id})
        auto = AutoStats(cgroup, api)
        assert auto.sample([B]).keys == ()
        assert auto.sample([]).keys == ()
        auto.sample([A])
        assert (cgroup.asked, api.asked) == (3, 1)
