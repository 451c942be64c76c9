"""The composition root: the only place where parts are built and joined."""

from __future__ import annotations

import getpass
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from autoheal import __version__, commands, status
from autoheal.adapters.clock import SystemClock
from autoheal.adapters.docker_api import SwarmRole, swarm_role
from autoheal.adapters.exposition import Exposition
from autoheal.adapters.logs import configure
from autoheal.app.parts import (
    add_collector,
    add_engine,
    add_executor,
    own_key,
    signing_key,
)
from autoheal.app.process import Process
from autoheal.app.rules import rulebook
from autoheal.app.stores import (
    STORE_ADDRESS,
    Memory,
    connect,
    connect_to,
    data_directory,
    store_for_all,
)
from autoheal.errors import BadRecordError, RemoteError, UserError
from autoheal.settings import Settings
from context_store import StoreRefused

AUDIT_FILE = "audit.jsonl"

log = logging.getLogger(__name__)


def run_all(settings: Settings) -> None:
    """Everything in one process until SIGTERM or SIGINT."""
    process = _begin(settings)
    book = rulebook(settings)
    role = _role(process)
    _require_manager(process, role)
    _make_private(data_directory(settings))
    with store_for_all(settings, process.clock) as (store, watch):
        key = own_key(settings)
        collector = add_collector(process, store, role.node)
        engine = add_engine(process, store, book, key)
        add_executor(process, store, key, _audit_file(settings))
        ready = [lambda: [] if engine.is_ready else ["engine: no inventory yet"]]
        _serve(process, ready, start=collector.start, watch=watch)


def run_collector(settings: Settings) -> None:
    """The collector of one node until SIGTERM or SIGINT."""
    process = _begin(settings)
    role = _role(process)
    store = connect(settings, process.clock)
    collector = add_collector(process, store, role.node)
    _serve(process, [], start=collector.start)


def run_engine(settings: Settings) -> None:
    """An engine, leading or standing by, until SIGTERM or SIGINT."""
    process = _begin(settings)
    book = rulebook(settings)
    key = signing_key(settings)
    store = connect(settings, process.clock)
    engine = add_engine(process, store, book, key)
    ready = [lambda: [] if engine.is_ready else ["engine: no inventory yet"]]
    _serve(process, ready)


def run_executor(settings: Settings) -> None:
    """An executor until SIGTERM or SIGINT."""
    process = _begin(settings)
    key = signing_key(settings)
    _require_manager(process, _role(process))
    store = connect(settings, process.clock)
    add_executor(process, store, key, _audit_file(settings))
    _serve(process, [])


def open_memory(settings: Settings) -> Memory:
    """The configured store, else the one of the `run` that is at work here."""
    clock = SystemClock()
    if settings.store_url is not None:
        return Memory(connect(settings, clock), clock)
    address = data_directory(settings) / STORE_ADDRESS
    try:
        url = address.read_text()
    except OSError as error:
        raise UserError(
            f"no store: {address} tells of no running `autoheal run`"
            " (start one, or set AUTOHEAL_STORE_URL)"
        ) from error
    return Memory(connect_to(url, clock), clock)


def read_status(settings: Settings, *, as_json: bool) -> str:
    """What the loop knows and wants, as text."""
    try:
        found = status.gather(open_memory(settings))
    except (ConnectionError, BadRecordError, StoreRefused) as error:
        raise UserError(str(error)) from error
    return status.render_json(found) if as_json else status.render(found)


def reset(settings: Settings, service: str, rule: str) -> str:
    """Let a rule ("": all of them) act on a service again; what is to be said of it."""
    memory = open_memory(settings)
    try:
        return commands.reset(memory, SystemClock(), service, rule, by=_person())
    except (ConnectionError, BadRecordError, StoreRefused) as error:
        raise UserError(str(error)) from error


def _person() -> str:
    """Who runs this command, and where; a user without a name is told by number."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _begin(settings: Settings) -> Process:
    configure(settings.log_level, settings.log_format)
    return Process.of(settings)


def _role(process: Process) -> SwarmRole:
    """What the local engine is in its Swarm; outside of one there is nothing to do."""
    url = process.settings.docker_url
    try:
        role = swarm_role(process.docker())
    except RemoteError as error:
        raise UserError(
            f"no Docker engine at {url}: {error}"
            " (is it running, and may this user open its socket?)"
        ) from error
    if not role.active:
        raise UserError(f"the engine at {url} is in no Swarm (docker swarm init, or join)")
    return role


def _require_manager(process: Process, role: SwarmRole) -> None:
    if not role.manager:
        raise UserError(
            f"the engine at {process.settings.docker_url} is not a Swarm manager:"
            " run this on a manager (on workers: autoheal collector)"
        )


def _audit_file(settings: Settings) -> Path:
    """Where every decision, intent and outcome is written down, also when the store is lost."""
    if settings.audit_file is not None:
        return settings.audit_file
    _make_private(data_directory(settings))
    return data_directory(settings) / AUDIT_FILE


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory}: {error.strerror} (set AUTOHEAL_DATA_DIRECTORY)") from error


def _serve(
    process: Process,
    ready: Sequence[Callable[[], list[str]]],
    *,
    start: Callable[[], None] = lambda: None,
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Run until a signal; then end the loops, in order, and say so."""
    exposition = None
    if process.settings.listen:
        exposition = Exposition(
            process.settings.listen,
            process.telemetry,
            lambda: [reason for reasons in ready for reason in reasons()],
        )
        exposition.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.runner.stop())
    log.info("autoheal %s, mode %s", __version__, process.settings.mode)
    try:
        start()
        process.runner.run(watch)
    finally:
        for end in process.at_end:
            try:
                end()
            except Exception as error:  # noqa: BLE001  # the others must still be ended
                log.warning("at the end: %s", error)
        if exposition is not None:
            exposition.stop()
    log.info("stopped")
