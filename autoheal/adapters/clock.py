"""The one place that reads clocks and makes identities."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000


def wall_time() -> datetime:
    """The present moment, for schedulers that want one."""
    return datetime.now(UTC)


def boot_id() -> str:
    """A name for one life of one writer: 64 random bits."""
    return secrets.token_hex(8)
