"""Each source, each precedence, each mistake with its exact line; and what must stay hidden."""

import re
import traceback
from dataclasses import fields, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from autoheal import records
from autoheal.app.loops import limits_of
from autoheal.app.stores import retention
from autoheal.core.limits import Limits
from autoheal.errors import UserError
from autoheal.model import Mode
from autoheal.settings import (
    LogFormat,
    LogLevel,
    Settings,
    SettingsError,
    Stats,
    load_settings,
    parse_listen,
    settings_table,
)

SECRET = "hunter2-" * 5
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    return directory


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "autoheal.yaml"


def load(environment: dict[str, str] | None = None, **overrides: str) -> Settings:
    return load_settings(environment or {}, overrides=overrides, secrets_directory=Path("/nowhere"))


def mistakes(environment: dict[str, str] | None = None, **overrides: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environment, **overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return list(caught.value.mistakes)


def file_mistakes(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, secrets_directory=Path("/nowhere"), file=file)
    return [line.removeprefix(f"{file.parent}/") for line in caught.value.mistakes]


def test_defaults() -> None:
    assert load().model_dump() == {
        "mode": Mode.DRY_RUN,
        "store_url": None,
        "store_password": None,
        "step_ms": 5_000,
        "stats": Stats.AUTO,
        "cgroup_root": Path("/sys/fs/cgroup"),
        "proc_root": Path("/proc"),
        "node_root": Path("/"),
        "docker_url": "unix:///var/run/docker.sock",
        "docker_timeout_ms": 5_000,
        "rules": (Path("rules"),),
        "reload_interval_ms": 5_000,
        "signing_key": None,
        "alertmanager_url": None,
        "webhook_url": None,
        "resend_interval_ms": 60_000,
        "listen": "0.0.0.0:9477",
        "lease_ttl_ms": 15_000,
        "inventory_interval_ms": 15_000,
        "keyframe_interval_ms": 300_000,
        "deploy_hold_ms": 600_000,
        "operator_hold_ms": 300_000,
        "node_hold_ms": 600_000,
        "warm_up_ms": 300_000,
        "group_wait_ms": 30_000,
        "stable_after_ms": 60_000,
        "recovery_after_ms": 60_000,
        "actions_at_once": 1,
        "actions_per_hour": 5,
        "outage_services": 3,
        "outage_percent": 20,
        "outage_window_ms": 300_000,
        "saturated_percent": 90,
        "saturated_window_ms": 120_000,
        "settle_timeout_ms": 600_000,
        "decision_expiry_ms": 60_000,
        "breaker_failures": 3,
        "breaker_cool_off_ms": 60_000,
        "samples_age_ms": 2 * 3_600_000,
        "samples_bytes": 1024**3,
        "events_age_ms": 7 * 24 * 3_600_000,
        "decisions_age_ms": 90 * 24 * 3_600_000,
        "data_directory": None,
        "audit_file": None,
        "log_level": LogLevel.INFO,
        "log_format": LogFormat.TEXT,
    }


def test_no_stream_is_kept_for_ever() -> None:
    streams = {
        value for name, value in vars(records).items() if name.isupper() and isinstance(value, str)
    }
    kept = retention(Settings(decisions_age_ms=60_000))
    assert set(kept) == streams
    assert kept[records.INCIDENTS].age_ms == kept[records.COMMANDS].age_ms == 60_000


# Limits without a setting of their own: they follow from others, or are our own pace.
NO_SETTINGS = {"inventory_stale_ms", "retry_ms", "missed_ticks", "handover_ms"}
RENAMED = {"stable_ms": "stable_after_ms", "recovery_ms": "recovery_after_ms"}


def test_settings_and_limits_have_the_same_defaults() -> None:
    assert limits_of(Settings()) == Limits(handover_ms=25_000)


@pytest.mark.parametrize("limit", sorted({each.name for each in fields(Limits)} - NO_SETTINGS))
def test_each_limit_follows_its_own_setting(limit: str) -> None:
    default = Settings().model_dump()
    setting = RENAMED.get(limit, limit)
    changed = limits_of(Settings.model_validate({**default, setting: default[setting] + 1}))
    followed = replace(limits_of(Settings()), **{limit: default[setting] + 1})
    assert replace(changed, handover_ms=0) == replace(followed, handover_ms=0)


def test_the_document_equals_the_model() -> None:
    _, _, table = DOCUMENT.read_text().partition("-->\n\n")
    assert table == settings_table(), "the command that makes the table stands above it"


def test_each_default_reads_back_from_its_own_text() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| `([^`]+)` \|", settings_table(), re.MULTILINE)
    assert len(rows) > 20
    assert load(**dict(rows)) == Settings()


def test_every_setting_is_described() -> None:
    assert all(about.description for about in Settings.model_fields.values())


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load().step_ms = 1  # type: ignore[misc]  # frozen, and that is the test


def test_the_first_source_wins(secrets: Path, file: Path) -> None:
    names = ["step", "docker_timeout", "warm_up", "lease_ttl", "deploy_hold"]
    file.write_text("".join(f"{name}: 11s\n" for name in names[:4]))
    for name in names[:3]:
        (secrets / f"autoheal_{name}").write_text("12s\n")
    settings = load_settings(
        {"AUTOHEAL_STEP": "13s", "AUTOHEAL_DOCKER_TIMEOUT": "13s", "HOME": "/root"},
        overrides={"step": "14s"},
        secrets_directory=secrets,
        file=file,
    )
    assert settings == Settings(
        step_ms=14_000, docker_timeout_ms=13_000, warm_up_ms=12_000, lease_ttl_ms=11_000
    )


def test_the_environment_names_the_file_and_an_argument_goes_before(file: Path) -> None:
    file.write_text("step: 7s\n")
    assert load({"AUTOHEAL_CONFIG": str(file)}).step_ms == 7_000
    other = file.with_name("other.yaml")
    other.write_text("step: 8s\n")
    assert load_settings({"AUTOHEAL_CONFIG": str(file)}, file=other).step_ms == 8_000


def test_values_are_read_into_what_they_mean() -> None:
    settings = load(
        {
            "AUTOHEAL_MODE": "live",
            "AUTOHEAL_STORE_URL": "redis://engine@store:6379/0",
            "AUTOHEAL_STORE_PASSWORD": SECRET,
            "AUTOHEAL_SIGNING_KEY": SECRET,
            "AUTOHEAL_WEBHOOK_URL": "https://hooks.example/T0K",
            "AUTOHEAL_DOCKER_URL": "tcp://[::1]:2375",
            "AUTOHEAL_RULES": "rules, more/web.yaml",
            "AUTOHEAL_SAMPLES_BYTES": "64MiB",
            "AUTOHEAL_BREAKER_FAILURES": "5",
            "AUTOHEAL_DEPLOY_HOLD": "0s",
            "AUTOHEAL_OPERATOR_HOLD": "0s",
            "AUTOHEAL_WARM_UP": "0s",
            "AUTOHEAL_DATA_DIRECTORY": "/data",
            "AUTOHEAL_LOG_FORMAT": "json",
        }
    )
    assert settings.mode is Mode.LIVE
    assert settings.store_url == "redis://engine@store:6379/0"
    assert settings.store_password is not None
    assert settings.store_password.get_secret_value() == SECRET
    assert settings.signing_key is not None
    assert settings.signing_key.get_secret_value() == SECRET.encode()
    assert settings.webhook_url is not None
    assert settings.webhook_url.get_secret_value() == "https://hooks.example/T0K"
    assert settings.rules == (Path("rules"), Path("more/web.yaml"))
    assert settings.samples_bytes == 64 * 2**20
    assert settings.breaker_failures == 5
    assert (settings.deploy_hold_ms, settings.operator_hold_ms, settings.warm_up_ms) == (0, 0, 0)
    assert settings.data_directory == Path("/data")
    assert settings.log_format is LogFormat.JSON


def test_bounds_are_allowed_values() -> None:
    least = load(step="1s", lease_ttl="3s", breaker_failures="1", samples_bytes="1MiB")
    assert (least.step_ms, least.lease_ttl_ms) == (1_000, 3_000)
    most = load(step="60s", lease_ttl="120s", breaker_failures="1000", samples_bytes="1TiB")
    assert (most.step_ms, most.lease_ttl_ms) == (60_000, 120_000)
    assert load(outage_percent="100", saturated_percent="100").outage_percent == 100
    patient = load(node_hold="7d", group_wait="0s", stable_after="0s", recovery_after="1d")
    assert (patient.node_hold_ms, patient.group_wait_ms) == (7 * 86_400_000, 0)


@pytest.mark.parametrize(
    ("text", "interval_ms"), [("off", 0), ("0", 0), ("0s", 0), ("1s", 1_000), ("1h", 3_600_000)]
)
def test_rule_files_are_looked_at_every_so_often_or_never(text: str, interval_ms: int) -> None:
    assert load(reload_interval=text).reload_interval_ms == interval_ms


@pytest.mark.parametrize("text", ["", "off"])
def test_the_http_server_can_be_off(text: str) -> None:
    assert load({"AUTOHEAL_LISTEN": text}).listen == ""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9477", ("::1", 9477)),
    ],
)
def test_addresses_to_listen_on(text: str, address: tuple[str, int]) -> None:
    assert load({"AUTOHEAL_LISTEN": text}).listen == text
    assert parse_listen(text) == address


def test_empty_text_of_an_optional_setting_counts_as_not_given(secrets: Path) -> None:
    (secrets / "autoheal_webhook_url").write_text("https://hooks.example/T0K")
    settings = load_settings(
        {"AUTOHEAL_WEBHOOK_URL": "", "AUTOHEAL_STORE_URL": "", "AUTOHEAL_SIGNING_KEY_FILE": ""},
        secrets_directory=secrets,
    )
    assert settings.webhook_url is not None
    assert settings.store_url is None
    assert settings.signing_key is None


BAD_VALUES = [
    ("MODE", "liev", '"liev" is not one of dry-run, live'),
    ("STEP", "5 sec", '"5 sec" is not a duration (try 5s)'),
    ("STEP", "", '"" is not a duration (try 2m)'),
    ("STEP", "999ms", "999ms is less than 1s"),
    ("STEP", "61s", "1m1s is more than 1m"),
    ("LEASE_TTL", "2s", "2s is less than 3s"),
    ("LEASE_TTL", "121s", "2m1s is more than 2m"),
    ("SAMPLES_BYTES", "1 gig", '"1 gig" is not a size (try 64MiB)'),
    ("SAMPLES_BYTES", "1MB", "976.6KiB is less than 1MiB"),
    ("SAMPLES_BYTES", "9" * 400 + "GB", "is more than 1TiB"),
    ("BREAKER_FAILURES", "0", "0 is less than 1"),
    ("ACTIONS_AT_ONCE", "0", "0 is less than 1"),
    ("ACTIONS_PER_HOUR", "0", "0 is less than 1"),
    ("OUTAGE_SERVICES", "0", "0 is less than 1"),
    ("OUTAGE_PERCENT", "0", "0 is less than 1"),
    ("OUTAGE_PERCENT", "101", "101 is more than 100"),
    ("OUTAGE_WINDOW", "0s", "0s is less than 1s"),
    ("SATURATED_PERCENT", "101", "101 is more than 100"),
    ("SATURATED_WINDOW", "61m", "1h1m is more than 1h"),
    ("BREAKER_FAILURES", "three", '"three" is not a whole number (try 3)'),
    ("BREAKER_FAILURES", "-1", '"-1" is not a whole number (try 3)'),
    ("STORE_URL", "store:6379", '"store:6379" is not an address (try redis://...)'),
    ("STORE_URL", "redis://store:port", '"redis://store:port" is not an address (try redis://...)'),
    ("DOCKER_URL", "unix://", '"unix://" is not an address (try unix://...)'),
    ("DOCKER_URL", "", '"" is not an address (try unix://...)'),
    ("ALERTMANAGER_URL", "http://a b", '"http://a b" is not an address (try http://...)'),
    ("RELOAD_INTERVAL", "999ms", "999ms is less than 1s"),
    ("LISTEN", "9477", '"9477" is not host:port (try 0.0.0.0:9477, or off)'),
    ("LISTEN", "a:65536", '"a:65536" is not host:port (try 0.0.0.0:9477, or off)'),
    ("LISTEN", "::1:80", '"::1:80" is not host:port (try 0.0.0.0:9477, or off)'),
    ("RULES", "a,,b", '"a,,b" is not a list of paths (try rules,more/rules.yaml)'),
    ("PROC_ROOT", "", "is empty"),
    ("LOG_LEVEL", "INFO", '"INFO" is not one of debug, info, warning, error'),
    ("LOG_LEVEL", "a\nb", '"a\\nb" is not one of debug, info, warning, error'),
    ("NODE_ROOT", "x" * 4097, "is longer than 4096 characters"),
    (
        "SIGNING_KEY",
        "short",
        "5 characters are too few, 32 is the least (try: openssl rand -hex 32)",
    ),
    ("WEBHOOK_URL", "hooks/T0K", "what is given is not an address (try http://...)"),
]


@pytest.mark.parametrize(("name", "text", "line"), BAD_VALUES)
def test_a_bad_value(name: str, text: str, line: str) -> None:
    assert mistakes({f"AUTOHEAL_{name}": text}) == [f"AUTOHEAL_{name}: {line}"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "AUTOHEAL_STORE_ULR",
            "there is no such setting (did you mean AUTOHEAL_STORE_URL?)",
        ),
        ("AUTOHEAL_Step", "there is no such setting (did you mean AUTOHEAL_STEP?)"),
        ("AUTOHEAL_CONFG", "there is no such setting (did you mean AUTOHEAL_CONFIG?)"),
        ("AUTOHEAL_STEP_FILE", "there is no such setting (did you mean AUTOHEAL_STEP?)"),
        (
            "AUTOHEAL_SIGNIN_KEY_FILE",
            "there is no such setting (did you mean AUTOHEAL_SIGNING_KEY_FILE?)",
        ),
        ("AUTOHEAL_XYZZY", "there is no such setting"),
        ("AUTOHEAL_", "there is no such setting"),
        (
            "AUTOHEAL_INTERVAL",
            "there is no such setting (it is one of docker-autoheal; remove it)",
        ),
    ],
)
def test_a_misspelt_variable(name: str, line: str) -> None:
    assert mistakes({name: "1"}) == [f"{name}: {line}"]


def test_overrides_are_named_as_on_the_command_line() -> None:
    assert mistakes(log_level="loud", lug_level="info") == [
        "--lug-level: there is no such setting (did you mean --log-level?)",
        '--log-level: "loud" is not one of debug, info, warning, error',
    ]


def test_all_mistakes_of_all_sources_at_once(secrets: Path, file: Path) -> None:
    file.write_text("stepp: 5s\nwarm_up: soon\n")
    (secrets / "autoheal_signing_key").write_text("")
    with pytest.raises(UserError) as caught:
        load_settings(
            {"AUTOHEAL_STORE_ULR": "x", "AUTOHEAL_STEP": "5 sec"},
            overrides={"mode": "on"},
            secrets_directory=secrets,
            file=file,
        )
    key = secrets / "autoheal_signing_key"
    assert str(caught.value).splitlines() == [
        f"{file}:1:1: stepp: there is no such setting (did you mean step?)",
        f"{key}: is empty",
        "AUTOHEAL_STORE_ULR: there is no such setting (did you mean AUTOHEAL_STORE_URL?)",
        '--mode: "on" is not one of dry-run, live',
        'AUTOHEAL_STEP: "5 sec" is not a duration (try 5s)',
        f'{file}:2:10: warm_up: "soon" is not a duration (try 2m)',
    ]


class TestFile:
    def test_it_is_flat_yaml(self, file: Path) -> None:
        file.write_text(
            "# ours\n---\nmode: live\nstep: '10s'\nbreaker_failures: 4\n"
            "store_url: null\nwebhook_url:\nlisten: 'off'\nrules: >-\n  a,\n  b\n"
        )
        settings = load_settings({}, file=file)
        assert settings == Settings(
            mode=Mode.LIVE,
            step_ms=10_000,
            breaker_failures=4,
            listen="",
            rules=(Path("a"), Path("b")),
        )

    @pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}"])
    def test_it_may_be_empty(self, file: Path, text: str) -> None:
        file.write_text(text)
        assert load_settings({}, file=file) == Settings()

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            (
                "step: 5s\n\nlisen: 'off'\n",
                "3:1: lisen: there is no such setting (did you mean listen?)",
            ),
            ("step: 5\n", '1:7: step: "5" is not a duration (try 5s)'),
            ("step: 5s\nstep: 6s\n", "2:1: step: is given twice"),
            ("step: null\n", '1:7: step: "" is not a duration (try 2m)'),
            (
                "rules:\n  - a\n  - {b: c}\nstep: 5s\n",
                "2:3: rules: is not plain text (put it in quotes)",
            ),
            ("step: *five\n", "1:7: step: is not plain text (put it in quotes)"),
            ("step: !five 5s\n", "1:7: step: is not plain text (put it in quotes)"),
            ("? [a, b]\n: c\nstep: 5s\n", "1:3: this is not a line `name: value`"),
            ("just words\n", "1:1: this is not YAML: expected one list of `name: value` lines"),
            ("- step\n", "1:1: this is not YAML: expected one list of `name: value` lines"),
            (
                "step: 5s\n---\nstep: 6s\n",
                "2:1: this is not YAML: expected one list of `name: value` lines",
            ),
            (
                "step: 5s\n  mode: live\n",
                "2:7: this is not YAML: mapping values are not allowed here",
            ),
            ("mode: 'liv\n", "2:1: this is not YAML: found unexpected end of stream"),
        ],
    )
    def test_mistakes_have_their_place(self, file: Path, text: str, line: str) -> None:
        assert file_mistakes(file, text) == [f"autoheal.yaml:{line}"]

    def test_what_no_yaml_can_hold(self, file: Path) -> None:
        whole = "autoheal.yaml: this is not YAML: check quotes and escapes"
        assert file_mistakes(file, "step: \x00\n") == [whole]
        assert file_mistakes(file, 'step: "\\U99999999"\n') == [whole]

    def test_deep_nesting_is_a_mistake_like_any_other(self, file: Path) -> None:
        (line,) = file_mistakes(file, "step: " + "[" * 30_000 + "]" * 30_000)
        assert line.startswith("autoheal.yaml:1:")
        assert line.endswith(": this is not YAML: expected one list of `name: value` lines")

    def test_it_cannot_be_read(self, file: Path) -> None:
        missing = f"{file}: cannot be read: No such file or directory"
        assert mistakes({"AUTOHEAL_CONFIG": str(file)}) == [missing]
        file.write_bytes(b"step: \xff")
        assert mistakes({"AUTOHEAL_CONFIG": str(file)}) == [f"{file}: is not UTF-8 text"]
        file.write_bytes(b"#" * 65_537)
        assert mistakes({"AUTOHEAL_CONFIG": str(file)}) == [f"{file}: is larger than 64KiB"]
        directory = f"{file.parent}: cannot be read: Is a directory"
        assert mistakes({"AUTOHEAL_CONFIG": str(file.parent)}) == [directory]


class TestSecrets:
    def test_from_a_file_that_a_variable_names(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_text(SECRET + "\r\n")
        settings = load({"AUTOHEAL_SIGNING_KEY_FILE": str(path)})
        assert settings.signing_key is not None
        assert settings.signing_key.get_secret_value() == SECRET.encode()

    def test_such_a_variable_goes_before_the_directory(self, secrets: Path, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("named")
        (secrets / "autoheal_store_password").write_text("mounted")
        settings = load_settings(
            {"AUTOHEAL_STORE_PASSWORD_FILE": str(tmp_path / "password")},
            secrets_directory=secrets,
        )
        assert settings.store_password is not None
        assert settings.store_password.get_secret_value() == "named"

    def test_files_that_are_not_as_they_should_be(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        where = "AUTOHEAL_SIGNING_KEY_FILE"
        assert mistakes({where: str(path)}) == [f"{where}: there is no file {path}"]
        path.write_text("\n")
        assert mistakes({where: str(path)}) == [f"{where}: {path}: is empty"]
        path.write_bytes(b"\xff" * 32)
        assert mistakes({where: str(path)}) == [f"{where}: {path}: is not UTF-8 text"]
        path.write_text("x" * 65_537)
        assert mistakes({where: str(path)}) == [f"{where}: {path}: is larger than 64KiB"]
        unreadable = f"{where}: {tmp_path}: cannot be read: Is a directory"
        assert mistakes({where: str(tmp_path)}) == [unreadable]

    def test_given_twice(self) -> None:
        environment = {"AUTOHEAL_SIGNING_KEY": SECRET, "AUTOHEAL_SIGNING_KEY_FILE": "/nowhere/key"}
        assert mistakes(environment) == [
            "AUTOHEAL_SIGNING_KEY_FILE: AUTOHEAL_SIGNING_KEY is given too: leave one of them out"
        ]

    def test_a_password_has_no_place_in_an_address(self) -> None:
        for url in ("redis://engine:hunter2@store", "redis://store?password=hunter2"):
            (line,) = mistakes({"AUTOHEAL_STORE_URL": url})
            assert line == (
                "AUTOHEAL_STORE_URL: holds a password, which would end up in logs:"
                " give it as AUTOHEAL_STORE_PASSWORD"
            )

    def test_they_are_shown_nowhere(self) -> None:
        settings = load(
            {
                "AUTOHEAL_STORE_PASSWORD": SECRET,
                "AUTOHEAL_SIGNING_KEY": SECRET,
                "AUTOHEAL_WEBHOOK_URL": f"https://hooks.example/{SECRET}",
                "AUTOHEAL_ALERTMANAGER_URL": f"http://us:{SECRET}@alerts:9093",
            }
        )
        for shown in (repr(settings), str(settings), f"{settings}"):
            assert "hunter2" not in shown
            assert "@alerts:9093" in shown

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SIGNING_KEY", "hunter2"),
            ("WEBHOOK_URL", "hunter2"),
            ("WEBHOOK_URL", "https://hunter2:port/"),
            ("STORE_PASSWORD", "hunter2" * 1000),
            ("ALERTMANAGER_URL", "htp://us:hunter2@alerts"),
            ("STORE_URL", "redis:engine:hunter2@store"),
        ],
    )
    def test_not_even_in_the_error_or_its_causes(self, name: str, value: str) -> None:
        with pytest.raises(SettingsError) as caught:
            load({f"AUTOHEAL_{name}": value})
        told = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in told
        assert caught.value.__context__ is None

    @pytest.mark.parametrize(
        "text",
        [
            "signing_key: *hunter2\n",
            "signing_key: !hunter2!x abc\n",
            "signing_key: &hunter2 short\n",
            "signing_key: 'hunter2\n",
            "signing_key: [hunter2]\n",
            "signing_key: hunter2: x\n",
            "signing_key: @hunter2\n",
            "mode: live\nsigning_key:hunter2\n",
            'signing_key: "\\hunter2"\n',
        ],
    )
    def test_nor_in_an_error_of_the_file(self, file: Path, text: str) -> None:
        (line,) = file_mistakes(file, text)
        assert "hunter2" not in line
