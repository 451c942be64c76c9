"""What a person sees: in the shipped packs nothing, in the naive thresholds what is wrong."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from autoheal import cli, rulefile
from autoheal.lint import Finding, lines, lint
from autoheal.lint.finding import Said
from autoheal.rulefile.language import Reader
from autoheal.rulefile.mistakes import Notes

ROOT = Path(__file__).parents[2]
NAIVE = "rules/naive.yaml.example"
PAGE = (ROOT / "docs" / "lint.md").read_text()
UNDER_LABEL = "deploy:\n#       labels:\n#         scaling: "


def check(*arguments: str) -> Result:
    return CliRunner().invoke(cli.commands, ["check", *arguments])


def explained(file: str) -> list[str]:
    """The warnings about one file, each with its place."""
    reader = Reader(Notes())
    reader.open(file, (ROOT / file).read_bytes())
    reader.rules()
    places = {f"rule {name}": place for name, place in reader._places.items()}
    loaded = rulefile.load([ROOT / file])
    return lines(lint(loaded.rules, loaded.sources), places)


def test_the_page_shows_what_is_said_of_the_naive_thresholds() -> None:
    shown = re.findall(rf"^    ({re.escape(NAIVE)}:.+)$", PAGE, re.MULTILINE)
    assert shown == explained(NAIVE)


def test_each_naive_rule_is_warned_about() -> None:
    told = "".join(explained(NAIVE))
    codes = set(re.findall(r"\[([a-z-]+)\]", told))
    assert {"rule busy", "rule idle"} <= set(re.findall(r"rule \w+", told))
    assert {"memory-scale-up", "memory-scale-down", "short-cooldown", "short-down-window"} == codes


def test_a_directory_is_loaded_without_the_naive_thresholds_and_the_examples() -> None:
    files = {Path(file).name for file in rulefile.load([ROOT / "rules"]).texts}
    assert files == {"scaling.yaml", "remediation.yaml"}


@pytest.mark.parametrize("paths", [["rules"], ["rules/examples"], ["rules/remediation.yaml"]])
def test_the_shipped_packs_get_no_warning(paths: list[str]) -> None:
    done = check("--strict", *(str(ROOT / path) for path in paths))
    assert re.fullmatch(r"\d+ rules in \d files?: ok\n", done.output)
    assert done.exit_code == 0


@pytest.mark.parametrize(("pack", "label"), [("tracking", "track"), ("workers", "queue")])
def test_an_example_fits_only_services_with_the_label_that_it_tells(pack: str, label: str) -> None:
    file = ROOT / "rules" / "examples" / f"{pack}.yaml"
    assert f"{UNDER_LABEL}{label}\n" in file.read_text()
    for rule in rulefile.load([file]).rules.rules:
        assert dict(rule.match.labels) == {"scaling": label}


@pytest.mark.parametrize("pack", ["tracking", "workers"])
def test_an_example_beside_the_scaling_pack_is_warned_about_until_the_pack_has_its_own_label(
    pack: str, tmp_path: Path
) -> None:
    example = str(ROOT / "rules" / "examples" / f"{pack}.yaml")
    scaling = (ROOT / "rules" / "scaling.yaml").read_text()
    told = check(str(ROOT / "rules" / "scaling.yaml"), example).output
    assert "[tracked-too]" in told
    apart = tmp_path / "scaling.yaml"
    apart.write_text(
        scaling.replace("    when:", "    match: {labels: {scaling: steps}}\n    when:")
    )
    assert check(str(apart), example).output.endswith(": ok\n")


def test_warnings_follow_the_count_and_are_no_failure() -> None:
    done = check(str(ROOT / NAIVE))
    first, *rest = done.output.splitlines()
    assert first == "2 rules in 1 file: ok, 5 warnings"
    assert [line[line.index("rule ") :] for line in rest] == [
        line[line.index("rule ") :] for line in explained(NAIVE)
    ]
    assert done.exit_code == 0


def test_under_strict_warnings_are_a_failure() -> None:
    lax, strict = check(str(ROOT / NAIVE)), check("--strict", str(ROOT / NAIVE))
    assert strict.exit_code == 1
    assert strict.output == lax.output


def test_lines_come_by_place_and_what_has_none_first() -> None:
    said = Said("does it", "do not")
    findings = [Finding(f"rule {name}", said, "code") for name in ("a", "b", "c", "d")]
    places = {"rule a": "x.yaml:10:1", "rule b": "x.yaml:9:1", "rule c": "a:b.yaml:11:1"}
    assert lines(findings, places) == [
        "rule d: does it (do not) [code]",
        "a:b.yaml:11:1: rule c: does it (do not) [code]",
        "x.yaml:9:1: rule b: does it (do not) [code]",
        "x.yaml:10:1: rule a: does it (do not) [code]",
    ]


LANGUAGE = (ROOT / "docs" / "rules.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"(?ms)^```yaml\n(.*?)^```$", LANGUAGE))
def test_whatever_the_language_can_say_is_looked_at(block: str) -> None:
    told = lines(lint(rulefile.parse({"x": block.encode()})), {})
    assert all(re.fullmatch(r"rule [a-z-]+: [^()]+ \([^\n]+\) \[[a-z-]+\]", line) for line in told)


def test_the_order_of_the_rules_makes_no_difference() -> None:
    text = (ROOT / NAIVE).read_bytes()
    head, *rules = re.split(rb"(?m)^(?=  - name:)", text)
    there = rulefile.parse({"x": head + b"".join(rules)})
    back = rulefile.parse({"x": head + b"".join(reversed(rules))})
    assert lint(there) == lint(back) != []
