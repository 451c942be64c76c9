"""What goes over the wire, and what becomes of answers and of silence."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoheal.adapters.alertmanager import Alertmanager
from autoheal.adapters.webhook import Webhook
from autoheal.errors import RemoteRefused, RemoteUnreachable, UserError
from autoheal.model import ActionKind, Evidence, Mode
from autoheal.notifier import Destination, Escalation
from autoheal.ports import Notifier
from executor.fakes import START_MS, FakeClock, World, a_decision
from notifier.listener import Listener
from notifier.scenes import a_notifier, fires, run

Build = Callable[..., Notifier]

DECISION = a_decision(
    action=ActionKind.ESCALATE,
    start=0,
    target=1,
    rule="crash-loop",
    service_name="shop_web",
    severity="critical",
    reason="7 task_failed in 10m, at least 5",
    evidence=(
        Evidence("task_failed over 10m", 7.0, "at least 5"),
        Evidence("tasks_stable over 1m", 33.25, "below 100"),
    ),
)
FIRING = Escalation(DECISION, START_MS)
OVER = Escalation(DECISION, START_MS, START_MS + 90_500)


def alertmanager(url: str, **options: Any) -> Alertmanager:  # noqa: ANN401  # its own arguments
    return Alertmanager(url, **{"clock": FakeClock(), "mode": Mode.LIVE, **options})


def webhook(url: str, **options: Any) -> Webhook:  # noqa: ANN401  # its own arguments
    return Webhook(url, **{"mode": Mode.LIVE, **options})


BOTH = pytest.mark.parametrize("build", [alertmanager, webhook])


def test_alertmanager_gets_a_firing_alert_that_ends_by_itself(listener: Listener) -> None:
    clock = FakeClock()
    clock.advance(10)
    alertmanager(listener.url + "/", clock=clock, resend_s=30.0).send([FIRING])
    (received,) = listener.received
    assert received.path == "/api/v2/alerts"
    assert received.headers["Content-Type"] == "application/json"
    assert received.body == [
        {
            "labels": {
                "alertname": "AutohealEscalation",
                "rule": "crash-loop",
                "service": "shop_web",
                "severity": "critical",
                "mode": "live",
            },
            "annotations": {
                "summary": "shop_web: crash-loop: 7 task_failed in 10m, at least 5",
                "description": (
                    "7 task_failed in 10m, at least 5\n"
                    "task_failed over 10m: 7 (at least 5)\n"
                    "tasks_stable over 1m: 33.25 (below 100)"
                ),
                "decision": DECISION.id,
            },
            "startsAt": "2023-11-14T22:13:20.000Z",
            "endsAt": "2023-11-14T22:15:30.000Z",
        }
    ]


@pytest.mark.parametrize(
    ("subject", "words", "label"),
    [
        ("node:n1", "node worker", {"node": "n1"}),
        ("stack:shop", "stack shop", {"stack": "shop"}),
        ("swarm", "the swarm", {}),
    ],
)
def test_alertmanager_is_told_what_services_share_that_one_alert_stands_for(
    listener: Listener, subject: str, words: str, label: dict[str, str]
) -> None:
    decision = replace(DECISION, service=subject, service_name=words, reason="it is down")
    alertmanager(listener.url).send([Escalation(decision, START_MS)])
    (told,) = listener.received[0].body
    assert told["labels"] == {
        "alertname": "AutohealEscalation",
        "rule": "crash-loop",
        "service": words,
        "severity": "critical",
        "mode": "live",
        **label,
    }
    assert told["annotations"]["summary"] == f"{words}: crash-loop: it is down"


def test_alertmanager_gets_the_end_as_it_was(listener: Listener) -> None:
    clock = FakeClock()
    clock.advance(200)
    alertmanager(listener.url, clock=clock).send([FIRING, OVER])
    firing, over = listener.received[0].body
    assert over["endsAt"] == "2023-11-14T22:14:50.500Z"
    assert over["labels"] == firing["labels"]
    assert over["startsAt"] == firing["startsAt"]


def test_a_store_whose_clock_is_ahead_does_not_make_alerts_end_before_they_start(
    listener: Listener,
) -> None:
    hour_ms = 3_600_000
    ahead = Escalation(DECISION, START_MS + hour_ms)
    over = Escalation(DECISION, START_MS + hour_ms, START_MS + hour_ms + 1)
    alertmanager(listener.url).send([ahead, over])
    for told in listener.received[0].body:
        assert told["startsAt"] == "2023-11-14T22:13:20.000Z", "not in the future"
        assert told["startsAt"] < told["endsAt"]


def test_alertmanager_below_a_path_is_found(listener: Listener) -> None:
    alertmanager(listener.url + "/alerts/here").send([FIRING])
    assert listener.received[0].path == "/alerts/here/api/v2/alerts"


def test_a_webhook_gets_one_object_per_alert(listener: Listener) -> None:
    webhook(listener.url + "/hook?token=1").send([FIRING, OVER])
    first, second = listener.received
    assert first.path == "/hook?token=1"
    assert first.body == {
        "version": 1,
        "status": "firing",
        "rule": "crash-loop",
        "service": "shop_web",
        "severity": "critical",
        "mode": "live",
        "reason": "7 task_failed in 10m, at least 5",
        "evidence": [
            {"what": "task_failed over 10m", "value": 7.0, "bound": "at least 5"},
            {"what": "tasks_stable over 1m", "value": 33.25, "bound": "below 100"},
        ],
        "decision": DECISION.id,
        "started": "2023-11-14T22:13:20.000Z",
        "ended": None,
    }
    assert second.body == {
        **first.body,
        "status": "resolved",
        "ended": "2023-11-14T22:14:50.500Z",
    }


@BOTH
@pytest.mark.parametrize("decided", list(Mode))
@pytest.mark.parametrize("process", list(Mode))
def test_the_mode_is_the_lower_one(
    listener: Listener, build: Build, decided: Mode, process: Mode
) -> None:
    decision = a_decision(action=ActionKind.ESCALATE, max_mode=decided)
    build(listener.url, mode=process).send([Escalation(decision, START_MS)])
    body = listener.received[0].body
    mode = body[0]["labels"]["mode"] if isinstance(body, list) else body["mode"]
    assert mode == ("live" if decided is process is Mode.LIVE else "dry-run")


@BOTH
def test_user_and_password_in_the_url_become_basic_authentication(
    listener: Listener, build: Build
) -> None:
    build(f"http://us%40er:p%3Ass@127.0.0.1:{listener.port}").send([FIRING])
    scheme, _, secret = listener.received[0].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(secret)) == ("Basic", b"us@er:p:ss")


@BOTH
def test_a_token_goes_out_as_a_bearer_token(listener: Listener, build: Build) -> None:
    build(listener.url, token="t0ken").send([FIRING])  # noqa: S106  # no secret of anybody's
    assert listener.received[0].headers["Authorization"] == "Bearer t0ken"


@BOTH
@pytest.mark.parametrize("status", [301, 400, 401, 404, 500, 503])
def test_any_answer_but_success_is_a_refusal_in_the_remotes_words(
    listener: Listener, build: Build, status: int
) -> None:
    listener.answers = [(status, "not\n  today " + "x" * 500)] if status != 301 else [(301, "/y")]
    with pytest.raises(RemoteRefused) as refused:
        build(listener.url).send([FIRING])
    assert refused.value.status == status
    assert len(refused.value.detail) <= 200
    if status != 301:
        assert refused.value.detail.startswith("not today xxx")
    assert len(listener.received) == 1


@BOTH
def test_a_remote_that_says_nothing_is_unreachable(listener: Listener, build: Build) -> None:
    listener.answers = [(0, "")]
    with pytest.raises(RemoteUnreachable, match="ReadTimeout"):
        build(listener.url, timeout_s=0.05).send([FIRING])


@BOTH
def test_no_secret_of_the_url_is_told_when_nobody_answers(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    url = "http://user:secret1@127.0.0.1:1/services/secret2?token=secret3"
    fires(world)
    run(world, a_notifier(world, Destination(build(url, token="secret4"))))  # noqa: S106  # nobody's
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "http://127.0.0.1:1: ConnectionError" in told
    assert "secret" not in told
    with pytest.raises(RemoteUnreachable) as unreachable:
        build(url).send([FIRING])
    assert unreachable.value.__cause__ is None


@BOTH
@pytest.mark.parametrize("url", ["", "hook.example", "ftp://hook", "http://", "http:///path"])
def test_a_url_that_is_none_is_the_users_mistake(build: Build, url: str) -> None:
    with pytest.raises(UserError, match="must start with http:// or https://"):
        build(url)


@pytest.mark.parametrize("host", ["host:port", "host:99999", "[::1", "host:0"])
def test_a_url_that_cannot_be_read_is_the_users_mistake_and_stays_secret(host: str) -> None:
    with pytest.raises(UserError) as mistake:
        webhook(f"http://user:secret@{host}/")
    assert "secret" not in str(mistake.value)
    assert mistake.value.__cause__ is None
