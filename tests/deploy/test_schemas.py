"""Every object fits the schema of its kind: Kubernetes' own, or for the kinds of operators what we use of theirs."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from tests.deploy.rendering import Manifests, Object, name_of

SCHEMAS = Path(__file__).parent / "schemas"
# The oldest version that has all that we use (the sleep before a stop), and the newest that the schemas know.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
OPERATORS = {"rabbitmq.com", "postgresql.cnpg.io", "keda.sh"}


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> Iterator[None]:
    """The package reads two megabytes anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


def check(item: Object, version: str) -> None:
    """Check one object; raises ValidationError."""
    group = item["apiVersion"].partition("/")[0]
    if group in OPERATORS:
        name = f"{item['apiVersion'].replace('/', '-')}-{item['kind']}.yaml"
        jsonschema.validate(item, yaml.safe_load((SCHEMAS / name).read_text()))
    else:
        kubernetes_validate.validate(item, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_its_schema(manifests: Manifests, version: str) -> None:
    for item in manifests.objects:
        try:
            check(item, version)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{item['kind']} {name_of(item)}: {error.message} at {error.json_path}")


def _misspelled_probe(item: Object) -> None:
    item["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}


def _text_for_a_number(item: Object) -> None:
    item["spec"]["minReplicas"] = "two"


def _even_number_of_nodes(item: Object) -> None:
    item["spec"]["replicas"] = 2


def _unknown_durability(item: Object) -> None:
    item["spec"]["postgresql"]["synchronous"]["dataDurability"] = "perhaps"


def _number_for_a_text(item: Object) -> None:
    item["spec"]["triggers"][0]["metadata"]["value"] = 200


@pytest.mark.parametrize(
    ("kind", "name", "damage"),
    [
        ("Deployment", "auth-api", _misspelled_probe),
        ("HorizontalPodAutoscaler", "gateway", _text_for_a_number),
        ("RabbitmqCluster", "rabbitmq", _even_number_of_nodes),
        ("Cluster", "postgres", _unknown_durability),
        ("ScaledObject", "auth-worker", _number_for_a_text),
    ],
)
def test_a_mistake_is_noticed(cluster: Manifests, kind: str, name: str, damage: Callable[[Any], None]) -> None:
    item = copy.deepcopy(cluster.named(kind, name))
    damage(item)
    with pytest.raises(jsonschema.ValidationError):
        check(item, VERSIONS[-1])
