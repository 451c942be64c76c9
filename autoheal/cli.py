"""The command line. Nothing heavy is imported before a command runs: --help answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoheal import __version__
from autoheal.errors import UserError

if TYPE_CHECKING:
    from autoheal.settings import Settings

Command = Callable[..., None]

USER_ERROR = 2


def main() -> None:
    """Run the command line; a mistake of the user's is told in lines, not as a traceback."""
    try:
        commands.main(prog_name="autoheal", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        for line in str(error).splitlines():
            click.echo(f"autoheal: {line}", err=True)
        sys.exit(USER_ERROR)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="autoheal")
def commands() -> None:
    """A deterministic control loop for Docker Swarm.

    It watches containers, evaluates rules and scales or escalates; in dry run, unless told
    otherwise, it only says what it would do. Settings come from AUTOHEAL_* variables, a file
    (--config) and /run/secrets.
    """


def _settings_options(command: Command) -> Command:
    """The options that every long-running command takes; each overrides the setting of its name."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="Settings file (YAML)."),
        click.option("--store-url", help="The Redis or Valkey to use, redis://HOST:PORT."),
        click.option("--listen", help="Where to serve /metrics, HOST:PORT, or off."),
        click.option("--log-level", help="debug, info, warning or error."),
    ):
        command = option(command)
    return command


def _settings(config: Path | None, **overrides: str | None) -> Settings:
    from autoheal.settings import load_settings  # noqa: PLC0415  # keeps --help fast

    given = {name: value for name, value in overrides.items() if value is not None}
    return load_settings(os.environ, overrides=given, file=config)


_mode_option = click.option(
    "--mode", help="dry-run (the default) or live: whether services are really changed."
)
_rules_option = click.option("--rules", help="Rule files or directories, separated by commas.")
_docker_option = click.option(
    "--docker-url", help="The Docker engine, unix:///var/run/docker.sock."
)


@commands.command()
@_settings_options
@_mode_option
@_rules_option
@_docker_option
@click.option("--data-directory", help="Where the embedded store and the audit file live.")
def run(config: Path | None, **overrides: str | None) -> None:
    """Everything in one process, against the local engine, which must be a Swarm manager.

    Without --store-url it keeps its memory in an embedded store.
    """
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    app.run_all(settings)


@commands.command()
@_settings_options
@_docker_option
def collector(config: Path | None, **overrides: str | None) -> None:
    """Sample this node's containers and follow its events; one per node."""
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    app.run_collector(settings)


@commands.command()
@_settings_options
@_rules_option
def engine(config: Path | None, **overrides: str | None) -> None:
    """Evaluate the rules and decide; several may run, one leads."""
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    app.run_engine(settings)


@commands.command()
@_settings_options
@_mode_option
@_docker_option
def executor(config: Path | None, **overrides: str | None) -> None:
    """Carry decisions out, or in dry run say what would be done; on a manager."""
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    app.run_executor(settings)


def _memory_options(command: Command) -> Command:
    """The options that tell where a running autoheal keeps its memory."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="Settings file (YAML)."),
        click.option("--store-url", help="The Redis or Valkey it uses, redis://HOST:PORT."),
        click.option("--data-directory", help="Where `run` keeps its embedded store."),
    ):
        command = option(command)
    return command


@commands.command()
@_memory_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(config: Path | None, *, as_json: bool, **overrides: str | None) -> None:
    """Services, rule states, last decisions, who leads, and how far back the memory reaches."""
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    click.echo(app.read_status(settings, as_json=as_json), nl=False)


@commands.command()
@_memory_options
@click.argument("service")
@click.argument("rule", default="")
def reset(config: Path | None, service: str, rule: str, **overrides: str | None) -> None:
    """Let autoheal act on SERVICE again by RULE, or by all rules.

    It ends the quarantine of a rule that did not help, and clears what counts against its limit.
    """
    settings = _settings(config, **overrides)
    from autoheal import app  # noqa: PLC0415  # keeps --help fast

    click.echo(app.reset(settings, service, rule))


@commands.command()
@click.argument("rules", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Exit with code 1 if there is a warning.")
def check(rules: tuple[Path, ...], *, strict: bool) -> None:
    """Read rule files or directories and report every mistake with its place.

    Rules without a mistake that may not do what was meant get a warning each.
    """
    from autoheal import lint, rulefile  # noqa: PLC0415  # keeps --help fast

    loaded = rulefile.load(rules)
    warnings = lint.lines(lint.lint(loaded.rules, loaded.sources), loaded.places)
    counted = f"{_count(len(loaded.rules.rules), 'rule')} in {_count(len(loaded.texts), 'file')}"
    verdict = f"ok, {_count(len(warnings), 'warning')}" if warnings else "ok"
    for line in (f"{counted}: {verdict}", *warnings):
        click.echo(line)
    if strict and warnings:
        sys.exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


@commands.command()
def schema() -> None:
    """Print the JSON Schema of rule files, for editors."""
    from autoheal.rulefile import schema as rule_files  # noqa: PLC0415  # keeps --help fast

    click.echo(rule_files.text(), nl=False)


@commands.command()
@click.option("--scenario", default="tour", show_default=True, help="tour, outage or day.")
@click.option("--rules", help="Rule files or directories, separated by commas.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same decisions.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Simulated seconds a second; 0: as fast as it goes.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def demo(scenario: str, rules: str | None, seed: int, speed: float, *, as_json: bool) -> None:
    """The real loop on a simulated Swarm, in simulated time.

    The tour is an hour in a minute, first in dry run, then live. Needs no Docker and no store, and
    leaves nothing behind. Without --rules it shows those that ship; AUTOHEAL_* variables and
    settings files do not count.
    """
    from autoheal.app.demo import Request, show  # noqa: PLC0415  # keeps --help fast

    sys.exit(show(Request(scenario, seed, speed, rules, as_json)))


@commands.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def test(paths: tuple[Path, ...]) -> None:
    """Play the rule tests (*.test.yaml) in files or directories; rules/ if none is named.

    Needs no Docker and no store. Exit code 1: a test failed; 2: there is a mistake in a file.
    """
    from autoheal import ruletest  # noqa: PLC0415  # keeps --help fast

    report = ruletest.run(paths or (Path("rules"),))
    click.echo(report, nl=False)
    sys.exit(0 if report.passed else 1)
