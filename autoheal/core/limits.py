"""The numbers that hold decisions back, each with a cautious default; most are settings."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations in ms, shares in percent. Counts of actions are per max_mode, over all services.

    Pending rules survive `missed_ticks` in a row, and a gap of `handover_ms`: a change of leader.
    Rules that heal or escalate wait for `group_wait_ms` from their first TRUE, so that a common
    cause shows before its first consequence is treated alone. More than `outage_services`, and more
    than `outage_percent` of all, sick within `outage_window_ms` is an outage. A node is saturated
    when its CPU or memory is used to `saturated_percent` on average over `saturated_window_ms`. A
    task is stable once it has run for `stable_ms`; an incident is over once nothing has been amiss
    for `recovery_ms`.
    """

    step_ms: int = 5 * SECOND_MS
    deploy_hold_ms: int = 10 * MINUTE_MS
    operator_hold_ms: int = 5 * MINUTE_MS
    node_hold_ms: int = 10 * MINUTE_MS
    warm_up_ms: int = 5 * MINUTE_MS
    group_wait_ms: int = 30 * SECOND_MS
    settle_timeout_ms: int = 10 * MINUTE_MS
    decision_expiry_ms: int = 1 * MINUTE_MS
    retry_ms: int = 15 * SECOND_MS
    inventory_stale_ms: int = 1 * MINUTE_MS
    breaker_failures: int = 3
    breaker_cool_off_ms: int = 1 * MINUTE_MS
    actions_at_once: int = 1
    actions_per_hour: int = 5
    outage_services: int = 3
    outage_percent: int = 20
    outage_window_ms: int = 5 * MINUTE_MS
    saturated_percent: int = 90
    saturated_window_ms: int = 2 * MINUTE_MS
    stable_ms: int = 1 * MINUTE_MS
    recovery_ms: int = 1 * MINUTE_MS
    missed_ticks: int = 3
    handover_ms: int = 0
