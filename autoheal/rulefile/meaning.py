"""The hash of a rule and of a rule set: the digest of what it means, as canonical JSON.

Equal meaning gives equal bytes in any process; every field of a rule is part of its meaning, and so
are the sources that it names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from autoheal.actions.track import Track
from autoheal.core.rule import Rule, RuleSet, Source, SourceCondition, leaves
from autoheal.records import canonical, digest
from autoheal.rulefile.actions import word_of


def rule_set(rules: Iterable[Rule], sources: Iterable[Source] = ()) -> RuleSet:
    """These rules by name, each with its hash, the sources they name, and the hash of it all."""
    by_name = {source.name: source for source in sources}
    ordered = sorted(rules, key=lambda rule: rule.name)
    meanings = [_meaning(rule, by_name) for rule in ordered]
    return RuleSet(
        hash=_hash(meanings),
        rules=tuple(
            dataclasses.replace(rule, hash=_hash(meaning))
            for rule, meaning in zip(ordered, meanings, strict=True)
        ),
        sources=tuple(by_name[name] for name in sorted(set().union(*map(_sources_of, ordered)))),
    )


def _sources_of(rule: Rule) -> set[str]:
    """The names of the sources that the rule looks at."""
    found = {leaf.source for leaf in leaves(rule.when) if isinstance(leaf, SourceCondition)}
    if isinstance(rule.then, Track):
        found |= {target.source for target in rule.then.targets if target.source}
    return found


def _meaning(rule: Rule, sources: dict[str, Source]) -> dict[str, Any]:
    meaning = dataclasses.asdict(rule)
    del meaning["hash"]
    # The kind is the action's class, which its fields do not tell. Those of a condition do: each
    # kind has a field of its own, `metric`, `source`, `event` or `combinator`.
    meaning["then"]["action"] = word_of(rule.then)
    meaning["sources"] = [dataclasses.asdict(sources[name]) for name in sorted(_sources_of(rule))]
    return meaning


def _hash(meaning: object) -> str:
    return digest(canonical(meaning))
