"""Figures from elsewhere: how they are defined, and how rules name them."""

from pathlib import Path

import pytest

from autoheal.core.rule import Aggregate, Comparison, Condition, RuleSet, Source, SourceCondition
from autoheal.rulefile import RuleFileError, load, parse
from autoheal.rulefile.sources import SOURCES_MAX

MINUTE = 60_000
DEFINED = 'sources:\n  jobs: {redis: "redis://queue:6379/0", list: "queue:jobs"}\n'
RULE = """rules:
  - name: busy
    when: {source: jobs, over: 1m, above: 500}
    then: {action: escalate}
"""
TRACK = """rules:
  - name: workers
    then: {action: track, targets: [{source: jobs, target: 50}], min: 1, max: 30}
"""


def read(*texts: str) -> RuleSet:
    return parse({f"{number}.yaml": text.encode() for number, text in enumerate(texts)})


def source(text: str) -> Source:
    (found,) = read(f"sources:\n  jobs: {text}\n" + RULE).sources
    return found


def made(kind: str, *options: str) -> Source:
    """The source with these options, `name=value`, and times as they are left out."""
    pairs = (option.partition("=") for option in options)
    found = tuple((name, value) for name, _, value in pairs)
    return Source("jobs", kind, found, 15_000, 2_000, MINUTE)


WRITTEN = {
    '{prometheus: "http://prometheus:9090", query: "sum(jobs)"}': made(
        "prometheus", "query=sum(jobs)", "url=http://prometheus:9090"
    ),
    '{prometheus: "https://me@p/prom", query: up, password_file: /run/secrets/p}': made(
        "prometheus", "password_file=/run/secrets/p", "query=up", "url=https://me@p/prom"
    ),
    '{redis: "redis://queue", list: jobs}': made("redis_list", "key=jobs", "url=redis://queue"),
    '{redis: "rediss://me@queue:6379/15", stream: "a b", password_file: /p}': made(
        "redis_stream", "key=a b", "password_file=/p", "url=rediss://me@queue:6379/15"
    ),
    '{json: "http://[::1]:80/x?y=1", path: "[0].a-b[12][3].c", token_file: /t}': made(
        "json", "path=[0].a-b[12][3].c", "token_file=/t", "url=http://[::1]:80/x?y=1"
    ),
}


@pytest.mark.parametrize(("text", "expected"), WRITTEN.items(), ids=WRITTEN)
def test_a_source_is_its_kind_and_its_options(text: str, expected: Source) -> None:
    assert source(text) == expected


def test_a_query_may_have_several_lines() -> None:
    text = '\n    prometheus: "http://p"\n    query: |\n      sum(\n        jobs\n      )\n'
    assert dict(source(text).options)["query"] == "sum(\n  jobs\n)"


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ("every: 1s, timeout: 1s, stale_after: 1001ms", (1_000, 1_000, 1_001)),
        ("every: 1h, stale_after: 24h", (3_600_000, 2_000, 86_400_000)),
        ("timeout: 100ms", (15_000, 100, MINUTE)),
        ("every: 59s", (59_000, 2_000, MINUTE)),
    ],
)
def test_a_source_has_its_times(times: str, expected: tuple[int, int, int]) -> None:
    read_ = source(f'{{redis: "redis://queue", list: jobs, {times}}}')
    assert (read_.every_ms, read_.timeout_ms, read_.stale_after_ms) == expected


CONDITIONS = {
    "{source: jobs, over: 1m, above: 500}": SourceCondition(
        "jobs", MINUTE, Comparison.ABOVE, 500.0
    ),
    "{source: jobs, over: 5m, at_most: 0, per: task, over_time: rate}": SourceCondition(
        "jobs", 5 * MINUTE, Comparison.AT_MOST, 0.0, Aggregate.RATE, per_task=True
    ),
    "{source: jobs, over: 1h, above: 5, over_time: forecast, ahead: 10m, per: service}": (
        SourceCondition("jobs", 60 * MINUTE, Comparison.ABOVE, 5.0, Aggregate.FORECAST, 10 * MINUTE)
    ),
    "{not: {source: jobs, over: 1m, above: 500}}": SourceCondition(
        "jobs", MINUTE, Comparison.AT_MOST, 500.0
    ),
}


@pytest.mark.parametrize(("text", "expected"), CONDITIONS.items(), ids=CONDITIONS)
def test_a_condition_can_look_at_a_source(text: str, expected: Condition) -> None:
    text = DEFINED + RULE.replace("{source: jobs, over: 1m, above: 500}", text)
    assert read(text).rules[0].when == expected


@pytest.mark.parametrize("rule", [RULE, TRACK])
def test_a_source_serves_the_rules_of_every_file_in_any_order(rule: str) -> None:
    one, other = read(DEFINED, rule), read(rule, DEFINED)
    assert one == other == read(DEFINED + rule)
    assert [source.name for source in one.sources] == ["jobs"]


def test_sources_come_by_name_and_only_those_that_a_rule_names() -> None:
    more = DEFINED + '  mails: {redis: "redis://queue", list: m}\n'
    more += '  a: {redis: "redis://queue", list: a}\n'
    assert read(more + RULE) == read(DEFINED + RULE)
    both = RULE + TRACK.replace("rules:\n", "").replace("jobs", "a")
    assert [source.name for source in read(more + both).sources] == ["a", "jobs"]


def test_what_is_loaded_tells_of_every_source_that_is_defined(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(DEFINED + '  a: {redis: "redis://queue", list: a}\n' + RULE)
    loaded = load([file])
    assert [source.name for source in loaded.sources] == ["a", "jobs"]
    assert [source.name for source in loaded.rules.sources] == ["jobs"]


def mistakes(*texts: str) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        read(*texts)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_source_that_is_defined_twice_is_told_with_its_place() -> None:
    expected = "1.yaml:2:9: sources.jobs: the name jobs is taken (by 0.yaml:2:9)"
    assert mistakes(DEFINED + RULE, DEFINED) == [expected]


@pytest.mark.parametrize(
    "broken",
    ["rules: [", "version: 2\nsources: {}\n", "- jobs\n", "sources:\n  Jobs: 1\n", "sources: 1\n"],
)
def test_a_file_that_cannot_be_read_may_have_defined_what_is_not_found(broken: str) -> None:
    (mistake,) = mistakes(RULE, broken)
    assert mistake.startswith("1.yaml:")


def test_a_file_that_cannot_be_had_may_have_defined_what_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULE)
    with pytest.raises(RuleFileError) as caught:
        load([tmp_path / "sources.yaml", tmp_path / "rules.yaml"])
    (mistake,) = caught.value.mistakes
    assert mistake.file.endswith("sources.yaml")


def test_a_source_with_a_mistake_is_known_all_the_same() -> None:
    (mistake,) = mistakes("sources:\n  jobs: {redis: 1, list: jobs}\n" + RULE)
    assert "sources.jobs.redis: 1 is not a URL" in mistake


def test_a_set_has_this_many_sources_and_no_more() -> None:
    text = "sources:\n" + "".join(
        f'  s{number}: {{redis: "redis://queue", list: jobs}}\n' for number in range(SOURCES_MAX)
    )
    rule = RULE.replace("source: jobs", "source: s0")
    assert read(text + rule).rules
    (mistake,) = mistakes(text + rule, DEFINED)
    assert "101 sources are too many (at most 100)" in mistake


@pytest.mark.parametrize("url", ["redis://:s3cret@q", "x://me:s3cret@q", "redis://me:s/3cret@q"])
@pytest.mark.parametrize("kind", ["redis", "json", "prometheus"])
def test_no_message_shows_a_password(kind: str, url: str) -> None:
    text = "\n".join(mistakes(f'sources:\n  jobs: {{{kind}: "{url}"}}\n'))
    assert f"sources.jobs.{kind}: " in text
    assert "3cret" not in text
