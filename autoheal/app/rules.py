"""The rules in force: where they are found, and how they follow their files while this runs."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import context_store
from autoheal import rulefile
from autoheal.adapters.json_number import JsonNumber
from autoheal.adapters.prometheus import PrometheusQuery
from autoheal.adapters.redis_length import Measure, RedisLength
from autoheal.app.loops import refuse_contradictions
from autoheal.app.process import Process
from autoheal.app.stores import Memory
from autoheal.core.rule import Source
from autoheal.engine import Engine, Rulebook
from autoheal.ports import Clock, FigureSource
from autoheal.reload import Reloader
from autoheal.runner import Loop
from autoheal.settings import Settings
from autoheal.sources import SourceLoop

DEFAULT_RULES = (Path("rules"),)
SOURCES_PERIOD_S = 1.0
REST_S = 0.05

log = logging.getLogger(__name__)


def rulebook(settings: Settings) -> Rulebook:
    """The rules in force. Without a rules/ folder here, the packs that ship."""
    return _book(rulefile.load(_paths(settings)))


def shipped_rules() -> Path:
    """In an installed package beside this file; in a checkout at its top."""
    package = Path(__file__).parents[1]
    shipped = package / "shipped" / "rules"
    return shipped if shipped.is_dir() else package.parent / "rules"


def _book(loaded: rulefile.Loaded) -> Rulebook:
    return Rulebook(loaded.rules, loaded.texts)


def _paths(settings: Settings) -> tuple[Path, ...]:
    paths = settings.rules
    return (shipped_rules(),) if paths == DEFAULT_RULES and not paths[0].exists() else paths


def add_sources(process: Process, store: context_store.Store, book: Rulebook) -> SourceLoop:
    """The figures from elsewhere that the rules look at."""
    common = process.common
    sources = SourceLoop(
        store=Memory(store, common.clock),
        adapter=lambda source: figure_source(source, common.clock),
        clock=common.clock,
        telemetry=common.telemetry,
        holder=common.holder,
        lease_ttl_s=common.lease_ttl_s,
    )
    sources.set_sources(book.rules.sources)
    process.runner.add_loop(
        Loop("sources", sources.tick, sources.wait, SOURCES_PERIOD_S, rest_s=REST_S)
    )
    process.at_end.append(sources.stop)
    return sources


def figure_source(source: Source, clock: Clock) -> FigureSource:
    """The way to ask a source; its options have the names of the adapter's arguments."""
    options = dict(source.options)
    match source.kind:
        case "prometheus":
            return PrometheusQuery(clock=clock, timeout_ms=source.timeout_ms, **options)
        case "redis_list":
            return RedisLength(measure=Measure.LIST, timeout_ms=source.timeout_ms, **options)
        case "redis_stream":
            return RedisLength(measure=Measure.STREAM, timeout_ms=source.timeout_ms, **options)
        case "json":
            return JsonNumber(clock=clock, timeout_ms=source.timeout_ms, **options)
        case kind:
            raise ValueError(f"{kind} is no kind of source")


def add_reload(process: Process, engine: Engine, sources: SourceLoop, book: Rulebook) -> None:
    """Rule files that change while this runs; SIGHUP has them looked at at once."""
    settings = process.settings
    if not settings.reload_interval_ms:
        # Without a handler it would end the process of whoever asks for a reload.
        signal.signal(signal.SIGHUP, lambda *_: log.info("SIGHUP: rules are not reloaded here"))
        return

    def take(loaded: rulefile.Loaded) -> bool:
        is_taken = engine.take(_book(loaded))
        if is_taken:
            sources.set_sources(loaded.rules.sources)
        return is_taken

    reloader = Reloader(
        _paths(settings),
        book.texts,
        refuse=lambda loaded: refuse_contradictions(settings, _book(loaded)),
        take=take,
        drop=engine.drop,
        rest=process.runner.rest,
        clock=process.clock,
        telemetry=process.telemetry,
    )
    period_s = settings.reload_interval_ms / 1000
    process.runner.add_loop(Loop("reload", reloader.tick, reloader.wait, period_s))
    signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
