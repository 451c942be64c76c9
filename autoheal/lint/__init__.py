"""What a rule set says that its writer may not have meant: warnings, never mistakes.

    RuleSet, sources -> findings -> lines

Each check is a function that looks at one rule (`single`), at two that may look at the same service
(`pairs`), or at the whole set (`whole`), and says in one sentence what happens and what to write
instead. A check is silent where it cannot tell; where two patterns may mean the same service
(`globs`) it says 'may'. docs/lint.md gives the reason for each code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from autoheal.core.rule import Rule, RuleSet, Source
from autoheal.lint.finding import Finding
from autoheal.lint.pairs import PAIRS
from autoheal.lint.single import SINGLE
from autoheal.lint.whole import WHOLE

__all__ = ["CODES", "Finding", "lines", "lint"]

CODES = tuple(sorted({check.code for check in (*SINGLE, *PAIRS, *WHOLE)}))
"""What stands in brackets at the end of a line, for all checks."""


def lint(rules: RuleSet, sources: Sequence[Source] = ()) -> list[Finding]:
    """All findings, in the order of the rules; `sources` are all that the files define."""
    spans = {source.name: source.every_ms for source in (*rules.sources, *sources)}
    found = [
        Finding(f"rule {rule.name}", said, check.code)
        for rule in rules.rules
        for check in SINGLE
        for said in check.look(rule, spans)
    ]
    found += _of_pairs(rules.rules)
    found += [
        Finding(subject, said, check.code)
        for check in WHOLE
        for subject, said in check.look(rules, sources)
    ]
    return sorted(dict.fromkeys(found))


def _of_pairs(rules: Sequence[Rule]) -> Iterable[Finding]:
    for one, other in itertools.permutations(rules, 2):
        for check in PAIRS:
            said = check.look(one, other)
            if said:
                yield Finding(f"rule {one.name}", said, check.code)


def lines(findings: Iterable[Finding], places: Mapping[str, str]) -> list[str]:
    """One line for each finding, by place; `places` are FILE:LINE:COLUMN by `Finding.subject`.

    What has no place comes first, and is known by its name alone.
    """
    told = [(places.get(finding.subject, ""), finding) for finding in findings]
    told.sort(key=lambda each: (_order(each[0]), each[1]))
    return [f"{place}: {finding}" if place else str(finding) for place, finding in told]


def _order(place: str) -> tuple[str, int, int]:
    if not place:
        return "", 0, 0
    file, line, column = place.rsplit(":", 2)
    return file, int(line), int(column)
