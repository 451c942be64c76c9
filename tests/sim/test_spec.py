"""Service specs as those who write scenarios describe them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from autoheal.sim.container import Limits
from autoheal.sim.program import release_of
from autoheal.sim.spec import DIGEST, released, scaled, service_spec
from sim.worlds import MIB, NANO


def template(**given: Any) -> dict[str, Any]:  # noqa: ANN401  # as service_spec takes it
    found: dict[str, Any] = service_spec("web", **given)["TaskTemplate"]
    return found


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, Limits(0.5, 256 * MIB)),
        ({"cpus": 0.1, "memory": MIB}, Limits(0.1, MIB)),
        ({"cpus": None, "memory": None}, Limits(None, None)),
    ],
)
def test_limits_are_in_cores_and_bytes(given: dict[str, Any], limits: Limits) -> None:
    assert Limits.of(template(**given)) == limits


@pytest.mark.parametrize(
    ("pinned", "image"), [(True, f"shop/web:7@{DIGEST}"), (False, "shop/web:7")]
)
def test_the_image_names_the_release_and_perhaps_its_digest(*, pinned: bool, image: str) -> None:
    made = template(release="7", pinned=pinned)
    assert made["ContainerSpec"]["Image"] == image
    assert release_of(made) == "7"


def test_a_health_check_is_only_made_where_it_is_asked_for() -> None:
    assert "Healthcheck" not in template()["ContainerSpec"]
    check = template(check_every_s=5)["ContainerSpec"]["Healthcheck"]
    assert (check["Interval"], check["Retries"]) == (5 * NANO, 3)


def test_policies_are_given_over_dockers_defaults() -> None:
    spec = service_spec("web", restart={"MaxAttempts": 2}, update={"Order": "start-first"})
    assert spec["TaskTemplate"]["RestartPolicy"] == {
        "Condition": "any",
        "Delay": 5 * NANO,
        "MaxAttempts": 2,
    }
    assert spec["UpdateConfig"] == {
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": 5 * NANO,
        "Order": "start-first",
    }


@pytest.mark.parametrize("pinned", [True, False])
def test_a_release_differs_in_image_and_environment_alone(*, pinned: bool) -> None:
    old = service_spec("web", release="1", pinned=pinned)
    old["TaskTemplate"]["ContainerSpec"]["Env"].append("OTHER=1")
    before = copy.deepcopy(old)
    new = released(old, "2")
    assert old == before
    container = service_spec("web", release="2", pinned=pinned)["TaskTemplate"]["ContainerSpec"]
    container["Env"].insert(0, "OTHER=1")
    assert new["TaskTemplate"]["ContainerSpec"] == container
    new["TaskTemplate"]["ContainerSpec"] = old["TaskTemplate"]["ContainerSpec"]
    assert new == old


def test_a_scaled_spec_differs_in_its_replicas_alone() -> None:
    old = service_spec("web", replicas=1)
    new = scaled(old, 4)
    assert old["Mode"]["Replicated"]["Replicas"] == 1
    assert new == service_spec("web", replicas=4)
