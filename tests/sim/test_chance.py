"""Chance and noise: the same everywhere, unrelated between names, smooth in time."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.sim.chance import CACHED_VALUES_MAX, _lattice, chance, noise, smooth

NAMES = st.lists(st.text() | st.integers(), max_size=4).map(tuple)
TIMES = st.integers(-(10**13), 10**13)
PERIODS = st.integers(1, 10**9)

# Recorded once: another algorithm is another world for every seed that people wrote down.
CHANCES = [
    ((0,), 0.5703522847655271),
    ((1, "web"), 0.8557566820228553),
    ((7, "web", 3), 0.2552517554972489),
    ((-1, "caf\u00e9 \U0001f433"), 0.7498714938509684),
    ((1, "\ud800"), 0.3655364223335278),
]
NOISES = [
    (0, 0.27328270524770204),
    (30_000, -0.07572861244280882),
    (90_000, 0.10265355372821872),
    (1_700_000_012_345, -0.4684189249114893),
    (-1, 0.2732827048837555),
]


@pytest.mark.parametrize(("name", "value"), CHANCES)
def test_chance_keeps_its_numbers(name: tuple[int | str, ...], value: float) -> None:
    seed, *rest = name
    assert isinstance(seed, int)
    assert chance(seed, *rest) == value


@pytest.mark.parametrize(("at_ms", "value"), NOISES)
def test_noise_keeps_its_numbers(at_ms: int, value: float) -> None:
    assert noise(1, "web", at_ms=at_ms, period_ms=60_000) == value


@given(st.integers(), NAMES)
def test_chance_is_at_least_0_and_below_1(seed: int, name: tuple[str | int, ...]) -> None:
    assert 0 <= chance(seed, *name) < 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, "ab", "c"), (1, "a", "bc")),
        ((1, "ab"), (1, "a", "b")),
        ((1, "1"), (1, 1)),
        ((1, 2, 3), (1, 23)),
        ((1, 23), (12, 3)),
        ((1, ""), (1,)),
        ((1, "a", ""), (1, "", "a")),
        ((1, "i2:"), (1, 2)),
        ((1, "a:s1:b"), (1, "a", "b")),
        ((1, -2), (1, 2)),
        ((1, "\ud800"), (1, "?")),
        ((1, "a", "b"), (1, "b", "a")),
    ],
)
def test_names_that_look_alike_when_joined_are_told_apart(
    one: tuple[int, *tuple[int | str, ...]], other: tuple[int, *tuple[int | str, ...]]
) -> None:
    assert chance(*one) != chance(*other)


@given(st.integers(), NAMES, st.integers(), NAMES)
def test_another_seed_or_name_is_another_chance(
    seed: int, name: tuple[str | int, ...], other_seed: int, other_name: tuple[str | int, ...]
) -> None:
    same = (seed, *name) == (other_seed, *other_name)
    assert (chance(seed, *name) == chance(other_seed, *other_name)) == same


def test_chances_are_spread_evenly() -> None:
    tenths = [0] * 10
    for slot in range(10_000):
        tenths[int(chance(1, "web", slot) * 10)] += 1
    # Four standard deviations around 1,000; the numbers are always the same.
    assert all(880 <= count <= 1_120 for count in tenths)


@given(st.integers(), NAMES, TIMES, PERIODS)
def test_noise_is_never_beyond_1(
    seed: int, name: tuple[str | int, ...], at_ms: int, period_ms: int
) -> None:
    assert -1 <= noise(seed, *name, at_ms=at_ms, period_ms=period_ms) <= 1


@given(TIMES, st.integers(0, 10_000), st.integers(1, 10_000))
def test_noise_changes_by_no_more_than_3_times_the_share_of_the_period_that_passed(
    at_ms: int, later_ms: int, period_ms: int
) -> None:
    before = noise(1, "web", at_ms=at_ms, period_ms=period_ms)
    after = noise(1, "web", at_ms=at_ms + later_ms, period_ms=period_ms)
    assert abs(after - before) <= 3 * later_ms / period_ms + 1e-12


def test_noise_uses_most_of_its_range_and_has_no_drift() -> None:
    values = [noise(1, "web", at_ms=at, period_ms=1_000) for at in range(0, 2_000_000, 250)]
    assert min(values) < -0.95
    assert max(values) > 0.95
    assert abs(sum(values) / len(values)) < 0.05


def test_noise_moves_on_within_every_period() -> None:
    ends = [noise(1, "web", at_ms=at, period_ms=1_000) for at in range(0, 100_000, 1_000)]
    assert len(set(ends)) == len(ends)
    middles = [noise(1, "web", at_ms=at, period_ms=1_000) for at in range(500, 99_500, 1_000)]
    for start, middle, end in zip(ends, middles, ends[1:], strict=False):
        assert middle == pytest.approx((start + end) / 2)


def test_noises_of_another_period_are_no_copy_at_another_pace() -> None:
    slow = [noise(1, "web", at_ms=slot * 2_000, period_ms=2_000) for slot in range(20)]
    fast = [noise(1, "web", at_ms=slot * 1_000, period_ms=1_000) for slot in range(20)]
    assert not set(slow) & set(fast)


def test_noise_is_not_the_chance_of_the_same_name() -> None:
    for slot in range(20):
        of_chance = 2 * chance(1, "web", slot) - 1
        assert noise(1, "web", at_ms=slot * 1_000, period_ms=1_000) != of_chance


def test_what_was_asked_before_makes_no_difference() -> None:
    asked = list(itertools.product(("web", "api"), range(0, 10_000, 700)))
    forward = {each: noise(1, each[0], at_ms=each[1], period_ms=1_000) for each in asked}
    _lattice.cache_clear()
    backward = {each: noise(1, each[0], at_ms=each[1], period_ms=1_000) for each in asked[::-1]}
    assert forward == backward


def test_what_is_kept_between_calls_is_bounded() -> None:
    _lattice.cache_clear()
    for slot in range(CACHED_VALUES_MAX + 10):
        noise(1, "web", at_ms=slot, period_ms=1)
    assert _lattice.cache_info().currsize == CACHED_VALUES_MAX


@pytest.mark.parametrize("period_ms", [0, -1])
def test_a_period_that_is_none_is_refused(period_ms: int) -> None:
    with pytest.raises(ValueError, match=f"^period_ms is {period_ms}: it must be at least 1$"):
        noise(1, "web", at_ms=0, period_ms=period_ms)


@pytest.mark.parametrize(("share", "value"), [(0, 0), (0.25, 0.15625), (0.5, 0.5), (1, 1)])
def test_smooth_goes_from_0_to_1(share: float, value: float) -> None:
    assert smooth(share) == value


@given(st.floats(0, 1))
def test_smooth_stays_between_0_and_1_and_is_symmetric(share: float) -> None:
    assert 0 <= smooth(share) <= 1
    assert smooth(1 - share) == pytest.approx(1 - smooth(share))


ELSEWHERE = """
from autoheal.sim.chance import chance, noise
print(chance(1, "web", 7), noise(1, "web", "cpu", at_ms=1_700_000_012_345, period_ms=60_000))
"""


def test_another_process_with_another_hash_seed_gets_the_same_numbers() -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    here = noise(1, "web", "cpu", at_ms=1_700_000_012_345, period_ms=60_000)
    assert printed == {f"{chance(1, 'web', 7)} {here}\n"}
