"""Checks that look at all rules and sources at once. Each yields what it says of which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from autoheal.actions import ScaleDown, ScaleUp
from autoheal.actions.track import Track
from autoheal.core.rule import Rule, RuleSet, Source
from autoheal.lint.finding import Said
from autoheal.lint.services import fit_both


@dataclass(frozen=True, slots=True)
class WholeCheck:
    """One thing to look for, and the code it goes by."""

    code: str
    look: Callable[[RuleSet, Sequence[Source]], Iterator[tuple[str, Said]]]


def _one_way_down(rules: RuleSet, _: Sequence[Source]) -> Iterator[tuple[str, Said]]:
    ups = [rule for rule in rules.rules if isinstance(rule.then, ScaleUp | Track)]
    for rule in rules.rules:
        if isinstance(rule.then, ScaleDown) and not _is_answered(rule, ups):
            yield (
                f"rule {rule.name}",
                Said(
                    "takes tasks away that no rule adds again when the load comes back",
                    "a rule with scale_up for the same services, or track",
                ),
            )


def _is_answered(down: Rule, ups: Sequence[Rule]) -> bool:
    return any(fit_both(down.match, up.match) for up in ups)


def _unused_source(rules: RuleSet, sources: Sequence[Source]) -> Iterator[tuple[str, Said]]:
    used = {source.name for source in rules.sources}
    for source in sources:
        if source.name not in used:
            yield (
                f"source {source.name}",
                Said("is never read, for no rule uses it", "use it, or remove it"),
            )


WHOLE = (
    WholeCheck("one-way-down", _one_way_down),
    WholeCheck("unused-source", _unused_source),
)
