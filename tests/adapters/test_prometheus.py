"""A query to a real Prometheus, and what becomes of answers that none would give."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from adapters.web import Site, hangs, serving
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.prometheus import PrometheusQuery
from autoheal.errors import RemoteError, RemoteRefused, RemoteUnreachable
from rig.prometheus import Prometheus


@pytest.fixture(scope="module")
def server() -> Iterator[Prometheus]:
    if not Prometheus.is_installed():
        if os.environ.get("AUTOHEAL_REQUIRE_RIG") == "1":
            pytest.fail("no Prometheus is installed, and AUTOHEAL_REQUIRE_RIG=1 asks for one")
        pytest.skip("no Prometheus is installed")
    with Prometheus() as started:
        yield started


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as started:
        yield started


def asked(url: str, query: str = "up", **options: str) -> float:
    return PrometheusQuery(url, query, SystemClock(), timeout_ms=20_000, **options).read()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("vector(3)", 3.0),
        ("5", 5.0),
        ("scalar(vector(1.5)) * 2", 3.0),
        ('sum(label_replace(vector(2), "a", "b", "", "") or vector(7))', 9.0),
        ("-vector(4)", -4.0),
        ("vector(1e-9)", 1e-9),
    ],
)
def test_one_sample_is_the_figure(server: Prometheus, query: str, expected: float) -> None:
    assert asked(server.url, query) == expected


@pytest.mark.parametrize(("query", "expected"), [("1/0", math.inf), ("-1/0", -math.inf)])
def test_infinity_is_told_as_it_is(server: Prometheus, query: str, expected: float) -> None:
    assert asked(server.url, query) == expected


def test_no_number_is_told_as_it_is(server: Prometheus) -> None:
    assert math.isnan(asked(server.url, "vector(0) / 0"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nothing_of_that_name", "the query gives nothing: no series is there now"),
        (
            'label_replace(vector(2), "a", "b", "", "") or vector(7)',
            "the query gives 2 series: aggregate them to one, as with sum(...)",
        ),
        ("vector(1)[5m:1m]", "the query gives a matrix, not one figure"),
        ('"text"', "the query gives a string, not one figure"),
    ],
)
def test_anything_but_one_sample_is_told(server: Prometheus, query: str, words: str) -> None:
    with pytest.raises(RemoteError) as error:
        asked(server.url, query)
    assert str(error.value) == words


def test_a_query_that_cannot_be_read_is_refused_in_prometheus_own_words(
    server: Prometheus,
) -> None:
    with pytest.raises(RemoteRefused) as refused:
        asked(server.url, "sum(")
    assert str(refused.value).startswith("400: invalid parameter")
    assert "parse error" in str(refused.value)
    assert str(refused.value).endswith(f", says {server.url}")


def test_one_that_is_away_is_unreachable(server: Prometheus) -> None:
    server.kill()
    try:
        with pytest.raises(RemoteUnreachable) as error:
            asked(server.url, "vector(1)")
        assert str(error.value) == f"{server.url}: Connection refused"
    finally:
        server.start()
    assert asked(server.url, "vector(1)") == 1.0


SAMPLE = '{"status": "success", "data": {"resultType": "scalar", "result": [1, "8"]}}'


def test_the_query_goes_out_whole_also_below_a_path(site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken")
    site.says(SAMPLE)
    query = 'sum(rate(x{a="b&c=d+e"}[2m])) > 1 # 100%'
    assert asked(f"{site.url}/prometheus/", query, token_file=str(token)) == 8.0
    ((path, headers),) = site.asked
    assert urlsplit(path).path == "/prometheus/api/v1/query"
    assert parse_qs(urlsplit(path).query) == {"query": [query]}
    assert headers["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>",
        "[]",
        "{}",
        '{"data": []}',
        '{"data": {"resultType": "scalar", "result": [1]}}',
        '{"data": {"resultType": "scalar", "result": [1, "much"]}}',
        '{"data": {"resultType": "vector", "result": [{}]}}',
        '{"data": {"resultType": "vector", "result": 5}}',
        "[" * 100_000,
    ],
)
def test_what_prometheus_would_not_answer_is_told(site: Site, body: str) -> None:
    site.says(body)
    with pytest.raises(RemoteError) as error:
        asked(site.url)
    assert str(error.value) == f"{site.url}: not an answer of Prometheus"


@pytest.mark.parametrize(
    ("warnings", "words"),
    [('["store-2\\n is away", "more"]', "store-2 is away"), ('"text"', "text")],
)
def test_a_partial_answer_is_refused(site: Site, warnings: str, words: str) -> None:
    site.says(f'{SAMPLE[:-1]}, "warnings": {warnings}}}')
    with pytest.raises(RemoteError) as error:
        asked(site.url)
    assert str(error.value) == f"{site.url}: a partial answer: {words}"


def test_no_warnings_and_mere_hints_are_no_reason_to_refuse(site: Site) -> None:
    site.says(f'{SAMPLE[:-1]}, "warnings": [], "infos": ["not a counter"]}}')
    assert asked(site.url) == 8.0


def test_a_histogram_is_told(site: Site) -> None:
    result = '[{"metric": {}, "histogram": [1, {"count": "2"}]}]'
    site.says(f'{{"data": {{"resultType": "vector", "result": {result}}}}}')
    with pytest.raises(RemoteError, match="the query gives a histogram"):
        asked(site.url)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html>secret", "502: Bad Gateway"),
        ("[]", "502: Bad Gateway"),
        ('{"error": "  too \\n many\\n"}', "502: too many"),
        ('{"error": "' + "x" * 500 + '"}', "502: " + "x" * 150),
    ],
)
def test_a_refusal_is_told_in_one_short_line(site: Site, body: str, words: str) -> None:
    site.says(body, 502)
    with pytest.raises(RemoteRefused) as refused:
        asked(site.url)
    assert str(refused.value) == f"{words}, says {site.url}"


def test_one_that_hangs_is_given_up(site: Site) -> None:
    site.behaviour = hangs
    with pytest.raises(RemoteUnreachable, match="no answer within 200ms"):
        PrometheusQuery(site.url, "up", SystemClock(), timeout_ms=200).read()
