"""Load curves at their edges, what they refuse, and traces read from CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.errors import UserError
from autoheal.sim.load import (
    CORES_MAX,
    POINTS_MAX,
    Constant,
    Day,
    Load,
    Noisy,
    Sine,
    Spike,
    Sum,
    Trace,
    read_trace,
)

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_700_000_000_000  # 22:13:20 UTC
MIDNIGHT = NOW - NOW % DAY

SPIKE = Spike(base=1, peak=5, start_ms=100, rise_ms=20, hold_ms=30, fall_ms=40)
OFFICE = Day(low=1, high=9, peak_hour=14, rise_hours=6, fall_hours=8)
LINES = Trace(((0, 1.0), (10, 3.0), (30, 0.0)))
REPEATED = Trace(((5, 1.0), (15, 3.0)), period_ms=20)


@pytest.mark.parametrize("ms", [-DAY, 0, NOW])
def test_a_constant_load_is_the_same_at_any_time(ms: int) -> None:
    assert Constant(1.5).at(ms) == 1.5


@pytest.mark.parametrize(
    ("ms", "cores"), [(-250, 2), (0, 3), (250, 4), (500, 3), (750, 2), (1_000, 3), (10**12, 3)]
)
def test_a_sine_swings_around_its_mean(ms: int, cores: float) -> None:
    assert Sine(mean=3, amplitude=1, period_ms=1_000).at(ms) == cores


@pytest.mark.parametrize(("ms", "cores"), [(100, 3), (350, 4), (-150, 2), (0, 2.4122147477075)])
def test_a_sine_passes_its_mean_at_its_phase(ms: int, cores: float) -> None:
    assert Sine(mean=3, amplitude=1, period_ms=1_000, phase_ms=100).at(ms) == pytest.approx(cores)


def test_a_sine_is_cut_off_at_0() -> None:
    load = Sine(mean=1, amplitude=4, period_ms=1_000)
    assert load.at(250) == 5
    assert load.at(750) == 0


@pytest.mark.parametrize(
    ("ms", "cores"),
    [
        (0, 1),
        (99, 1),
        (100, 1),
        (105, 2),
        (120, 5),
        (135, 5),
        (150, 5),
        (160, 4),
        (190, 1),
        (NOW, 1),
    ],
)
def test_a_spike_rises_holds_and_falls(ms: int, cores: float) -> None:
    assert SPIKE.at(ms) == cores


@pytest.mark.parametrize(
    ("rise_ms", "hold_ms", "fall_ms", "cores"),
    [
        (0, 0, 0, [1, 1, 1, 1, 1]),
        (0, 2, 0, [1, 5, 5, 1, 1]),
        (2, 0, 0, [1, 1, 3, 1, 1]),
        (0, 0, 2, [1, 5, 3, 1, 1]),
        (1, 0, 1, [1, 1, 5, 1, 1]),
        (0, 1, 2, [1, 5, 5, 3, 1]),
    ],
)
def test_a_spike_without_a_ramp_steps(
    rise_ms: int, hold_ms: int, fall_ms: int, cores: list[float]
) -> None:
    load = Spike(1, 5, start_ms=100, rise_ms=rise_ms, hold_ms=hold_ms, fall_ms=fall_ms)
    assert [load.at(ms) for ms in range(99, 104)] == cores


def test_a_spike_below_its_base_is_a_dip() -> None:
    load = Spike(base=4, peak=0, start_ms=0, rise_ms=10, hold_ms=10, fall_ms=10)
    assert [load.at(ms) for ms in (0, 5, 10, 20, 25, 30)] == [4, 2, 0, 0, 2, 4]


@pytest.mark.parametrize(
    ("hour", "cores"),
    [(0, 1), (7.99, 1), (8, 1), (9.5, 2.25), (11, 5), (14, 9), (18, 5), (22, 1), (23.9, 1)],
)
@pytest.mark.parametrize("midnight", [0, MIDNIGHT, -3 * DAY])
def test_a_day_is_quiet_at_night_and_peaks_at_its_hour(
    midnight: int, hour: float, cores: float
) -> None:
    assert OFFICE.at(midnight + round(hour * HOUR)) == pytest.approx(cores)


@pytest.mark.parametrize(("hour", "cores"), [(1, 9), (23, 5), (21, 1), (2, 5), (3, 1), (12, 1)])
def test_a_day_with_a_peak_at_night_goes_on_past_midnight(hour: int, cores: float) -> None:
    load = Day(low=1, high=9, peak_hour=1, rise_hours=4, fall_hours=2)
    assert load.at(MIDNIGHT + hour * HOUR) == pytest.approx(cores)


def test_a_day_that_says_no_more_than_its_peak_sleeps_from_23_to_6() -> None:
    load = Day(low=1, high=9, peak_hour=14)
    hours = [load.at(hour * HOUR) for hour in range(24)]
    assert [hour for hour, cores in enumerate(hours) if cores == 1] == [0, 1, 2, 3, 4, 5, 6, 23]
    assert hours.index(max(hours)) == 14


@given(st.integers(0, DAY), st.integers(0, HOUR))
def test_a_day_has_no_jumps(ms: int, later_ms: int) -> None:
    steepest = 1.5 * 8 / (6 * HOUR)
    assert abs(OFFICE.at(ms + later_ms) - OFFICE.at(ms)) <= steepest * later_ms + 1e-9


@pytest.mark.parametrize(
    ("ms", "cores"),
    [
        (-NOW, 1),
        (-1, 1),
        (0, 1),
        (5, 2),
        (10, 3),
        (20, 1.5),
        (29, 0.15),
        (30, 0),
        (31, 0),
        (NOW, 0),
    ],
)
def test_a_trace_joins_its_points_and_is_level_beyond_them(ms: int, cores: float) -> None:
    assert LINES.at(ms) == pytest.approx(cores)


@pytest.mark.parametrize(
    ("ms", "cores"), [(5, 1), (10, 2), (15, 3), (20, 2), (25, 1), (-5, 3), (0, 2), (2_000_005, 1)]
)
def test_a_trace_with_a_period_repeats_and_closes_the_gap(ms: int, cores: float) -> None:
    assert REPEATED.at(ms) == pytest.approx(cores)


def test_a_trace_as_long_as_its_period_begins_again_at_once() -> None:
    load = Trace(((0, 1.0), (10, 3.0)), period_ms=10)
    assert [load.at(ms) for ms in (0, 5, 9, 10, 15)] == pytest.approx([1, 2, 2.8, 1, 2])


@pytest.mark.parametrize("period_ms", [None, 7])
def test_a_trace_of_one_point_is_level(period_ms: int | None) -> None:
    load = Trace(((10, 2.0),), period_ms=period_ms)
    assert [load.at(ms) for ms in (-3, 9, 10, 11, NOW)] == [2.0] * 5


@given(st.sampled_from([LINES, REPEATED]), st.integers(-100, 100), st.integers(-NOW, NOW))
def test_a_trace_counts_from_its_start(load: Trace, ms: int, start_ms: int) -> None:
    assert dataclasses.replace(load, start_ms=start_ms).at(start_ms + ms) == load.at(ms)


def test_a_sum_is_all_its_parts_together() -> None:
    load = Sum((Constant(1), SPIKE, Sum((Constant(0.5),))))
    assert load.at(0) == 2.5
    assert load.at(120) == 6.5
    assert Sum(()).at(0) == 0


def test_noise_wanders_around_the_load_by_no_more_than_its_share() -> None:
    load = Noisy(Constant(10), seed=1, name="web", share=0.2, period_ms=1_000)
    values = [load.at(ms) for ms in range(0, 200_000, 100)]
    assert 8 <= min(values) < 8.1
    assert 11.9 < max(values) <= 12


def test_noise_depends_on_its_seed_and_its_name_alone() -> None:
    def over_time(seed: int, name: str) -> list[float]:
        load = Noisy(Constant(10), seed=seed, name=name, share=0.2, period_ms=1_000)
        return [load.at(ms) for ms in range(0, 10_000, 500)]

    assert over_time(1, "web") == over_time(1, "web")
    assert over_time(1, "web") != over_time(2, "web")
    assert over_time(1, "web") != over_time(1, "api")


def test_noise_without_a_share_is_the_load_itself() -> None:
    load = Noisy(SPIKE, seed=1, name="web", share=0, period_ms=1_000)
    assert [load.at(ms) for ms in range(200)] == [SPIKE.at(ms) for ms in range(200)]


CORES = st.floats(0, CORES_MAX)
LENGTHS = st.integers(0, DAY)
HOURS = st.floats(0.01, 12)
TIMES = st.integers(-(10**13), 10**13)
# Each load with the most that it may ever ask for.
CURVES: st.SearchStrategy[tuple[Load, float]] = st.one_of(
    st.builds(lambda cores: (Constant(cores), cores), CORES),
    st.builds(
        lambda mean, amplitude, *times: (Sine(mean, amplitude, *times), mean + amplitude),
        CORES,
        CORES,
        st.integers(1, 10**10),
        TIMES,
    ),
    st.builds(
        lambda base, peak, *times: (Spike(base, peak, *times), max(base, peak)),
        CORES,
        CORES,
        TIMES,
        LENGTHS,
        LENGTHS,
        LENGTHS,
    ),
    st.builds(
        lambda cores, *hours: (Day(min(cores), max(cores), *hours), max(cores)),
        st.tuples(CORES, CORES),
        st.floats(0, 23.99),
        HOURS,
        HOURS,
    ),
    st.builds(
        lambda points, period_ms: (
            Trace(tuple(points), period_ms),
            max(cores for _, cores in points),
        ),
        st.dictionaries(TIMES, CORES, min_size=1, max_size=8).map(lambda at: sorted(at.items())),
        st.none() | st.integers(2 * 10**13, 10**14),
    ),
)
LOADS = st.recursive(
    CURVES,
    lambda inner: (
        st.builds(
            lambda parts: (Sum(tuple(load for load, _ in parts)), sum(most for _, most in parts)),
            st.lists(inner, max_size=3),
        )
        | st.builds(
            lambda part, share, seed, name, period_ms: (
                Noisy(part[0], seed, name, share, period_ms),
                part[1] * (1 + share),
            ),
            inner,
            st.floats(0, 1),
            st.integers(),
            st.text(),
            st.integers(1, 10**9),
        )
    ),
    max_leaves=4,
)


@given(LOADS, TIMES)
def test_no_load_is_ever_negative_or_above_its_highest(
    load_and_most: tuple[Load, float], ms: int
) -> None:
    load, most = load_and_most
    assert 0 <= load.at(ms) <= most * (1 + 1e-12)


@given(LOADS, TIMES, TIMES)
def test_a_load_is_the_same_whatever_was_asked_before(
    load_and_most: tuple[Load, float], ms: int, other_ms: int
) -> None:
    load, _ = load_and_most
    first = load.at(ms)
    load.at(other_ms)
    assert load.at(ms) == first


# Recorded once: another curve is another world for every seed that people wrote down.
@pytest.mark.parametrize(
    ("load", "cores"),
    [
        (Sine(3, 1, 86_400_000, 1_234), 2.551120627896),
        (Day(1, 9, 20), 7.777662995515964),
        (Noisy(Constant(4), 7, "web", 0.25, 90_000), 3.342313529397595),
        (
            Sum((Day(1, 9, 20), Noisy(Sine(3, 1, 7_000_000), 7, "api", 0.5, 60_000))),
            11.465597213878054,
        ),
    ],
)
def test_loads_keep_their_numbers(load: Load, cores: float) -> None:
    assert load.at(NOW) == cores


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: Constant(-1), "cores is -1: it must be from 0 to 1000000 cores"),
        (lambda: Constant(float("nan")), "cores is nan: it must be from 0 to 1000000 cores"),
        (lambda: Constant(float("inf")), "cores is inf: it must be from 0 to 1000000 cores"),
        (lambda: Sine(-1, 0, 1), "mean is -1: it must be from 0 to 1000000 cores"),
        (lambda: Sine(1, -1, 1), "amplitude is -1: it must be from 0 to 1000000 cores"),
        (lambda: Sine(1, 1, 0), "period_ms is 0: it must be at least 1"),
        (lambda: Spike(-1, 0, 0, 0, 0, 0), "base is -1: it must be from 0 to 1000000 cores"),
        (lambda: Spike(0, -1, 0, 0, 0, 0), "peak is -1: it must be from 0 to 1000000 cores"),
        (lambda: Spike(0, 0, 0, -1, 0, 0), "rise_ms is -1: it must be at least 0"),
        (lambda: Spike(0, 0, 0, 0, -1, 0), "hold_ms is -1: it must be at least 0"),
        (lambda: Spike(0, 0, 0, 0, 0, -1), "fall_ms is -1: it must be at least 0"),
        (lambda: Day(-1, 1, 1), "low is -1: it must be from 0 to 1000000 cores"),
        (lambda: Day(1, 2e6, 1), "high is 2e+06: it must be from 0 to 1000000 cores"),
        (lambda: Day(2, 1, 1), "low is 2: it must not be above high, 1"),
        (lambda: Day(1, 2, 24), "peak_hour is 24: it must be from 0 to below 24"),
        (lambda: Day(1, 2, -0.5), "peak_hour is -0.5: it must be from 0 to below 24"),
        (
            lambda: Day(1, 2, 1, 0, 1),
            "rise_hours is 0 and fall_hours 1: both must be above 0, and together at most 24",
        ),
        (
            lambda: Day(1, 2, 1, 1, 0),
            "rise_hours is 1 and fall_hours 0: both must be above 0, and together at most 24",
        ),
        (
            lambda: Day(1, 2, 1, 12, 12.5),
            "rise_hours is 12 and fall_hours 12.5: both must be above 0, and together at most 24",
        ),
        (lambda: Trace(()), "points is empty: it must hold at least one"),
        (lambda: Trace(((0, -1.0),)), "cores is -1: it must be from 0 to 1000000 cores"),
        (lambda: Trace(((1, 1.0), (1, 1.0))), "points go from 1 ms to 1 ms: times must rise"),
        (lambda: Trace(((1, 1.0), (0, 1.0))), "points go from 1 ms to 0 ms: times must rise"),
        (lambda: Trace(((1, 1.0),), 0), "period_ms is 0: it must be at least 1"),
        (lambda: Trace(((5, 1.0), (9, 1.0)), 3), "period_ms is 3: it must be at least 4"),
        (lambda: Noisy(SPIKE, 1, "", -0.1, 1), "share is -0.1: it must be from 0 to 1"),
        (lambda: Noisy(SPIKE, 1, "", 1.1, 1), "share is 1.1: it must be from 0 to 1"),
        (lambda: Noisy(SPIKE, 1, "", 0.1, 0), "period_ms is 0: it must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(made: Callable[[], Load], why: str) -> None:
    with pytest.raises(ValueError, match=r" (is|go) ") as caught:
        made()
    assert str(caught.value) == why


def test_the_greatest_loads_are_taken() -> None:
    assert Constant(CORES_MAX).at(0) == CORES_MAX
    assert Day(1, 1, 0, 12, 12).at(0) == 1


@pytest.mark.parametrize(
    "text",
    [
        "seconds,cores\n0,1\n1.5,3\n60,0.25\n",
        "seconds,cores\r\n0,1\r\n1.5,3\r\n60,0.25",
        "\ufeff seconds , cores \n\n 0 , 1\n  \n+1.5e0,3.\n60,.25\n\n",
    ],
)
def test_a_trace_is_read_from_csv(text: str) -> None:
    assert read_trace(text, "load.csv") == Trace(((0, 1.0), (1_500, 3.0), (60_000, 0.25)))


def test_times_are_read_to_the_nearest_millisecond() -> None:
    trace = read_trace("seconds,cores\n1.001,1\n2.0006,1\n", "load.csv")
    assert [ms for ms, _ in trace.points] == [1_001, 2_001]


def test_seconds_since_1970_may_stand_in_a_trace() -> None:
    assert read_trace("seconds,cores\n1700000000,1\n", "load.csv").points == ((NOW, 1.0),)


HEADER_WANTED = " is no header (expected seconds,cores)"
PAIR_WANTED = " is not two numbers (expected seconds,cores as 60,1.5)"
NUMBER_WANTED = " is not a number (expected one such as 1.5)"
NOT_BEFORE = " of the line before (expected rising times, at least 0.001 apart)"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", '1: ""' + HEADER_WANTED),
        ("0,1\n60,2\n", '1: "0,1"' + HEADER_WANTED),
        ("\nseconds,cores\n0,1\n", '1: ""' + HEADER_WANTED),
        ("seconds\r\n0\r\n", '1: "seconds"' + HEADER_WANTED),
        ("cores,seconds\n1,0\n", '1: "cores,seconds"' + HEADER_WANTED),
        ("seconds;cores\n0;1\n", '1: "seconds;cores"' + HEADER_WANTED),
        (
            "\x00\u2028\U0001f433" + "x" * 99,
            rf'1: "\u0000\u2028\ud83d\udc33{"x" * 37}..."' + HEADER_WANTED,
        ),
        ("seconds,cores", "2: no point follows the header (expected one a line, as 60,1.5)"),
        ("seconds,cores\n\n \n", "2: no point follows the header (expected one a line, as 60,1.5)"),
        ("seconds,cores\n0\n", '2: "0"' + PAIR_WANTED),
        ("seconds,cores\n0,1\n\n1,5,2\n", '4: "1,5,2"' + PAIR_WANTED),
        ("seconds,cores\n0;1\n", '2: "0;1"' + PAIR_WANTED),
        ("seconds,cores\n,1\n", '2: seconds ""' + NUMBER_WANTED),
        ("seconds,cores\n0,\n", '2: cores ""' + NUMBER_WANTED),
        ("seconds,cores\n0,one\n", '2: cores "one"' + NUMBER_WANTED),
        ("seconds,cores\n0,nan\n", '2: cores "nan"' + NUMBER_WANTED),
        ("seconds,cores\n0,inf\n", '2: cores "inf"' + NUMBER_WANTED),
        ("seconds,cores\n-Infinity,0\n", '2: seconds "-Infinity"' + NUMBER_WANTED),
        ("seconds,cores\n1_0,0\n", '2: seconds "1_0"' + NUMBER_WANTED),
        ("seconds,cores\n0,\u0661\n", '2: cores "\\u0661"' + NUMBER_WANTED),
        ("seconds,cores\n0,1\x7f\n", '2: cores "1\\u007f"' + NUMBER_WANTED),
        ("seconds,cores\n0,0x1\n", '2: cores "0x1"' + NUMBER_WANTED),
        ("seconds,cores\n0,-0.5\n", '2: cores "-0.5" is out of range (expected from 0 to 1000000)'),
        (
            "seconds,cores\n0,1e999\n",
            '2: cores "1e999" is out of range (expected from 0 to 1000000)',
        ),
        (
            "seconds,cores\n-1,0\n",
            '2: seconds "-1" is out of range (expected from 0 to 10000000000)',
        ),
        (
            "seconds,cores\n1e999,0\n",
            '2: seconds "1e999" is out of range (expected from 0 to 10000000000)',
        ),
        ("seconds,cores\n0,1\n5,1\n5,2\n", '4: seconds "5" is not after 5' + NOT_BEFORE),
        ("seconds,cores\n0,1\n5.25,1\n3,2\n", '4: seconds "3" is not after 5.25' + NOT_BEFORE),
        ("seconds,cores\n1,1\n1.0004,1\n", '3: seconds "1.0004" is not after 1' + NOT_BEFORE),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(UserError) as caught:
        read_trace(text, "load.csv")
    assert str(caught.value) == f"load.csv:{why}"


def test_a_trace_of_too_many_points_is_refused() -> None:
    most = "seconds,cores\n" + "".join(f"{second},1\n" for second in range(POINTS_MAX))
    assert len(read_trace(most, "load.csv").points) == POINTS_MAX
    with pytest.raises(UserError) as caught:
        read_trace(f"{most}{POINTS_MAX},1\n", "load.csv")
    assert str(caught.value) == (
        f"load.csv:{POINTS_MAX + 2}: too many points (expected no more than {POINTS_MAX})"
    )


@given(st.text(st.sampled_from("seconds,cores\n\r0123.-+e_ \ufeff\u0661\ud800")) | st.text())
def test_any_text_below_a_header_is_a_trace_or_one_line_of_refusal(text: str) -> None:
    try:
        trace = read_trace(f"seconds,cores\n{text}", "load.csv")
    except UserError as error:
        refusal = str(error)
    else:
        refusal = "load.csv:"
        assert all(cores >= 0 for _, cores in trace.points)
    assert refusal.startswith("load.csv:")
    assert refusal.isprintable()
