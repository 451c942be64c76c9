"""Rule files: YAML as people write it -> the rules that core evaluates, or every mistake at once.

    files -> bytes -> tree (nodes with positions) -> Rule (ms, floats, enums; nothing left to parse)

* `tree` reads one YAML document. What could make a file mean something other than it shows
  (aliases, merge keys, tags, other YAML versions) is refused there.
* `fields` reads one map: which keys it may have, and the kind of value under each.
* `language` says which maps there are, and builds the rules from them; `conditions` and `actions`
  do so for a rule's `when` and `then`.
* A mistake is noted and reading goes on, with a stand-in for the value. No stand-in is ever seen:
  if anything was noted, RuleFileError is raised with all of it. One slip of the writer gives one
  line: what follows from a noted mistake is not noted again.

A rule set has the same hash for the same meaning: comments, the order of rules and how they are
spread over files make no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoheal.core.rule import RuleSet
from autoheal.rulefile.files import read_texts
from autoheal.rulefile.language import Reader
from autoheal.rulefile.meaning import rule_set
from autoheal.rulefile.mistakes import Mistake, Notes, RuleFileError

__all__ = ["Loaded", "Mistake", "RuleFileError", "load", "parse"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rules, and the texts they were read from by file name, as they were on disk."""

    rules: RuleSet
    texts: Mapping[str, bytes]


def load(paths: Sequence[Path]) -> Loaded:
    """The rules of these files, and of the *.yaml and *.yml files of these directories.

    A directory is not searched deeper; its hidden files and *.test.yaml are left out. Raises
    RuleFileError with every mistake in every file.
    """
    notes = Notes()
    texts = read_texts(paths, notes)
    return Loaded(_rules(texts, notes), texts)


def parse(texts: Mapping[str, bytes]) -> RuleSet:
    """The rules of these texts, by file name. Raises RuleFileError with every mistake."""
    return _rules(texts, Notes())


def _rules(texts: Mapping[str, bytes], notes: Notes) -> RuleSet:
    reader = Reader(notes)
    for file, text in texts.items():
        reader.read(file, text)
    notes.raise_if_any()
    return rule_set(reader.rules)
