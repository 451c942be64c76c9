"""The numbers that hold decisions back, each with a cautious default; most are settings."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_MS = 1_000
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations in ms. `actions_at_once` counts per max_mode, over all services.

    Pending rules survive `missed_ticks` in a row, and a gap of `handover_ms`: a change of leader.
    """

    step_ms: int = 5 * SECOND_MS
    deploy_hold_ms: int = 10 * MINUTE_MS
    operator_hold_ms: int = 5 * MINUTE_MS
    warm_up_ms: int = 5 * MINUTE_MS
    settle_timeout_ms: int = 10 * MINUTE_MS
    decision_expiry_ms: int = 1 * MINUTE_MS
    retry_ms: int = 15 * SECOND_MS
    inventory_stale_ms: int = 1 * MINUTE_MS
    breaker_failures: int = 3
    breaker_cool_off_ms: int = 1 * MINUTE_MS
    actions_at_once: int = 1
    missed_ticks: int = 3
    handover_ms: int = 0
