"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoheal.units import (
    MIB,
    format_compose_size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0s", 0),
        ("250ms", 250),
        ("90s", 90_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("1d2h3m4s5ms", 93_784_005),
    ],
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("2 minutes", "2m"),
        ("30", "30s"),
        ("30 S", "30s"),
        ("5 milliseconds", "5ms"),
        ("5 MS", "5ms"),
        ("1 hour", "1h"),
        ("3 days", "3d"),
        ("1m ", "1m"),
        ("-5m", "2m"),
        ("soon", "2m"),
        ("", "2m"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is not a duration") as caught:
        parse_duration(text)
    assert str(caught.value) == f'"{text}" is not a duration (try {hint})'
    assert parse_duration(hint) > 0


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (90_000, "1m30s"),
        (3_600_000, "1h"),
        (86_400_000 - 1, "23h59m59s999ms"),
        (90_000_000, "1d1h"),
    ],
)
def test_durations_are_written_in_the_shortest_exact_form(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(0, 10**12))
def test_a_written_duration_reads_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("1KB", 1_000),
        ("1KiB", 1_024),
        ("64MiB", 64 * 2**20),
        ("64 MiB", 64 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.5GiB", 2**29),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64", "64M", "MiB", "-1MiB", "1,5GB", "1.GB", "64  MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(text)
    assert str(caught.value) == f'"{text}" is not a size (try 64MiB)'


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1_023, "1023B"),
        (1_024, "1KiB"),
        (1_536, "1.5KiB"),
        (2**20, "1MiB"),
        (64 * 2**20, "64MiB"),
        (3 * 2**29, "1.5GiB"),
        (2**40, "1TiB"),
    ],
)
def test_sizes_are_written_in_the_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 2**50))
def test_a_written_size_reads_back_to_within_its_one_decimal(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= size * 0.051


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1M"),
        (MIB, "1M"),
        (MIB + 1, "2M"),
        (192 * MIB, "192M"),
        (1023 * MIB, "1023M"),
        (1024 * MIB, "1G"),
        (1024 * MIB + 1, "1025M"),
        (1536 * MIB, "1536M"),
        (2048 * MIB, "2G"),
        (2048 * 1024 * MIB, "2048G"),
    ],
)
def test_compose_sizes_are_whole_mebibytes_upwards_and_gibibytes_where_whole(
    size: int, text: str
) -> None:
    assert format_compose_size(size) == text
