"""How it ended: which decision belongs to which incident, in words for a table."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoheal.actions import ACTIONS
from autoheal.demo import words
from autoheal.demo.story import Closing
from autoheal.model import Decision, Incident, IncidentEnd, Outcome

TIMES = ("detect", "act", "recover")
STILL_OPEN = "still open"

Conclusion = tuple[Decision, Outcome | None]


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """Decisions that are alike in all that is said here, and how many they are."""

    about: str
    deed: str
    rule: str
    outcome: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One service's trouble; `times` are those of TIMES, from the first evidence.

    Where nothing was done but to tell people, that is the act.
    """

    service: str
    seen: str
    decisions: tuple[DecisionRow, ...]
    end: str
    times: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Summary:
    """What the closing tables hold; `others` are decisions that belong to no incident."""

    incidents: tuple[IncidentRow, ...]
    others: tuple[DecisionRow, ...]
    counts: str


def summarise(closing: Closing) -> Summary:
    """Every decision beside the incidents it belongs to. That a page is over is said at its row."""
    pages = _Pages(closing.decisions)
    told = [(d, o) for d, o in closing.decisions if not words.is_page(d) or words.begins_page(d)]
    owned: dict[str, list[Conclusion]] = {incident.id: [] for incident in closing.incidents}
    others: list[Conclusion] = []
    for decision, outcome in told:
        owners = [each.id for each in closing.incidents if _belongs(decision, each, closing, pages)]
        for owner in owners:
            owned[owner].append((decision, outcome))
        if not owners:
            others.append((decision, outcome))
    return Summary(
        incidents=tuple(_incident_row(each, owned[each.id], pages) for each in closing.incidents),
        others=_decision_rows(others, pages, {}),
        counts=_counts(closing, told),
    )


# which decision belongs to which incident


class _Pages:
    """When each page was over."""

    def __init__(self, decisions: Iterable[Conclusion]) -> None:
        self.begun: list[Decision] = []
        self._over_ms: dict[str, int] = {}
        open_pages: dict[tuple[str, str, str, str], str] = {}
        for decision, _ in decisions:
            if not words.is_page(decision):
                continue
            key = (decision.service, decision.rule, decision.severity, decision.max_mode)
            if words.begins_page(decision):
                self.begun.append(decision)
                open_pages[key] = decision.id
            elif key in open_pages:
                self._over_ms[open_pages.pop(key)] = decision.decided_at_ms

    def over_ms(self, page: Decision) -> int | None:
        """When it was over, None while it is not."""
        return self._over_ms.get(page.id)

    def telling_of(self, incident: Incident) -> Decision | None:
        """The page by which people were first told of the incident."""
        if incident.escalated_ms is None:
            return None
        ringing = [
            page
            for page in self.begun
            if _may_tell_of(page, incident) and self._rings(page, incident.escalated_ms)
        ]
        own = [page for page in ringing if page.service == incident.service]
        return max(own or ringing, key=lambda page: page.decided_at_ms, default=None)

    def _rings(self, page: Decision, ms: int) -> bool:
        over_ms = self.over_ms(page)
        return page.decided_at_ms <= ms and (over_ms is None or ms < over_ms)


def _may_tell_of(page: Decision, incident: Incident) -> bool:
    """A page is of a service, of a stack, or of a node or the swarm, which any service shares."""
    kind, _, name = page.service.partition(":")
    if kind == "stack":
        return incident.service_name.startswith(f"{name}_")
    return page.service in (incident.service, "swarm") or kind == "node"


def _belongs(decision: Decision, incident: Incident, closing: Closing, pages: _Pages) -> bool:
    """Whether it was made in the incident: an answer to failure, on the service, in its time."""
    if decision == pages.telling_of(incident):
        return True
    of_service = decision.service == incident.service and ACTIONS[decision.action].heals
    return of_service and incident == _going_on(decision, closing.incidents)


def _going_on(decision: Decision, incidents: Iterable[Incident]) -> Incident | None:
    """The incident of the decision's service that was going on when it was made."""
    begun = [
        each
        for each in incidents
        if each.service == decision.service and each.opened_ms <= decision.decided_at_ms
    ]
    latest = max(begun, key=lambda each: each.opened_ms, default=None)
    if latest is None or latest.recovered_ms is None:
        return latest
    return latest if decision.decided_at_ms <= latest.recovered_ms else None


# rows


def _incident_row(incident: Incident, made: Sequence[Conclusion], pages: _Pages) -> IncidentRow:
    judgements = {deed.decision: deed.judgement for deed in incident.deeds}
    acted_ms = incident.escalated_ms if incident.acted_ms is None else incident.acted_ms
    return IncidentRow(
        service=words.printable(incident.service_name),
        seen=words.printable(incident.evidence),
        decisions=tuple(_about(row, incident) for row in _decision_rows(made, pages, judgements)),
        end=STILL_OPEN if incident.end == IncidentEnd.OPEN else incident.end.upper(),
        times=(
            words.since(incident, incident.detected_ms),
            words.since(incident, acted_ms),
            words.since(incident, incident.recovered_ms),
        ),
    )


def _about(row: DecisionRow, incident: Incident) -> DecisionRow:
    """The row in its incident: whom it is about needs saying where that is not the service."""
    if row.about == words.printable(incident.service_name):
        return row
    return dataclasses.replace(row, deed=f"{row.deed} on {row.about}")


def _decision_rows(
    made: Iterable[Conclusion], pages: _Pages, judgements: Mapping[str, str]
) -> tuple[DecisionRow, ...]:
    rows = Counter(
        DecisionRow(
            about=words.printable(decision.service_name),
            deed=words.deed(decision),
            rule=words.by_rule(decision),
            outcome=_outcome(decision, outcome, pages, judgements.get(decision.id, "")),
        )
        for decision, outcome in made
    )
    return tuple(dataclasses.replace(row, times=times) for row, times in rows.items())


def _outcome(decision: Decision, outcome: Outcome | None, pages: _Pages, judgement: str) -> str:
    became = words.became(decision, outcome)
    over_ms = pages.over_ms(decision)
    if over_ms is not None:
        return f"{became}, over after {words.lasted(over_ms - decision.decided_at_ms)}"
    return f"{became}, {judgement}" if judgement else became


def _counts(closing: Closing, told: Sequence[Conclusion]) -> str:
    made = [(decision, outcome) for decision, outcome in told if not words.is_page(decision)]
    outcomes = Counter(words.became(decision, outcome) for decision, outcome in made)
    ends = Counter(incident.end for incident in closing.incidents)
    return "; ".join(
        [
            _total(len(closing.incidents), "incident", ends),
            _total(len(made), "action", outcomes),
            _total(len(told) - len(made), "page", {}),
        ]
    )


def _total(count: int, noun: str, parts: Mapping[str, int]) -> str:
    listed = ", ".join(f"{number} {what}" for what, number in parts.items())
    return f"{count} {noun}{'s' * (count != 1)}" + (f" ({listed})" if listed else "")
