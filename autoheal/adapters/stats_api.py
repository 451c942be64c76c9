"""Figures of containers from Docker's stats API, where the cgroup files are out of reach; `auto`.

One reading costs a second on Engine 20.10, so several are asked for at once. `one-shot` carries no
earlier sample; the rates are made from our own earlier readings, as for cgroup files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from autoheal.adapters.readings import NAN, Limits, Rates, Reading, working_set
from autoheal.errors import RemoteError, RemoteRefused, RemoteUnreachable
from autoheal.model import RosterRow
from autoheal.records import container_key

if TYPE_CHECKING:
    from autoheal.ports import Clock, Container, StatsSource, SwarmReader
    from autoheal.records import Samples

REQUESTS_MAX = 16
NANO = 10**9
NOT_FOUND = 404
CFS_PERIOD_US = 100_000  # the kernel's, where Docker names none

_Answer = TypeVar("_Answer")

_log = logging.getLogger(__name__)


class ApiStats:
    """StatsSource over GET /containers/{id}/stats, with at most `requests_max` at a time."""

    def __init__(
        self, reader: SwarmReader, clock: Clock, *, requests_max: int = REQUESTS_MAX
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._pool = ThreadPoolExecutor(requests_max, thread_name_prefix="stats")
        self._rates = Rates()

    def sample(self, containers: Sequence[Container]) -> Samples:
        """One column per container that runs and answered. RemoteError if Docker failed for all."""
        answers = self._each(self._stats, containers)
        readings = {
            container.id: reading
            for container, answer in zip(containers, answers, strict=True)
            if answer and not (reading := reading_from(*answer)).empty
        }
        return self._rates.samples(readings)

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        """The limits in force; a container that is gone is left out."""
        answers = self._each(self._inspected, containers)
        rows = []
        for container, answer in zip(containers, answers, strict=True):
            if answer is None:
                continue
            limits = limits_from(answer)
            rows.append(
                RosterRow(
                    container_key(container.id),
                    container.id,
                    container.task,
                    container.service,
                    limits.cpu,
                    limits.memory,
                )
            )
        return tuple(rows)

    def close(self) -> None:
        """Ask for nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _stats(self, container: Container) -> tuple[dict[str, Any], float] | None:
        path = f"/containers/{container.id}/stats"
        raw = self._of_living(path, {"stream": "false", "one-shot": "true"})
        return None if raw is None else (raw, self._clock.monotonic())

    def _inspected(self, container: Container) -> dict[str, Any] | None:
        return self._of_living(f"/containers/{container.id}/json", {})

    def _of_living(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any] | None:
        """The answer, None for a container that is gone."""
        try:
            answer: dict[str, Any] = self._reader.get(path, **parameters)
        except RemoteRefused as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return answer

    def _each(
        self,
        ask: Callable[[Container], _Answer | None],
        containers: Iterable[Container],
    ) -> list[_Answer | None]:
        """All answers; None where there is none. Raises the last error if every request failed."""
        futures = [self._pool.submit(ask, container) for container in containers]
        answers: list[_Answer | None] = []
        failed: list[RemoteError] = []
        for future in futures:
            try:
                answers.append(future.result())
            except RemoteError as error:
                failed.append(error)
                answers.append(None)
            except CancelledError:
                answers.append(None)
            if failed and isinstance(failed[-1], RemoteUnreachable):
                # Docker hangs: whoever has not been asked yet would only wait as long again.
                for waiting in futures:
                    waiting.cancel()
        if failed and not any(answers):
            raise failed[-1]
        if failed:
            _log.warning("%d of %d containers: %s", len(failed), len(futures), failed[-1])
        return answers


class AutoStats:
    """StatsSource that reads cgroup files where it can, else Docker's API; says once which.

    The choice is made again when not one container's files can be read.
    """

    def __init__(self, cgroup: StatsSource, api: StatsSource) -> None:
        self._cgroup = cgroup
        self._api = api
        self._chosen: StatsSource | None = None

    def sample(self, containers: Sequence[Container]) -> Samples:
        """As the chosen source does."""
        if self._chosen is not self._api:
            samples = self._cgroup.sample(containers)
            if samples.keys or not containers:
                self._choose(self._cgroup, "cgroup files", decided=bool(samples.keys))
                return samples
        samples = self._api.sample(containers)
        # neither source has figures of containers that have just ended: that decides nothing
        self._choose(self._api, "Docker's stats API", decided=bool(samples.keys))
        return samples

    def roster(self, containers: Sequence[Container]) -> tuple[RosterRow, ...]:
        """As the chosen source does."""
        return (self._chosen or self._cgroup).roster(containers)

    def _choose(self, source: StatsSource, name: str, *, decided: bool) -> None:
        if decided and source is not self._chosen:
            self._chosen = source
            _log.info("figures of containers come from %s", name)


def reading_from(raw: Mapping[str, Any], at: float) -> Reading:
    """Docker's stats of one container; those of a stopped one are empty, which is 'missing'.

    `at` is when the answer came; the engine may have looked a second before. Where it tells how
    much time the whole machine had by then, that is the time of the reading: of all CPUs together,
    unmoved by wall-clock steps.
    """
    cpu = raw.get("cpu_stats") or {}
    throttling = cpu.get("throttling_data") or {}
    memory = raw.get("memory_stats") or {}
    detail = memory.get("stats") or {}
    used = _figure(cpu.get("cpu_usage") or {}, "total_usage")
    if not used > 0 and not memory:
        return Reading(at)
    machine, cpus = _figure(cpu, "system_cpu_usage"), _figure(cpu, "online_cpus")
    inactive = _figure(detail, "total_inactive_file", "inactive_file")
    return Reading(
        at=machine / NANO / cpus if machine > 0 and cpus > 0 else at,
        cpu_seconds=used / NANO,
        periods=_figure(throttling, "periods"),
        throttled=_figure(throttling, "throttled_periods"),
        memory_bytes=working_set(_figure(memory, "usage"), inactive),
        pids=_figure(raw.get("pids_stats") or {}, "current"),
    )


def limits_from(raw: Mapping[str, Any]) -> Limits:
    """The limits in a container's inspection; Docker writes 0 for none."""
    host = raw.get("HostConfig") or {}
    nano, quota, period = host.get("NanoCpus"), host.get("CpuQuota"), host.get("CpuPeriod")
    cpu = nano / NANO if nano else None
    if cpu is None and quota and quota > 0:
        cpu = quota / (period or CFS_PERIOD_US)
    return Limits(cpu, host.get("Memory") or None)


def _figure(raw: Mapping[str, Any], *names: str) -> float:
    """The first of these that is there, else NaN."""
    for name in names:
        if raw.get(name) is not None:
            return float(raw[name])
    return NAN
