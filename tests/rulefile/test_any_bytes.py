"""Whatever the bytes: rules, or RuleFileError whose every mistake has a place and one line."""

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.rulefile import Mistake, RuleFileError, parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rules.md").read_text()
DOCUMENTED = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SEEDS = [
    *(file.read_bytes() for file in sorted((ROOT / "rules").glob("*.yaml"))),
    *(block.encode() for block in DOCUMENTED),
    *(file.read_bytes() for file in sorted((Path(__file__).parent / "bad").glob("*.yaml"))),
]
PIECES = [
    *(b"rules:", b"- ", b"name: ", b"when: ", b"then: ", b"metric: ", b"event: ", b"action: "),
    *(b"scale_up", b"cpu_percent", b"over: 2m", b"above: ", b"80", b"-0", b"1e999", b"9" * 5000),
    *(b"all: [", b"any: ", b"not: {", b"over_time: slope", b"exit_code: ", b'"1-125"', b"reason: "),
    *(b"limit: {times: 3, per: 24h}", b"clears_within: 5m", b"otherwise: ", b"allow_risk: ["),
    *(b"oom_killed", b"task_failed", b"tasks_missing", b"escalate", b"restart", b"volume"),
    *(b"raise_memory", b"max: 2GiB", b"factor: 1.5", b"0B", b"9" * 31 + b"TiB", "٣MiB".encode()),
    *(b"{", b"}", b"[", b"]", b"? ", b": ", b", ", b"\n", b"\n  ", b"\t", b"#", b"<<: ", b"~"),
    *(b"&a ", b"*a", b"!t ", b"!!int ", b"%YAML 1.1\n", b"---\n", b"...\n", b"'", b'"', b"|\n"),
    *(b"\\U99999999", b'"\\ud800"', b"\xff", b"\x00", b"\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf"),
]


LINE_ENDS = (b"\n", b"\r", b"\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")


# A busy machine is slow; how long reading takes is not the question here.
patient = settings(deadline=None)


def mistakes_in(text: bytes) -> tuple[Mistake, ...]:
    try:
        parse({"x.yaml": text})
    except RuleFileError as error:
        return error.mistakes
    return ()


def check(text: bytes) -> None:
    lines = 1 + sum(text.count(end) for end in LINE_ENDS)
    mistakes = mistakes_in(text)
    assert list(mistakes) == sorted(set(mistakes))
    for mistake in mistakes:
        assert str(mistake).isprintable()
        assert 1 <= mistake.line <= lines
        assert 1 <= mistake.column <= len(text) + 1


@patient
@given(st.binary(max_size=200))
def test_any_bytes(text: bytes) -> None:
    check(text)


@patient
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_order_of_the_pieces_of_yaml(pieces: list[bytes]) -> None:
    check(b"".join(pieces))


@patient
@given(st.sampled_from(SEEDS), st.data())
def test_any_change_of_a_file(seed: bytes, data: st.DataObject) -> None:
    text = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        text[start:end] = data.draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    check(bytes(text))
