"""Whatever the bytes: rules, or RuleFileError whose every mistake has a place and one line."""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoheal.rulefile import Mistake, RuleFileError, parse
from rulefile.growing import Growth

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
    *(b"track", b"targets: [", b"target: 5", b"source: jobs", b"per: task", b"policies: ["),
    *(b"sources:\n  jobs: {", b"redis: redis://q", b"list: a", b"json: http://[", b"every: 1s"),
    *(b"schedule: {", b"days: mon-fri", b'hours: "22:00-06:00"', b"zone: UTC", b"outside: ["),
    *(b"labels: {", b"stack: a", b"keep_firing_for: 1m", b"over_time: forecast", b"ahead: 9m"),
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


Chance = random.Random


def junk(chance: Chance) -> bytes:
    """Any bytes."""
    return chance.randbytes(chance.randint(0, 200))


def pieces(chance: Chance) -> bytes:
    """The pieces of YAML and of the language in any order."""
    return b"".join(chance.choices(PIECES, k=chance.randint(1, 40)))


def changed(chance: Chance) -> bytes:
    """A file that is right, or nearly, with some of it replaced."""
    text = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 3)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.randint(0, 12))
        text[start:end] = chance.choice([chance.choice(PIECES), chance.randbytes(3)])
    return bytes(text)


def grown(chance: Chance) -> bytes:
    """A file that the schema describes, with a slip here and there."""
    return Growth(chance.randint(0, 2**32), chance.choice([0.0, 0.02, 0.1])).text()


MAKERS: tuple[Callable[[Chance], bytes], ...] = (junk, pieces, changed, grown, grown)


def read_many(seed: int, times: int) -> Counter[str]:
    """How many documents were rules, and how many were refused."""
    chance = Chance(seed)
    count = Counter[str]()
    for number in range(times):
        text = MAKERS[number % len(MAKERS)](chance)
        try:
            parse({"x.yaml": text})
        except RuleFileError as error:
            count["refused" if error.mistakes else "refused without a reason"] += 1
        except Exception as error:  # any at all is what this is about
            error.add_note(f"seed {seed}, document {number}: {text!r}")
            raise
        else:
            count["rules"] += 1
    return count


def test_two_thousand_documents_are_rules_or_refused() -> None:
    count = read_many(seed=1, times=2_000)
    assert count["rules"] + count["refused"] == 2_000
    assert min(count["rules"], count["refused"]) > 100


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_hundred_thousand_documents_are_rules_or_refused() -> None:
    count = read_many(seed=2, times=100_000)
    assert count["rules"] + count["refused"] == 100_000
    assert min(count["rules"], count["refused"]) > 5_000
