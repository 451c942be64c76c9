"""A file that holds a secret, as those that Docker and Kubernetes mount."""

from __future__ import annotations

from pathlib import Path

from autoheal.errors import RemoteError

SECRET_BYTES_MAX = 65_536


def read_secret(path: str) -> str:
    """Its one line, without the space around it. Raises RemoteError, which does not repeat it."""
    try:
        with Path(path).open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX + 1).decode("ascii").strip()
    except OSError as error:
        raise RemoteError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or not secret.isprintable() or len(secret) > SECRET_BYTES_MAX:
        raise RemoteError(f"{path}: not one line of ASCII text")
    return secret
