"""Each bad file beside the exact words that a person sees: bad/NAME.yaml and bad/NAME.expected."""

from pathlib import Path

import pytest

from autoheal.errors import UserError
from autoheal.rulefile import Mistake, RuleFileError, parse
from autoheal.rulefile.tree import TEXT_BYTES_MAX

BAD = Path(__file__).parent / "bad"
NAMES = sorted(file.stem for file in BAD.glob("*.yaml"))


def complaint(text: str | bytes, file: str = "x.yaml") -> RuleFileError:
    with pytest.raises(RuleFileError) as caught:
        parse({file: text.encode() if isinstance(text, str) else text})
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_file_is_told_in_these_words(name: str) -> None:
    error = complaint((BAD / f"{name}.yaml").read_bytes(), f"{name}.yaml")
    assert f"{error}\n" == (BAD / f"{name}.expected").read_text()


def test_every_bad_file_has_its_words_and_every_word_its_file() -> None:
    assert sorted(file.stem for file in BAD.glob("*.expected")) == NAMES


def test_mistakes_carry_their_parts() -> None:
    error = complaint("rules:\n  - 1\n")
    what, hint = "rules[0]: 1 is not a map", "such as {name: cpu-high, when: {...}, then: {...}}"
    assert error.mistakes == (Mistake("x.yaml", 2, 5, what, hint),)
    assert isinstance(error, UserError)


def test_a_mistake_without_hint_has_no_brackets() -> None:
    assert str(Mistake("x.yaml", 2, 5, "it is wrong")) == "x.yaml:2:5: it is wrong"


def test_mistakes_of_all_files_come_by_file_then_by_place() -> None:
    texts = {"b.yaml": b"rules: [1, 2]", "a.yaml": b"- x", "c.yaml": b"rules:\n- 1\n- 2\n"}
    with pytest.raises(RuleFileError) as caught:
        parse(texts)
    places = [(found.file, found.line, found.column) for found in caught.value.mistakes]
    assert places == [
        ("a.yaml", 1, 1),
        ("b.yaml", 1, 9),
        ("b.yaml", 1, 12),
        ("c.yaml", 2, 3),
        ("c.yaml", 3, 3),
    ]


def test_a_name_taken_in_another_file_is_told_with_its_place() -> None:
    rule = (
        b"rules:\n  - {name: oom, when: {event: oom_killed, over: 5m, at_least: 1}, "
        b"then: {action: escalate}}\n"
    )
    with pytest.raises(RuleFileError) as caught:
        parse({"a.yaml": rule, "b.yaml": b"# moved here\n" + rule})
    expected = "b.yaml:3:12: rules[0].name: the name oom is taken (by a.yaml:2:12)"
    assert str(caught.value) == expected


def test_a_file_at_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    text = b"rules: []\n#"
    full = text + b"x" * (TEXT_BYTES_MAX - len(text))
    assert parse({"x.yaml": full}).rules == ()
    error = complaint(full + b"x")
    assert str(error) == "x.yaml:1:1: the file is larger than 1 MiB (split it)"


def test_very_many_mistakes_are_counted_not_listed() -> None:
    error = complaint("rules: [" + "1, " * 1003 + "]")
    lines = str(error).splitlines()
    assert len(error.mistakes) == 1003
    assert len(lines) == 1001
    assert lines[-1] == "and 3 more mistakes"


@pytest.mark.parametrize("piece", [":", "@", "a", "//", "[", "%"])
def test_a_very_long_url_is_no_url(piece: str) -> None:
    text = 'sources:\n  jobs: {json: "http://%s", path: a}\n' % (piece * 300_000)
    assert "is no http URL" in str(complaint(text))


def test_deep_nesting_ends_early_however_long_the_file() -> None:
    error = complaint("[" * 1_000_000)
    assert str(error) == "x.yaml:1:21: this is nested too deeply (at most 20 levels)"
