"""What can go wrong, split by whose fault it is: the user's input, the remote, ourselves.

Every error that a person sees is one line: what is wrong, where, and what to do about it.
"""


class AutohealError(Exception):
    """Any error of this product."""


class UserError(AutohealError):
    """The person can mend it: a setting, a rule file, a missing engine. Exit code 2."""


class RemoteError(AutohealError):
    """Another system failed us: Docker, Alertmanager. We hold still and try again."""


class RemoteUnreachable(RemoteError):  # noqa: N818  # reads as the state of the remote
    """No answer came: whether the remote acted on the request is unknown."""


class RemoteRefused(RemoteError):  # noqa: N818  # likewise
    """The remote answered, and said no.

    `status` is its HTTP status, `detail` its own words.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


class BadRecordError(AutohealError):
    """Bytes in the store are not what a writer of ours would have written."""
