"""The executor's two ways to Docker. Which one it gets is decided where the process is joined.

So dry run is a matter of wiring: there is nothing in the executor that could forget it.
"""

from __future__ import annotations

from typing import Any, Protocol

from autoheal.errors import RemoteRefused
from autoheal.model import Mode
from autoheal.ports import JsonObject, SwarmReader, SwarmWriter

METHOD_NOT_ALLOWED = 405


class Actuator(Protocol):
    """The executor's way to Docker, chosen once, where the process is put together."""

    @property
    def mode(self) -> Mode:
        """How far it goes."""
        ...

    @property
    def held_back(self) -> str | None:
        """Why it writes nothing, None if it does."""
        ...

    def get(self, path: str) -> Any:  # noqa: ANN401  # JSON as Docker sends it
        """As SwarmReader.get."""
        ...

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        """As SwarmWriter.update_service."""
        ...


class DryRunActuator:
    """Holds a reader and nothing that could write."""

    mode = Mode.DRY_RUN
    held_back = "the executor runs in dry run"

    def __init__(self, reader: SwarmReader) -> None:
        self.get = reader.get

    def update_service(self, service: str, version: int, spec: JsonObject) -> None:
        """Raises RemoteRefused, as a read-only proxy would."""
        del spec
        raise RemoteRefused(
            METHOD_NOT_ALLOWED, f"{self.held_back}: {service} stays at version {version}"
        )


class LiveActuator:
    """Passes writes on to Docker."""

    mode = Mode.LIVE
    held_back = None

    def __init__(self, writer: SwarmWriter) -> None:
        self.get = writer.get
        self.update_service = writer.update_service
