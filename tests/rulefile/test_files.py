"""Which files are read, under which name, and what is said of those that cannot be."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoheal.rulefile import RuleFileError, load, parse


def rule(name: str) -> str:
    when = "{event: oom_killed, over: 10m, at_least: 1}"
    return f"rules: [{{name: {name}, when: {when}, then: {{action: escalate}}}}]\n"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def names(*paths: str) -> list[str]:
    return [found.name for found in load([Path(path) for path in paths]).rules.rules]


def complaint(*paths: str) -> str:
    with pytest.raises(RuleFileError) as caught:
        load([Path(path) for path in paths])
    return str(caught.value)


def test_a_directory_gives_its_rule_files_and_nothing_else() -> None:
    write("rules/b.yaml", rule("b"))
    write("rules/a.yml", rule("a"))
    for other in ("a.test.yaml", "a.test.yml", ".a.yaml", "a.yaml~", "a.json", "deeper/c.yaml"):
        write(f"rules/{other}", "not a rule file")
    assert list(load([Path("rules")]).texts) == ["rules/a.yml", "rules/b.yaml"]
    assert names("rules") == ["a", "b"]


def test_a_file_named_is_read_whatever_its_name() -> None:
    write("rules.d", rule("a"))
    assert names("rules.d") == ["a"]


def test_texts_are_as_on_disk_and_give_the_same_rules_again() -> None:
    text = "# why\r\n" + rule("a")
    Path("x.yaml").write_bytes(text.encode())
    loaded = load([Path("x.yaml")])
    assert loaded.texts == {"x.yaml": text.encode()}
    assert parse(loaded.texts) == loaded.rules


def test_names_stay_as_given(tmp_path: Path) -> None:
    write("rules/a.yaml", "- x")
    assert complaint("rules").startswith("rules/a.yaml:1:1: ")
    assert complaint(str(tmp_path / "rules")).startswith(f"{tmp_path}/rules/a.yaml:1:1: ")


def test_a_file_given_twice_is_read_once() -> None:
    write("rules/a.yaml", rule("a"))
    assert names("rules", "rules/a.yaml") == ["a"]


def test_mistakes_in_all_files_and_paths_are_told_at_once() -> None:
    write("rules/good.yaml", rule("a"))
    write("rules/bad.yaml", "- x")
    Path("empty").mkdir()
    assert complaint("rules", "none.yaml", "empty", "rules/good.yaml/x").splitlines() == [
        "empty:1:1: no rule file in this directory (name one *.yaml)",
        "none.yaml:1:1: cannot be read: No such file or directory",
        "rules/bad.yaml:1:1: a list is not a map (such as {version: 1, rules: [...]})",
        "rules/good.yaml/x:1:1: cannot be read: Not a directory",
    ]


def test_a_directory_that_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("rules").mkdir()

    def iterdir(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert complaint("rules") == "rules:1:1: cannot be read: Permission denied"


def test_a_directory_with_the_name_of_a_file_is_told_and_the_rest_is_read() -> None:
    Path("rules/x.yaml").mkdir(parents=True)
    write("rules/y.yaml", "- x")
    assert [line.split(": ")[0] for line in complaint("rules").splitlines()] == [
        "rules/x.yaml:1:1",
        "rules/y.yaml:1:1",
    ]


def test_a_huge_file_is_refused_without_reading_it_all() -> None:
    with Path("huge.yaml").open("wb") as huge:
        huge.truncate(2**40)
    assert complaint("huge.yaml") == "huge.yaml:1:1: the file is larger than 1 MiB (split it)"


def test_what_is_no_file_is_refused_without_waiting_for_it() -> None:
    os.mkfifo("rules.yaml")
    assert complaint("rules.yaml", "/dev/zero").splitlines() == [
        "/dev/zero:1:1: cannot be read: it is not a regular file",
        "rules.yaml:1:1: cannot be read: it is not a regular file",
    ]
