"""Running commands and waiting, with errors that say what happened."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

COMMAND_TIMEOUT_SECONDS = 60.0
ERROR_TEXT_CHARACTERS_MAX = 2000


class RigError(RuntimeError):
    """The rig could not do what it was asked to."""


class RigTimeoutError(RigError):
    """Something that was waited for did not happen in time."""


def run(
    *arguments: str,
    timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return its standard output; a failure carries its error text."""
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{' '.join(arguments)}: no end after {timeout_seconds:g} s"
        raise RigTimeoutError(message) from error
    except OSError as error:
        message = f"{arguments[0]}: {error.strerror}"
        raise RigError(message) from error
    if done.returncode != 0:
        text = (done.stderr.strip() or done.stdout.strip())[-ERROR_TEXT_CHARACTERS_MAX:]
        message = f"{' '.join(arguments)}: exit {done.returncode}: {text}"
        raise RigError(message)
    return done.stdout


def wait_for(
    condition: Callable[[], T],
    timeout_seconds: float,
    what: str,
    *,
    interval_seconds: float = 0.1,
) -> T:
    """Poll until the condition is truthy and return its value.

    A RigError of the condition counts as 'not yet': a manager without a leader answers with one.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        last: object
        try:
            value = condition()
        except RigError as error:
            last = error
        else:
            if value:
                return value
            last = value
        if time.monotonic() >= deadline:
            message = f"waited {timeout_seconds:g} s for {what}; last seen: {last!r}"
            raise RigTimeoutError(message)
        time.sleep(interval_seconds)
