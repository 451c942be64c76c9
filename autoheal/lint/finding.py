"""One warning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Said:
    """What happens and why, and what to write instead."""

    what: str
    instead: str


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What is said of a `subject` ('rule cpu-high', 'source jobs'), and the code of the check."""

    subject: str
    said: Said
    code: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.subject}: {self.said.what} ({self.said.instead}) [{self.code}]"
