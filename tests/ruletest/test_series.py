"""The notation of series is promtool's: what it writes out, and what it refuses."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.ruletest.series import VALUES_MAX, After, Series, constant, parse_series

WRITTEN = {
    "50": (50.0,),
    "0.5 1e2": (0.5, 100.0),
    "50+10x3": (50.0, 60.0, 70.0, 80.0),
    "50-10x2": (50.0, 40.0, 30.0),
    "-1+1x2": (-1.0, 0.0, 1.0),
    "50x2": (50.0, 50.0, 50.0),
    "50x0": (50.0,),
    "50+10x0": (50.0,),
    "50+10": (50.0,),
    "1e15 -1e15": (1e15, -1e15),
    "_": (None,),
    "_x2": (None, None),
    "_x0": (),
    "50+10x1 _x2 95x1": (50.0, 60.0, None, None, 95.0, 95.0),
    "  1   2  ": (1.0, 2.0),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_series_is_written_out(text: str) -> None:
    assert parse_series(text) == Series(WRITTEN[text])


REFUSED = {
    "": "there is no value",
    "50+10*6": "50+10*6 cannot be read",
    "50 x3": "x3 cannot be read",
    "stale 50": "nothing comes after stale",
    "nan": "nan cannot be read",
    "inf": "inf cannot be read",
    "1x9999999": "1x9999999 cannot be read",
    "_1": "_1 cannot be read",
    "1 1e999": "1e999 goes beyond 1e+15",
    "-2e15": "-2e15 goes beyond 1e+15",
    "1+9e14x2": "1+9e14x2 goes beyond 1e+15",
    "1-1e308x9": "1-1e308x9 goes beyond 1e+15",
    "5+1e999": "5+1e999 goes beyond 1e+15",
    "٣": "٣ cannot be read",
    f"1x{VALUES_MAX}": f"more than {VALUES_MAX} values",
    f"1x{VALUES_MAX - 1} 1": f"more than {VALUES_MAX} values",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_series_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(REFUSED[text])}$"):
        parse_series(text)


def test_a_series_may_be_as_long_as_the_limit() -> None:
    assert len(parse_series(f"1x{VALUES_MAX - 1}").values) == VALUES_MAX


def test_after_its_last_value_a_series_has_no_more() -> None:
    series = parse_series("1 2")
    assert [series.at(step) for step in range(4)] == [1.0, 2.0, None, None]
    assert not series.is_stale(9)
    assert series.steps == 2


def test_a_stale_series_ends_where_it_says_so() -> None:
    series = parse_series("1 _ stale")
    assert [series.is_stale(step) for step in range(4)] == [False, False, True, True]
    assert series.at(2) is None
    assert parse_series("stale") == Series((), After.STALE)


def test_a_constant_never_ends_and_is_never_news() -> None:
    series = constant(7.0)
    assert {series.at(step) for step in (0, 1, 10_000)} == {7.0}
    assert not series.is_stale(10_000)
    assert series.steps == 0


@given(st.text())
def test_any_text_is_a_series_or_refused_in_words(text: str) -> None:
    try:
        series = parse_series(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  # either way is right
    else:
        assert len(series.values) <= VALUES_MAX


@given(st.integers(0, 500), st.integers(0, 50), st.integers(0, 40))
def test_a_run_is_one_value_and_so_many_more(first: int, step: int, more: int) -> None:
    series = parse_series(f"{first}+{step}x{more}")
    assert series.values == tuple(first + each * step for each in range(more + 1))
