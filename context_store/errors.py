"""What can go wrong with the store, split by what the caller can do about it.

Every failure of the client library arrives here and leaves as one of three kinds, so that nobody
above has to know the client's own exceptions:

* StoreUnavailable: try again later. Nothing is known of the last write: it may have happened.
* StoreFull: try again later, the last write was refused.
* StoreRefused: trying again is pointless until a person changes something.
"""

import ssl

from redis import exceptions as client


class StoreUnavailable(ConnectionError):  # noqa: N818  # a state of the world, not a mistake
    """The store is away, silent, loading, read-only or failing; the last write may have happened.

    To call again with the same arguments is right for every operation of this library.
    """


class StoreFull(StoreUnavailable):
    """The store reached its memory limit and refused the write: nothing was written."""


class StoreRefused(ValueError):  # noqa: N818  # as above
    """What was asked will not work as things stand; the text says in one line what to do.

    It never contains the password.
    """


# First words of error replies that pass with time or with a failover.
_PASSING_CODES = frozenset(
    {
        "BUSY", "CLUSTERDOWN", "FAILOVER", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS",
        "READONLY", "TRYAGAIN", "UNBLOCKED", "UNKILLABLE",
    }
)  # fmt: skip

_UNASKED = (
    "something arrived before a question was asked "
    "(too many clients, protected mode, or not a Redis)"
)


def one_line(error: BaseException) -> str:
    """Return the error's text on one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def translate(error: client.RedisError, where: str) -> StoreUnavailable | StoreRefused:
    """Return our own error for one of the client library's; `where` is the URL, without secrets."""
    if isinstance(error, client.AuthenticationError | client.NoPermissionError):
        return _not_allowed(error, where)
    if isinstance(error, client.InvalidResponse):
        return StoreRefused(
            f"{where} does not speak the Redis protocol; check the host and the port"
        )
    if isinstance(error, client.MovedError | client.AskError | client.ClusterCrossSlotError):
        return StoreRefused(
            f"{where} is part of a Redis Cluster; use a single server, with or without replicas"
        )
    if isinstance(error, client.ConnectionError | client.TimeoutError):
        return _not_reached(error, where)
    return _answered(error, where)


def _not_allowed(error: client.RedisError, where: str) -> StoreRefused:
    text = one_line(error)
    if isinstance(error, client.NoPermissionError):
        return StoreRefused(f"{where} does not permit this; extend the user's ACL: {text}")
    if "without any password configured" in text or "no password is set" in text:
        return StoreRefused(
            f"{where} has no password set, but one was given; set it there or leave it out here"
        )
    if "Authentication required" in text:
        return StoreRefused(f"{where} asks for a password and none was given; configure one")
    return StoreRefused(f"{where} did not accept the password; check the user and the password")


def _not_reached(error: client.RedisError, where: str) -> StoreUnavailable | StoreRefused:
    # The client library wraps what the socket said and keeps it as the context only.
    cause = error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreRefused(
            f"{where} shows a certificate that is not trusted; "
            f"add ssl_ca_certs to the URL: {one_line(cause)}"
        )
    if isinstance(cause, PermissionError):
        return StoreRefused(f"{where} may not be opened by this user; change the socket's mode")
    text = one_line(error)
    if text in {"Connection not ready", "Connection has data"}:
        text = _UNASKED
    return StoreUnavailable(f"the store at {where} does not answer: {text}")


def _answered(error: client.RedisError, where: str) -> StoreUnavailable | StoreRefused:
    text = one_line(error)
    if isinstance(error, client.OutOfMemoryError):
        return StoreFull(f"the store at {where} is full and refused the write: {text}")
    # The client library strips the code from the text of the errors that it has classes for.
    code = getattr(error, "status_code", None) or text.split(" ", 1)[0]
    if code in _PASSING_CODES or isinstance(
        error, client.ReadOnlyError | client.TryAgainError | client.ClusterDownError
    ):
        return StoreUnavailable(f"the store at {where} cannot serve now: {text}")
    return StoreRefused(f"{where} cannot do this: {text}")
