"""Which test files a path means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoheal.rulefile.files import read_texts
from autoheal.rulefile.mistakes import Mistake, Notes
from autoheal.ruletest.reader import SUFFIXES


def read_tests(paths: Sequence[Path], notes: Notes) -> dict[Path, bytes]:
    """The bytes of the test files at these paths; what cannot be read is noted.

    A directory is searched to its end; hidden files and directories are left out.
    """
    found: list[Path] = []
    for path in paths:
        within = _within(path) if path.is_dir() else [path]
        if not within:
            notes.add(Mistake(str(path), 1, 1, "no rule test here", "name one *.test.yaml"))
        found += within
    texts = read_texts(list(dict.fromkeys(found)), notes)
    return {Path(name): text for name, text in texts.items()}


def _within(directory: Path) -> list[Path]:
    return sorted(
        file
        for file in directory.rglob("*")
        if file.name.endswith(SUFFIXES) and not _is_hidden(file.relative_to(directory))
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
