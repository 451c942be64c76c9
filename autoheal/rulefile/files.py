"""Which files a path means, and their bytes."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from autoheal.rulefile.mistakes import Mistake, Notes
from autoheal.rulefile.tree import TEXT_BYTES_MAX

_SUFFIXES = (".yaml", ".yml")
_TEST_SUFFIXES = (".test.yaml", ".test.yml")


def read_texts(paths: Sequence[Path], notes: Notes) -> dict[str, bytes]:
    """The bytes of the rule files at these paths, by name as given; what cannot be read is noted.

    No more is read of a file than it takes to see that it is too large.
    """
    texts: dict[str, bytes] = {}
    for path in paths:
        for file in _files(path, notes):
            try:
                texts[str(file)] = _read(file)
            except OSError as error:
                notes.add(_unreadable(file, error))
    return texts


def _read(file: Path) -> bytes:
    # A FIFO or a device could wait for ever.
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError("it is not a regular file")
    with file.open("rb") as opened:
        return opened.read(TEXT_BYTES_MAX + 1)


def _files(path: Path, notes: Notes) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(file for file in path.iterdir() if _is_rule_file(file))
    except OSError as error:
        notes.add(_unreadable(path, error))
        return []
    if not found:
        notes.add(Mistake(str(path), 1, 1, "no rule file in this directory", "name one *.yaml"))
    return found


def _unreadable(path: Path, error: OSError) -> Mistake:
    return Mistake(str(path), 1, 1, f"cannot be read: {error.strerror or error}")


def _is_rule_file(file: Path) -> bool:
    # Hidden files are an editor's or a config mount's own.
    hidden = file.name.startswith(".")
    return file.suffix in _SUFFIXES and not file.name.endswith(_TEST_SUFFIXES) and not hidden
