"""Every setting in one frozen object: what it means, what it may be, where it was given.

Sources, the first wins: overrides (the command line), environment (AUTOHEAL_STEP), secret files
(/run/secrets/autoheal_step), the settings file (`step: 5s`), the default. Every source gives text;
a field's kind reads it. An optional setting given as empty text counts as not given, so that
`AUTOHEAL_WEBHOOK_URL: ${WEBHOOK:-}` in a stack file does no harm.

A setting's name is its field's, less the unit: `step` is read into `step_ms`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretBytes,
    SecretStr,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from autoheal.errors import UserError
from autoheal.model import Mode
from autoheal.units import format_duration, format_size, parse_duration, parse_size

PREFIX = "AUTOHEAL_"
CONFIG_VARIABLE = "AUTOHEAL_CONFIG"
_FILE_SUFFIX = "_FILE"
_FILE_BYTES_MAX = 65_536
_VALUE_CHARACTERS_MAX = 4_096
_SIGNING_KEY_CHARACTERS_MIN = 32
_PORT_MAX = 65_535
_NESTING_MAX = 20
# People who come from docker-autoheal bring its variables along; none of them means the same here.
_FOREIGN = frozenset(
    {
        "AUTOHEAL_CONTAINER_LABEL",
        "AUTOHEAL_DEFAULT_STOP_TIMEOUT",
        "AUTOHEAL_INTERVAL",
        "AUTOHEAL_ONLY_MONITOR_RUNNING",
        "AUTOHEAL_START_PERIOD",
    }
)


class SettingsError(UserError):
    """All mistakes in the settings, one line each."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Stats(StrEnum):
    """Where container figures come from. AUTO takes cgroup files where they can be read."""

    AUTO = "auto"
    CGROUP = "cgroup"
    API = "api"


class LogLevel(StrEnum):
    """The least severe record that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a record is written: for people, or for programs."""

    TEXT = "text"
    JSON = "json"


# The kinds: how a field's text is read, and how the documentation speaks of it. ------------------


@dataclass(frozen=True)
class _Kind:
    """Reads text; values of the field's own type pass through, bounds are checked for both."""

    words: str
    secret: bool = field(default=False, kw_only=True)

    def read(self, value: object) -> object:
        """The value meant. Raises ValueError whose text completes 'AUTOHEAL_X: ...'."""
        if value == "":
            raise ValueError("is empty")
        return value

    def show(self, value: object) -> str:
        """The text that reads as `value`."""
        return str(value)

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._read_given, handler(source))

    def _read_given(self, value: object) -> object:
        return None if value is None else self.read(value)


@dataclass(frozen=True)
class _Quantity(_Kind):
    least: int
    most: int
    parse: Callable[[str], int]
    format: Callable[[int], str]

    def read(self, value: object) -> object:
        try:
            amount = self.parse(value) if isinstance(value, str) else value
        except OverflowError as error:
            raise ValueError(f"is more than {self.format(self.most)}") from error
        if isinstance(amount, int) and amount < self.least:
            raise ValueError(f"{self.format(amount)} is less than {self.format(self.least)}")
        if isinstance(amount, int) and amount > self.most:
            raise ValueError(f"{self.format(amount)} is more than {self.format(self.most)}")
        return amount

    def show(self, value: object) -> str:
        return self.format(value) if isinstance(value, int) else str(value)


def _duration(least: str, most: str) -> _Quantity:
    words = f"duration, {least} to {most}"
    return _Quantity(
        words, parse_duration(least), parse_duration(most), parse_duration, format_duration
    )


@dataclass(frozen=True)
class _OrOff(_Quantity):
    """A quantity, or 0, which is written `off`."""

    def read(self, value: object) -> object:
        return 0 if value in ("off", "0", "0s", 0) else super().read(value)

    def show(self, value: object) -> str:
        return super().show(value) if value else "off"


def _duration_or_off(least: str, most: str) -> _OrOff:
    known = _duration(least, most)
    words = f"{known.words}, or off"
    return _OrOff(words, known.least, known.most, known.parse, known.format)


def _size(least: str, most: str) -> _Quantity:
    words = f"size, {least} to {most}"
    return _Quantity(words, parse_size(least), parse_size(most), parse_size, format_size)


def _parse_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f'"{text}" is not a whole number (try 3)')
    return int(text)


def _count(least: int, most: int) -> _Quantity:
    return _Quantity(f"whole number, {least} to {most}", least, most, _parse_count, str)


@dataclass(frozen=True)
class _Choice(_Kind):
    """One word of a StrEnum."""

    choices: type[StrEnum]

    def read(self, value: object) -> object:
        if value not in [choice.value for choice in self.choices]:
            raise ValueError(f'"{value}" is not one of {", ".join(self.choices)}')
        return self.choices(value)


def _choice(choices: type[StrEnum]) -> _Choice:
    return _Choice(", ".join(choices), choices)


@dataclass(frozen=True)
class _Address(_Kind):
    """A URL. Addresses get logged: a password that has a setting of its own is refused here."""

    schemes: tuple[str, ...]
    password_setting: str = ""

    def read(self, value: object) -> object:
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if not self._is_address(text):
            shown = "what is given" if self.secret else f'"{_without_password(text)}"'
            raise ValueError(f"{shown} is not an address (try {self.schemes[0]}://...)")
        if self.password_setting and _has_password(text):
            raise ValueError(
                f"holds a password, which would end up in logs: give it as {self.password_setting}"
            )
        return value

    def _is_address(self, text: str) -> bool:
        if not text.isprintable() or " " in text:
            return False
        try:
            parts = urlsplit(text)
            parts.port  # noqa: B018  # raises ValueError if it is no port
        except ValueError:
            return False
        return parts.scheme in self.schemes and bool(
            parts.path.strip("/") if parts.scheme == "unix" else parts.hostname
        )


def _address(*schemes: str, secret: bool = False, password_setting: str = "") -> _Address:
    words = "address: " + ", ".join(f"{scheme}://" for scheme in schemes)
    return _Address(words, schemes, password_setting, secret=secret)


def _has_password(address: str) -> bool:
    parts = urlsplit(address)
    return parts.password is not None or "password" in parse_qs(parts.query)


def _without_password(address: str) -> str:
    return re.sub(r".*@", "***@", address, flags=re.DOTALL)


@dataclass(frozen=True)
class _Listen(_Kind):
    def read(self, value: object) -> object:
        if value in ("", "off"):
            return ""
        parse_listen(str(value))
        return value


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port. Raises ValueError whose text completes 'AUTOHEAL_LISTEN: ...'."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]/]+):([0-9]{1,5})", text)
    if not found or int(found.group(2)) > _PORT_MAX:
        raise ValueError(f'"{text}" is not host:port (try 0.0.0.0:9477, or off)')
    return found.group(1).strip("[]"), int(found.group(2))


@dataclass(frozen=True)
class _Paths(_Kind):
    """Paths with commas between them."""

    def read(self, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            raise ValueError(f'"{value}" is not a list of paths (try rules,more/rules.yaml)')
        return tuple(parts)

    def show(self, value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class _SecretText(_Kind):
    characters_min: int = 1

    def read(self, value: object) -> object:
        plain = value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value
        if isinstance(plain, str | bytes) and len(plain) < self.characters_min:
            raise ValueError(
                f"{len(plain)} characters are too few, {self.characters_min} is the least"
                " (try: openssl rand -hex 32)"
            )
        return value


_PATH = _Kind("path")
_HTTP = ("http", "https")


class Settings(BaseModel):
    """All settings of one process. Durations are in milliseconds, sizes in bytes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    mode: Annotated[Mode, _choice(Mode)] = Field(
        Mode.DRY_RUN, description="How far the executor goes: only say what it would do, or do it"
    )
    store_url: Annotated[
        str | None,
        _address("redis", "rediss", "unix", password_setting=f"{PREFIX}STORE_PASSWORD"),
    ] = Field(
        None,
        description="The context store, with its user: redis://engine@store:6379."
        " None: `autoheal run` starts an embedded one",
    )
    store_password: Annotated[SecretStr | None, _SecretText("secret text", secret=True)] = Field(
        None, description="The password of that user"
    )
    step_ms: Annotated[int, _duration("1s", "60s")] = Field(
        5_000, description="Time between two samples, and between two ticks of the engine"
    )
    stats: Annotated[Stats, _choice(Stats)] = Field(
        Stats.AUTO,
        description="Where container figures come from; auto takes cgroup files where it can",
    )
    cgroup_root: Annotated[Path, _PATH] = Field(
        Path("/sys/fs/cgroup"), description="Where the node's cgroups are mounted"
    )
    proc_root: Annotated[Path, _PATH] = Field(
        Path("/proc"), description="Where the process table is mounted"
    )
    node_root: Annotated[Path, _PATH] = Field(
        Path("/"), description="The root below which the node's own proc/stat and proc/meminfo lie"
    )
    docker_url: Annotated[str, _address("unix", "tcp", *_HTTP)] = Field(
        "unix:///var/run/docker.sock", description="The Docker engine, or the proxy before it"
    )
    docker_timeout_ms: Annotated[int, _duration("1s", "5m")] = Field(
        5_000,
        description="How long to wait for an answer of Docker; the lease must last twice as long",
    )
    rules: Annotated[tuple[Path, ...], _Paths("paths, with commas between")] = Field(
        (Path("rules"),), description="Rule files, and directories of them"
    )
    reload_interval_ms: Annotated[int, _duration_or_off("1s", "1h")] = Field(
        5_000, description="Time between two looks at whether the rule files changed"
    )
    signing_key: Annotated[
        SecretBytes | None,
        _SecretText(
            f"secret text, at least {_SIGNING_KEY_CHARACTERS_MIN} characters",
            _SIGNING_KEY_CHARACTERS_MIN,
            secret=True,
        ),
    ] = Field(None, description="The key with which engine and executors sign and check decisions")
    alertmanager_url: Annotated[str | None, _address(*_HTTP)] = Field(
        None, description="The Alertmanager that is told of escalations"
    )
    webhook_url: Annotated[SecretStr | None, _address(*_HTTP, secret=True)] = Field(
        None, description="A receiver of escalations as JSON; secret, for it may hold a token"
    )
    resend_interval_ms: Annotated[int, _duration("1s", "1h")] = Field(
        60_000, description="Time after which an escalation that still holds is sent again"
    )
    listen: Annotated[str, _Listen("host:port, or off")] = Field(
        "0.0.0.0:9477",  # Prometheus comes from another container
        description="Where /metrics, /healthz and /readyz are served",
    )
    lease_ttl_ms: Annotated[int, _duration("3s", "2m")] = Field(
        15_000, description="How long a silent leader keeps its lease"
    )
    inventory_interval_ms: Annotated[int, _duration("1s", "5m")] = Field(
        15_000, description="Time between two readings of services, tasks and nodes"
    )
    keyframe_interval_ms: Annotated[int, _duration("1s", "5m")] = Field(
        300_000, description="Time between two complete inventories; between them, differences"
    )
    deploy_hold_ms: Annotated[int, _duration("0s", "7d")] = Field(
        600_000, description="How long a stack is left alone after a deploy"
    )
    operator_hold_ms: Annotated[int, _duration("0s", "7d")] = Field(
        300_000, description="How long a service is left alone after an operator changed it"
    )
    node_hold_ms: Annotated[int, _duration("0s", "7d")] = Field(
        600_000, description="How long nothing is done to any service after a node came or went"
    )
    warm_up_ms: Annotated[int, _duration("0s", "1d")] = Field(
        300_000, description="Tasks younger than this do not count: starting burns CPU"
    )
    group_wait_ms: Annotated[int, _duration("0s", "1h")] = Field(
        30_000,
        description="How long a failure is watched at least before it is treated or told,"
        " so that a common cause shows first",
    )
    stable_after_ms: Annotated[int, _duration("0s", "1d")] = Field(
        60_000, description="How long a task must have run to count as stable"
    )
    recovery_after_ms: Annotated[int, _duration("0s", "1d")] = Field(
        60_000, description="How long nothing may be amiss until an incident is over"
    )
    actions_at_once: Annotated[int, _count(1, 1_000)] = Field(
        1, description="How many services may be acted on at once"
    )
    actions_per_hour: Annotated[int, _count(1, 100_000)] = Field(
        5, description="How many actions there may be in an hour; then people are told instead"
    )
    outage_services: Annotated[int, _count(1, 100_000)] = Field(
        3,
        description="More services than this, and than `outage_percent`, that get sick within"
        " `outage_window` are an outage: one page, no action",
    )
    outage_percent: Annotated[int, _count(1, 100)] = Field(
        20, description="The share of all services that goes with it, in percent"
    )
    outage_window_ms: Annotated[int, _duration("1s", "1d")] = Field(
        300_000, description="The time that goes with it"
    )
    saturated_percent: Annotated[int, _count(1, 100)] = Field(
        90, description="The use of a node's CPU or memory, in percent, at which it is saturated"
    )
    saturated_window_ms: Annotated[int, _duration("1s", "1h")] = Field(
        120_000, description="The time over which that use is averaged"
    )
    settle_timeout_ms: Annotated[int, _duration("1s", "1d")] = Field(
        600_000, description="How long an action may take until it counts as ended"
    )
    decision_expiry_ms: Annotated[int, _duration("1s", "1h")] = Field(
        60_000, description="A decision older than this is refused"
    )
    breaker_failures: Annotated[int, _count(1, 1_000)] = Field(
        3, description="Failures in a row after which writes to Docker stop"
    )
    breaker_cool_off_ms: Annotated[int, _duration("1s", "1d")] = Field(
        60_000, description="How long they stop before one probe is let through"
    )
    samples_age_ms: Annotated[int, _duration("1m", "30d")] = Field(
        7_200_000, description="How long samples, ticks, inventories and what sources told are kept"
    )
    samples_bytes: Annotated[int, _size("1MiB", "1TiB")] = Field(
        2**30, description="How much room samples may take"
    )
    events_age_ms: Annotated[int, _duration("1m", "365d")] = Field(
        7 * 86_400_000, description="How long events are kept"
    )
    decisions_age_ms: Annotated[int, _duration("1m", "3650d")] = Field(
        90 * 86_400_000,
        description="How long decisions, their outcomes, incidents and commands are kept",
    )
    data_directory: Annotated[Path | None, _PATH] = Field(
        None,
        description="Where the embedded store, the audit file and a generated key lie. None:"
        " $XDG_STATE_HOME/autoheal or ~/.local/state/autoheal; /var/lib/autoheal for root",
    )
    audit_file: Annotated[Path | None, _PATH] = Field(
        None, description="A file that gets one line per decision and outcome"
    )
    log_level: Annotated[LogLevel, _choice(LogLevel)] = Field(
        LogLevel.INFO, description="The least severe record that is written to standard error"
    )
    log_format: Annotated[LogFormat, _choice(LogFormat)] = Field(
        LogFormat.TEXT, description="One line per record, for people or for programs"
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _without_password(value) if isinstance(value, str) else value


def _field_kinds() -> Iterator[tuple[str, _Kind]]:
    for name, about in Settings.model_fields.items():
        (kind,) = (entry for entry in about.metadata if isinstance(entry, _Kind))
        yield name, kind


_KINDS = dict(_field_kinds())
_FIELDS = {name.removesuffix("_ms"): name for name in _KINDS}
_VARIABLES = {PREFIX + name.upper(): name for name in _FIELDS}
_SECRET_FILE_VARIABLES = {
    variable + _FILE_SUFFIX: name
    for variable, name in _VARIABLES.items()
    if _KINDS[_FIELDS[name]].secret
}


def settings_table() -> str:
    """The table of all settings in docs/settings.md."""
    lines = ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for name, field_name in _FIELDS.items():
        about = Settings.model_fields[field_name]
        kind = _KINDS[field_name]
        default = "none" if about.default is None else f"`{kind.show(about.default)}`"
        lines.append(f"| `{name}` | {kind.words} | {default} | {about.description} |")
    return "\n".join(lines) + "\n"


# Loading -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Given:
    where: str
    text: str


@dataclass(frozen=True)
class _Gathered:
    """What the sources gave, later ones over earlier ones, and what was wrong with them."""

    given: dict[str, _Given] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def take(self, name: str, where: str, text: str) -> None:
        """Note a value of a setting that exists."""
        if len(text) > _VALUE_CHARACTERS_MAX:
            self.complain(where, f"is longer than {_VALUE_CHARACTERS_MAX} characters")
        elif text or Settings.model_fields[_FIELDS[name]].default is not None:
            self.given[name] = _Given(where, text)

    def take_file(self, name: str, where: str, path: Path) -> None:
        """Note a value that is the text of a file. Raises FileNotFoundError."""
        try:
            text = _read_small_file(path).rstrip("\r\n")
        except FileNotFoundError:
            raise
        except OSError as error:
            self.complain(where, f"cannot be read: {error.strerror}")
            return
        except ValueError as error:
            self.complain(where, str(error))
            return
        if text:
            self.take(name, where, text)
        else:
            self.complain(where, "is empty")

    def complain(self, where: str, what: str) -> None:
        """Note a mistake, on one line whatever it quotes."""
        self.mistakes.append(_on_one_line(f"{where}: {what}"))


def load_settings(
    environment: Mapping[str, str],
    *,
    overrides: Mapping[str, str] = MappingProxyType({}),
    secrets_directory: Path = Path("/run/secrets"),
    file: Path | None = None,
) -> Settings:
    """Read all sources. Raises SettingsError with all mistakes.

    `overrides` are named like the settings; `file` goes before AUTOHEAL_CONFIG.
    """
    gathered = _Gathered()
    _gather_file(gathered, environment, file)
    _gather_secrets(gathered, secrets_directory)
    _gather_environment(gathered, environment)
    _gather_overrides(gathered, overrides)
    values = {_FIELDS[name]: given.text for name, given in gathered.given.items()}
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        _complain_of_values(gathered, error)
    else:
        if not gathered.mistakes:
            return settings
    # Outside the handler: pydantic's error must not hang on ours, for it knows every value.
    raise SettingsError(tuple(gathered.mistakes))


def _complain_of_values(gathered: _Gathered, error: ValidationError) -> None:
    for detail in error.errors(include_input=False, include_url=False):
        field_name = str(detail["loc"][0])
        given = gathered.given[field_name.removesuffix("_ms")]
        gathered.complain(given.where, str(detail.get("ctx", {}).get("error", detail["msg"])))


def _gather_overrides(gathered: _Gathered, overrides: Mapping[str, str]) -> None:
    for name, text in overrides.items():
        where = _option(name)
        if name in _FIELDS:
            gathered.take(name, where, text)
        else:
            known = {known: _option(known) for known in _FIELDS}
            gathered.complain(where, _no_such_setting(name, known))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _gather_environment(gathered: _Gathered, environment: Mapping[str, str]) -> None:
    for variable in sorted(environment):
        text = environment[variable]
        if variable in _VARIABLES:
            gathered.take(_VARIABLES[variable], variable, text)
        elif variable in _SECRET_FILE_VARIABLES:
            _gather_secret_variable(gathered, variable, environment)
        elif variable.startswith(PREFIX) and variable != CONFIG_VARIABLE:
            gathered.complain(variable, _no_such_variable(variable))


def _gather_secret_variable(
    gathered: _Gathered, variable: str, environment: Mapping[str, str]
) -> None:
    plain = variable.removesuffix(_FILE_SUFFIX)
    path = environment[variable]
    if not path:
        return
    if environment.get(plain):
        gathered.complain(variable, f"{plain} is given too: leave one of them out")
        return
    name = _SECRET_FILE_VARIABLES[variable]
    try:
        gathered.take_file(name, f"{variable}: {path}", Path(path))
    except FileNotFoundError:
        gathered.complain(variable, f"there is no file {path}")


def _gather_secrets(gathered: _Gathered, directory: Path) -> None:
    for name in _FIELDS:
        path = directory / f"{PREFIX.lower()}{name}"
        try:
            gathered.take_file(name, str(path), path)
        except FileNotFoundError:
            continue


def _gather_file(gathered: _Gathered, environment: Mapping[str, str], file: Path | None) -> None:
    path = file or Path(environment.get(CONFIG_VARIABLE, ""))
    if path == Path():
        return
    where = str(path)
    try:
        text = _read_small_file(path)
    except OSError as error:
        gathered.complain(where, f"cannot be read: {error.strerror}")
        return
    except ValueError as error:
        gathered.complain(where, str(error))
        return
    try:
        pairs = list(_pairs(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        gathered.complain(f"{where}:{mark.line + 1}:{mark.column + 1}", _syntax_problem(error))
    # The parser lets an escape such as "\U99999999" through to chr().
    except (YAMLError, ValueError, OverflowError):
        gathered.complain(where, "this is not YAML: check quotes and escapes")
    else:
        for key, value in pairs:
            _gather_pair(gathered, where, key, value)


def _gather_pair(gathered: _Gathered, file: str, key: Event, value: Event) -> None:
    where = f"{file}:{_position(key)}"
    if not isinstance(key, ScalarEvent):
        gathered.complain(where, "this is not a line `name: value`")
        return
    name = key.value
    if name not in _FIELDS:
        gathered.complain(
            where, f"{name}: {_no_such_setting(name, {known: known for known in _FIELDS})}"
        )
    elif name in gathered.given:
        gathered.complain(where, f"{name}: is given twice")
    elif not isinstance(value, ScalarEvent) or value.tag is not None:
        place = f"{file}:{_position(value)}"
        gathered.complain(place, f"{name}: is not plain text (put it in quotes)")
    else:
        text = "" if _is_null(value) else value.value
        gathered.take(name, f"{file}:{_position(value)}: {name}", text)


def _position(event: Event) -> str:
    return f"{event.start_mark.line + 1}:{event.start_mark.column + 1}"


def _is_null(value: ScalarEvent) -> bool:
    return value.style is None and value.value in ("~", "null", "Null", "NULL")


def _pairs(text: str) -> Iterator[tuple[Event, Event]]:
    """The keys and values of a flat mapping.

    Events, not nodes: text stays as it was written, and nesting costs no recursion.
    """
    events = YAML(typ="safe", pure=True).parse(text)
    for event in events:
        if isinstance(event, MappingStartEvent):
            break
        if isinstance(event, NodeEvent) and not _is_nothing(event):
            raise _not_flat(event)
    for key in events:
        if isinstance(key, MappingEndEvent):
            break
        _skip_nested(events, key)
        value = next(events)
        _skip_nested(events, value)
        yield key, value
    for event in events:
        if isinstance(event, DocumentStartEvent):
            raise _not_flat(event)


def _not_flat(event: Event) -> MarkedYAMLError:
    problem = "expected one list of `name: value` lines"
    return MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _is_nothing(event: NodeEvent) -> bool:
    return isinstance(event, ScalarEvent) and not event.value


def _skip_nested(events: Iterator[Event], first: Event) -> None:
    depth = int(isinstance(first, CollectionStartEvent))
    while depth:
        event = next(events)
        if depth > _NESTING_MAX:  # the parser takes minutes over 64 KiB of brackets
            raise _not_flat(event)
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)


def _syntax_problem(error: MarkedYAMLError) -> str:
    problem = str(error.problem)
    # These quote a piece of the file, which may be one of a secret.
    if "undefined" in problem or "duplicate" in problem:
        problem = problem.partition(" '")[0]
    return f"this is not YAML: {problem}"


def _no_such_variable(variable: str) -> str:
    if variable in _FOREIGN:
        return "there is no such setting (it is one of docker-autoheal; remove it)"
    known = {"config": CONFIG_VARIABLE}
    for meant, name in _VARIABLES.items():
        in_file = meant + _FILE_SUFFIX
        known[name] = meant
        known[f"{name}_file"] = in_file if in_file in _SECRET_FILE_VARIABLES else meant
    return _no_such_setting(variable.removeprefix(PREFIX), known)


def _no_such_setting(name: str, known: Mapping[str, str]) -> str:
    """What to say of a misspelt name; `known` maps names to how they are spelt there."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1)
    if not near:
        return "there is no such setting"
    return f"there is no such setting (did you mean {known[near[0]]}?)"


def _read_small_file(path: Path) -> str:
    """Raises OSError, or ValueError whose text completes 'FILE ...'."""
    with path.open("rb") as stream:
        content = stream.read(_FILE_BYTES_MAX + 1)
    if len(content) > _FILE_BYTES_MAX:
        raise ValueError(f"is larger than {format_size(_FILE_BYTES_MAX)}")
    try:
        return content.decode()
    except UnicodeDecodeError:
        # Without its cause, which quotes bytes of the file.
        raise ValueError("is not UTF-8 text") from None


def _on_one_line(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
