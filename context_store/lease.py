"""Leases and their fencing counters.

Two keys for each name. `epoch:NAME` is a counter without expiry: it only ever rises by one, in the
same transaction that gives the lease away. `lease:NAME` holds "HOLDER:EPOCH" and expires.

    free or expired   -> WATCH both, MULTI, INCR epoch, SET lease PX ttl, EXEC
    held by ourselves -> the same. Either our last acquire lost its reply, or a second process took
                         our name; a new epoch is right for both, the older one is fenced
    held by another   -> None

So no two leases share an epoch, and the one with the highest is the only one that can commit. What
is watched is both keys: a transaction that reaches the server late (a server that was frozen and
woke) finds them changed and does nothing, and one that finds them unchanged was still right.

To renew and to release are scripts of one write each: a full Redis refuses every command that is
queued in a MULTI, harmless ones too, and a leader must stay the leader of a full store to trim it.

What the store's own clock does to a lease (a jump ends it early or stretches it) cannot be seen by
the holder: hence the holder's monotonic deadline, and the epoch, which does not depend on time.
"""

from collections.abc import Callable
from dataclasses import replace

from .connection import Connector, Session, as_int, as_text, settled
from .entries import Lease

# A script that fails midway keeps what it did; with one write, its last step, there is no midway.
_IF_OURS = """
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('GET', KEYS[2]) == ARGV[2] then
    return redis.call({write})
end
return 0
"""
_EXTEND = _IF_OURS.format(write="'PEXPIRE', KEYS[1], ARGV[3]")
_END = _IF_OURS.format(write="'DEL', KEYS[1]")


class Leases:
    """The leases below one prefix."""

    def __init__(
        self, connector: Connector, *, prefix: str, monotonic: Callable[[], float]
    ) -> None:
        self._connector = connector
        self._prefix = prefix
        self._monotonic = monotonic

    def acquire(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """Return a new lease, or None if another holder has it."""
        if not holder:
            raise ValueError("a holder has a name")

        def attempt(session: Session) -> Lease | None:
            asked_at = self._monotonic()
            found, epoch = self._watch(session, name)
            if found is not None and found.rpartition(":")[0] != holder:
                return None
            value = f"{holder}:{epoch + 1}"
            session.transaction(
                [
                    ("INCR", self.epoch_key(name)),
                    ("SET", self._lease_key(name), value, "PX", milliseconds(ttl_s)),
                ]
            )
            return Lease(name, holder, epoch + 1, asked_at + ttl_s)

        return settled(self._connector, attempt)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """Return the lease with a later deadline, or None if it is lost."""
        asked_at = self._monotonic()
        extended = self._if_ours(_EXTEND, lease, milliseconds(ttl_s))
        return replace(lease, deadline=asked_at + ttl_s) if extended else None

    def release(self, lease: Lease) -> None:
        """End the lease if it is still ours; the epoch stays."""
        self._if_ours(_END, lease)

    def holder(self, name: str) -> str | None:
        """Return who holds the lease, None if nobody does."""
        reply = self._connector.call("GET", self._lease_key(name))
        return None if reply is None else as_text(reply).rpartition(":")[0]

    def epoch(self, name: str) -> int:
        """Return the epoch of the last lease given, 0 if there was none."""
        reply = self._connector.call("GET", self.epoch_key(name))
        return 0 if reply is None else as_int(reply)

    def epoch_key(self, name: str) -> str:
        """Return the key of the fencing counter."""
        return f"{self._prefix}epoch:{name}"

    def _lease_key(self, name: str) -> str:
        return f"{self._prefix}lease:{name}"

    def _watch(self, session: Session, name: str) -> tuple[str | None, int]:
        keys = (self._lease_key(name), self.epoch_key(name))
        value, epoch = session.watch(keys, [("GET", key) for key in keys])
        return (None if value is None else as_text(value), 0 if epoch is None else as_int(epoch))

    def _if_ours(self, script: str, lease: Lease, *arguments: int) -> bool:
        keys = (self._lease_key(lease.name), self.epoch_key(lease.name))
        value = f"{lease.holder}:{lease.epoch}"
        done = self._connector.call("EVAL", script, 2, *keys, value, lease.epoch, *arguments)
        return as_int(done) == 1


def milliseconds(seconds: float) -> int:
    """Return a time to live for the store, at least 1 ms."""
    return max(1, round(seconds * 1000))
