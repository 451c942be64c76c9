"""Rule files: YAML as people write it -> the rules that core evaluates, or every mistake at once.

    files -> bytes -> tree (nodes with positions) -> Rule (ms, floats, enums; nothing left to parse)

* `tree` reads one YAML document. What could make a file mean something other than it shows
  (aliases, merge keys, tags, other YAML versions) is refused there.
* `fields` reads one map: which keys it may have, and the kind of value under each.
* `language` says which maps there are, and builds the rules from them; `conditions`, `actions` (and
  `tracking`), `matching` and `schedules` do so for a rule's `when`, `then`, `match` and `schedule`,
  and `sources` for the figures from elsewhere.
* `schema` says the same to editors, as JSON Schema, from the same shapes.
* A mistake is noted and reading goes on, with a stand-in for the value. No stand-in is ever seen:
  if anything was noted, RuleFileError is raised with all of it. One slip of the writer gives one
  line: what follows from a noted mistake is not noted again.

A rule set has the same hash for the same meaning: comments, the order of rules and how they are
spread over files make no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoheal.core.rule import RuleSet, Source
from autoheal.rulefile.files import read_texts
from autoheal.rulefile.language import Reader
from autoheal.rulefile.meaning import rule_set
from autoheal.rulefile.mistakes import Mistake, Notes, RuleFileError

__all__ = ["Loaded", "Mistake", "RuleFileError", "load", "parse"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rules, and the texts they were read from by file name, as they were on disk.

    `sources` are all that the files define, by name, also those that no rule names. `places` tells
    where each `rule NAME` and `source NAME` stands, as FILE:LINE:COLUMN.
    """

    rules: RuleSet
    texts: Mapping[str, bytes]
    sources: tuple[Source, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)


def load(paths: Sequence[Path]) -> Loaded:
    """The rules of these files, and of the *.yaml and *.yml files of these directories.

    A directory is not searched deeper; its hidden files and *.test.yaml are left out. Raises
    RuleFileError with every mistake in every file.
    """
    notes = Notes()
    texts = read_texts(paths, notes)
    reader = Reader(notes)
    rules, sources = _read(texts, reader, notes)
    return Loaded(rules, texts, sources, reader.places)


def parse(texts: Mapping[str, bytes]) -> RuleSet:
    """The rules of these texts, by file name. Raises RuleFileError with every mistake."""
    notes = Notes()
    rules, _ = _read(texts, Reader(notes), notes)
    return rules


def _read(
    texts: Mapping[str, bytes], reader: Reader, notes: Notes
) -> tuple[RuleSet, tuple[Source, ...]]:
    for file, text in texts.items():
        reader.open(file, text)
    rules = reader.rules()
    notes.raise_if_any()
    sources = sorted(reader.sources, key=lambda source: source.name)
    return rule_set(rules, sources), tuple(sources)
