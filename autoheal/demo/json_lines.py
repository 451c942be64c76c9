"""For a program: every fact an object of JSON on a line of its own.

Every line has `type`, and all but the opening `at_ms`: milliseconds of simulated time since the
beginning. Times inside decisions and incidents are of the store's clock, as the store holds them.

| `type` | keys |
|---|---|
| `opening` | those of `story.Opening` |
| `happened` | `words` |
| `went_live` | - |
| `decided` | `decision`: those of `model.Decision`, with its `evidence` |
| `concluded` | `decision`: its id; `outcome`: those of `model.Outcome` |
| `incident_ended` | `incident`: those of `model.Incident`, with its `deeds` |
| `glance` | `mode`, `replicas`, `running`, `cpu_percent` (null: no data); at most one a minute |
| `closing` | `interrupted`; `incidents`; `decisions`: `{"decision": ..., "outcome": ... or null}` |
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TextIO

from autoheal.demo.story import (
    Closing,
    Concluded,
    Decided,
    Fact,
    Glance,
    Happened,
    IncidentEnded,
    Opening,
    WentLive,
)

MINUTE_MS = 60_000
_TYPES = {
    Happened: "happened",
    WentLive: "went_live",
    Decided: "decided",
    Concluded: "concluded",
    IncidentEnded: "incident_ended",
}


class JsonLines:
    """Writes the lines, each flushed; the closing is the last.

    Raises BrokenPipeError once nobody reads on.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next_glance_ms = 0

    def open(self, opening: Opening) -> None:
        """The first line."""
        body = dataclasses.asdict(opening)
        self._write("opening", {**body, "rules": list(opening.rules)})

    def tell(self, fact: Fact) -> None:
        """One line."""
        body = dataclasses.asdict(fact)
        if isinstance(fact, Concluded):
            body["decision"] = fact.decision.id
        self._write(_TYPES[type(fact)], body)

    def glance(self, glance: Glance) -> None:
        """The first of every minute."""
        if glance.at_ms >= self._next_glance_ms:
            self._next_glance_ms = glance.at_ms - glance.at_ms % MINUTE_MS + MINUTE_MS
            self._write("glance", dataclasses.asdict(glance))

    def close(self, closing: Closing) -> None:
        """The last line."""
        body = {
            "at_ms": closing.at_ms,
            "interrupted": closing.interrupted,
            "incidents": [dataclasses.asdict(incident) for incident in closing.incidents],
            "decisions": [
                {
                    "decision": dataclasses.asdict(decision),
                    "outcome": None if outcome is None else dataclasses.asdict(outcome),
                }
                for decision, outcome in closing.decisions
            ],
        }
        self._write("closing", body)

    def _write(self, kind: str, body: dict[str, Any]) -> None:
        self._out.write(json.dumps({"type": kind, **body}, allow_nan=False) + "\n")
        self._out.flush()
