"""Rule tests: what the rules of a file decide in a small made-up world, beside what they should.

    x.test.yaml -> reader -> Scenario -> world (stream entries) -> play (fold, decide) -> verdict

There is no Docker and no store, and nothing that decides is made up: the entries are those that
collectors and executors write, and the core that folds them and decides is the engine's. A test is
deterministic: its clock is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoheal import rulefile
from autoheal.core.rule import RuleSet
from autoheal.rulefile.mistakes import Notes, RuleFileError
from autoheal.ruletest.files import read_tests
from autoheal.ruletest.play import play
from autoheal.ruletest.reader import Reader
from autoheal.ruletest.verdict import Result, judge

__all__ = ["Report", "run"]


@dataclass(frozen=True, slots=True)
class Report:
    """All tests of some files, in order."""

    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not any(result.failures for result in self.results)

    def __str__(self) -> str:
        """One line per test, the differences below the failed ones, and a summary."""
        lines: list[str] = []
        for file, results in self._by_file().items():
            lines.append(file)
            for result in results:
                lines.append(_line(result))
                lines += [f"        {line}" for line in result.failures]
        return "\n".join([*lines, self._summary()]) + "\n"

    def _by_file(self) -> dict[str, list[Result]]:
        files: dict[str, list[Result]] = {}
        for result in self.results:
            files.setdefault(result.file, []).append(result)
        return files

    def _summary(self) -> str:
        failed = sum(bool(result.failures) for result in self.results)
        counts = _counted(len(self.results), "test"), _counted(len(self._by_file()), "file")
        return f"{' in '.join(counts)}: {f'{failed} failed' if failed else 'ok'}"


def _line(result: Result) -> str:
    if result.failures:
        return f"  FAIL  {result.name}   ({result.file}:{result.line})"
    return f"  ok    {result.name}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def run(paths: Sequence[Path]) -> Report:
    """Play the tests of these files, and of the *.test.yaml files below these directories.

    Raises RuleFileError with every mistake in the tests and in the rules that they name; then
    nothing is played.
    """
    notes = Notes()
    reader = Reader(notes, _Loader(notes).load)
    for file, text in read_tests(paths, notes).items():
        reader.read(file, text)
    try:
        notes.raise_if_any()
    except RuleFileError as error:
        # What a file says once is read once for each of its tests.
        raise RuleFileError(dict.fromkeys(error.mistakes)) from None
    return Report(tuple(judge(play(scenario)) for scenario in reader.scenarios))


class _Loader:
    """Loads each set of rule files once."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._loaded: dict[tuple[Path, ...], RuleSet | None] = {}

    def load(self, paths: tuple[Path, ...]) -> RuleSet | None:
        """The rules of these files; None if there is a mistake in them."""
        if paths not in self._loaded:
            try:
                self._loaded[paths] = rulefile.load(paths).rules
            except RuleFileError as error:
                for mistake in error.mistakes:
                    self._notes.add(mistake)
                self._loaded[paths] = None
        return self._loaded[paths]
