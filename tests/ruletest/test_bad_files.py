"""Each bad test file beside the exact words that a person sees."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoheal import ruletest
from autoheal.rulefile import RuleFileError

BAD = Path(__file__).parent / "bad"
NAMES = sorted(file.name.removesuffix(".test.yaml") for file in BAD.glob("*.test.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_test_file_is_told_in_these_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(RuleFileError) as caught:
        ruletest.run([Path(f"{name}.test.yaml")])
    assert f"{caught.value}\n" == Path(f"{name}.expected").read_text()


def test_every_bad_file_has_its_words_and_every_word_its_file() -> None:
    assert sorted(file.stem for file in BAD.glob("*.expected")) == NAMES


def test_mistakes_of_all_files_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(RuleFileError) as caught:
        ruletest.run([Path("event-node.test.yaml"), Path("empty.test.yaml")])
    assert [each.file for each in caught.value.mistakes] == [
        "empty.test.yaml",
        "event-node.test.yaml",
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError) as caught:
        ruletest.run([tmp_path / "x.test.yaml"])
    words = f"{tmp_path}/x.test.yaml:1:1: cannot be read: No such file or directory"
    assert str(caught.value) == words


def test_a_directory_without_tests_is_told(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("rules: []\n")
    (tmp_path / ".hidden.test.yaml").write_text("x")
    with pytest.raises(RuleFileError) as caught:
        ruletest.run([tmp_path])
    assert str(caught.value) == f"{tmp_path}:1:1: no rule test here (name one *.test.yaml)"


WORDS = (
    *("rules: [rules.yaml]", "step: 15s", "services: {web: {}}", "until: 1m", "tests:", "expect:"),
    *("  - {name: x}", "events: [{at: 1m, died: web.1}]", "tasks: {web.*: {pids: 1}}", "- ", "{"),
    *("state: {web: {rules: {cpu-high: {acted: [-1h]}}}}", "settings: {warm_up: 1m}", "[]", "x"),
)


@given(st.binary() | st.lists(st.sampled_from(WORDS)).map(lambda each: "\n".join(each).encode()))
@example(b"rules: [rules.yaml]\nservices: {web: {}}\ntests:\n  - {name: x, until: 5s}")
def test_whatever_a_file_holds_it_is_played_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    file = tmp_path_factory.mktemp("any") / "x.test.yaml"
    (file.parent / "rules.yaml").write_bytes((BAD / "rules.yaml").read_bytes())
    file.write_bytes(text)
    try:
        report = ruletest.run([file])
    except RuleFileError as error:
        assert error.mistakes  # noqa: PT017  # either way is right
    else:
        assert report.results is not None
