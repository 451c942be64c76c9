"""Every kind of source that a rule file can name has an adapter that takes its options."""

from __future__ import annotations

import pytest

from autoheal import rulefile
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.json_number import JsonNumber
from autoheal.adapters.prometheus import PrometheusQuery
from autoheal.adapters.redis_length import RedisLength
from autoheal.app.rules import figure_source
from autoheal.errors import RemoteError
from autoheal.rulefile.sources import SHAPES
from sources.scenes import a_source

# Nobody listens on port 1, and no such file is there: each says which it came to.
RULES = """
version: 1
sources:
  a-query: {prometheus: "http://me@127.0.0.1:1", query: up, password_file: /none/password}
  b-query: {prometheus: "http://127.0.0.1:1", query: up, token_file: /none/token}
  c-list: {redis: "redis://127.0.0.1:1/2", list: jobs, password_file: /none/password}
  d-stream: {redis: "rediss://127.0.0.1:1", stream: jobs}
  e-number: {json: "http://127.0.0.1:1/x?y=z", path: a, token_file: /none/token}
  f-number: {json: "http://me@127.0.0.1:1", path: "a[0]"}
rules:
  - name: any
    when:
      any:
        - {source: a-query, over: 1m, above: 1}
        - {source: b-query, over: 1m, above: 1}
        - {source: c-list, over: 1m, above: 1}
        - {source: d-stream, over: 1m, above: 1}
        - {source: e-number, over: 1m, above: 1}
        - {source: f-number, over: 1m, above: 1}
    then: {action: escalate}
"""
EXPECTED = {
    "a-query": (PrometheusQuery, "/none/password: No such file or directory"),
    "b-query": (PrometheusQuery, "/none/token: No such file or directory"),
    "c-list": (RedisLength, "/none/password: No such file or directory"),
    "d-stream": (RedisLength, "rediss://127.0.0.1:1: Connection refused"),
    "e-number": (JsonNumber, "/none/token: No such file or directory"),
    "f-number": (JsonNumber, "http://127.0.0.1:1: Connection refused"),
}
SOURCES = {each.name: each for each in rulefile.parse({"rules.yaml": RULES.encode()}).sources}


def test_the_example_has_every_kind_and_every_option() -> None:
    assert SOURCES.keys() == EXPECTED.keys()
    named = {key for shape in SHAPES.values() for key in shape.keys}
    assert named - set(RULES.replace(":", " ").replace("{", " ").split()) == {
        "every",
        "timeout",
        "stale_after",
    }


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_source_of_a_rule_file_is_asked_by_its_adapter(name: str) -> None:
    adapter, words = EXPECTED[name]
    made = figure_source(SOURCES[name], SystemClock())
    assert isinstance(made, adapter)
    with pytest.raises(RemoteError) as error:
        made.read()
    assert str(error.value) == words


def test_a_kind_that_nobody_knows_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="kafka is no kind of source"):
        figure_source(a_source(kind="kafka"), SystemClock())
