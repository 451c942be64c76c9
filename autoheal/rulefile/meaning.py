"""The hash of a rule and of a rule set: the digest of what it means, as canonical JSON.

Equal meaning gives equal bytes in any process; every field of a rule is part of its meaning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from autoheal.core.rule import Rule, RuleSet
from autoheal.records import canonical, digest


def rule_set(rules: Iterable[Rule]) -> RuleSet:
    """These rules by name, each with its hash, and the hash of them all."""
    ordered = sorted(rules, key=lambda rule: rule.name)
    hashed = (dataclasses.replace(rule, hash=_hash(_meaning(rule))) for rule in ordered)
    return RuleSet(hash=_hash([_meaning(rule) for rule in ordered]), rules=tuple(hashed))


def _meaning(rule: Rule) -> dict[str, Any]:
    meaning = dataclasses.asdict(rule)
    del meaning["hash"]
    # The kind is the action's class, which its fields do not tell. Those of a condition do: each
    # kind has a field of its own, `metric`, `event` or `combinator`.
    meaning["then"]["action"] = rule.then.kind
    return meaning


def _hash(meaning: object) -> str:
    return digest(canonical(meaning))
