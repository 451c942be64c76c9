"""What the documents show is what there is: their commands, rules, metrics and files."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autoheal import rulefile
from autoheal.adapters.clock import SystemClock
from autoheal.cli import commands
from autoheal.telemetry import Telemetry
from parts import clean_environment

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/design.md", "docs/lint.md"]
DOCUMENTS += ["docs/rule-tests.md", "docs/rules.md", "docs/settings.md"]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(document: str, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall((ROOT / document).read_text()) if kind == language]


def command_lines() -> list[str]:
    found = []
    for document in DOCUMENTS:
        for body in blocks(document, "console"):
            found += [line.removeprefix("$ ") for line in body.splitlines() if line[:2] == "$ "]
    return found


def autoheal_lines() -> list[list[str]]:
    calls = [call.strip() for line in command_lines() for call in line.split("&&")]
    prefix = ".venv/bin/autoheal "
    return [shlex.split(call.removeprefix(prefix)) for call in calls if call.startswith(prefix)]


def test_the_quick_start_shows_it_then_checks_and_runs() -> None:
    assert [words[0] for words in autoheal_lines()][:4] == ["demo", "check", "run", "status"]


def test_the_recording_of_the_demo_is_how_it_ends() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "autoheal", "demo", "--speed", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    ).stdout
    (recording,) = blocks("README.md", "text")
    assert recording.startswith("Incidents\n")
    assert shown.endswith(recording)


@pytest.mark.parametrize("words", autoheal_lines(), ids=" ".join)
def test_each_autoheal_command_shown_takes_the_options_shown(words: list[str]) -> None:
    name, *arguments = words
    command = commands.get_command(None, name)  # type: ignore[arg-type]  # no context needed here
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= options


def test_the_check_that_the_readme_shows_passes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoheal", "check", "rules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("body", blocks("README.md", "yaml"))
def test_the_rules_in_the_readme_load(body: str) -> None:
    assert rulefile.parse({"README.md": body.encode()}).rules


def test_every_metric_named_in_the_readme_exists() -> None:
    families = Telemetry(SystemClock()).registry.collect()
    exported = {f.name + ("_total" if f.type == "counter" else "") for f in families}
    named = set(re.findall(r"autoheal_[a-z_]+(?=`|\{)", README))
    assert named
    assert named <= exported


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_script_shown_exists_and_explains_itself() -> None:
    scripts = {line.split()[0] for line in command_lines() if line.startswith(("tests/", ".ci/"))}
    assert scripts
    for script in scripts:
        assert (ROOT / script).stat().st_mode & 0o111, script


def test_every_benchmark_shown_is_there() -> None:
    shown = [line for line in command_lines() if "benchmarks" in line]
    assert len(shown) == len(list((ROOT / "tests/benchmarks").glob("*.py")))
    for line in shown:
        (name,) = re.findall(r"benchmarks[./](\w+)", line)
        assert (ROOT / f"tests/benchmarks/{name}.py").exists()


def test_the_tests_command_is_the_one_that_ci_runs() -> None:
    shown = next(line for line in command_lines() if line.endswith(".venv/bin/pytest"))
    ci = (ROOT / ".ci/run").read_text()
    assert ci.splitlines()[-1] == shown
