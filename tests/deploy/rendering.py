"""The manifests as Kubernetes would get them: rendered by kustomize itself, and read with a few questions in mind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("single-node", "cluster")
# The package brings it for Linux alone.
KUBECTL = Path(sys.executable).with_name("kubectl")

Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """Build an overlay."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns"
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@dataclass(frozen=True)
class Manifests:
    """All objects of one overlay."""

    overlay: str
    objects: list[Object]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        (found,) = [item for item in self.of_kind(kind) if name_of(item) == name]
        return found

    @property
    def roles(self) -> dict[str, Object]:
        """What runs for ever and is ours: no server, no job."""
        return {
            name_of(item): item
            for item in self.of_kind("Deployment", "StatefulSet")
            if item["metadata"]["labels"].get("app.kubernetes.io/component") in {"api", "worker", "gateway"}
        }

    @property
    def jobs(self) -> dict[str, Object]:
        return {name_of(item): item for item in self.of_kind("Job")}

    @property
    def pods(self) -> dict[str, Object]:
        """The template of every pod, by the name of what makes it."""
        made = {name_of(item): pod_of(item) for item in self.of_kind("Deployment", "StatefulSet", "Job", "CronJob")}
        assert len(made) == len(self.of_kind("Deployment", "StatefulSet", "Job", "CronJob"))
        return made

    def settings_of(self, workload: Object) -> dict[str, str]:
        """The variables that a container gets from the maps of settings."""
        variables: dict[str, str] = {}
        for source in container_of(workload).get("envFrom", []):
            variables |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container_of(workload).get("env", []):
            variables[variable["name"]] = variable["value"]
        return variables


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


def pod_of(item: Object) -> Object:
    spec: Object = item["spec"]
    template: Object = (spec["jobTemplate"]["spec"] if item["kind"] == "CronJob" else spec)["template"]
    return template


def container_of(item: Object) -> Object:
    (container,) = pod_of(item)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def secret_files(item: Object) -> dict[str, tuple[str, str]]:
    """Give the files that a pod finds in /run/secrets, each with its secret and the key in it."""
    files: dict[str, tuple[str, str]] = {}
    for volume in pod_of(item)["spec"]["volumes"]:
        if volume["name"] != "secrets":
            continue
        sources = [source["secret"] for source in volume["projected"]["sources"]] if "projected" in volume else []
        for secret in sources or [volume["secret"] | {"name": volume["secret"]["secretName"]}]:
            files |= {entry["path"]: (secret["name"], entry["key"]) for entry in secret["items"]}
    return files


def secret_references(value: Any) -> Iterator[tuple[str, str]]:
    """Find every secret and key that is named anywhere in an object."""
    if isinstance(value, Mapping):
        if reference := value.get("secretKeyRef"):
            yield reference["name"], reference["key"]
        if isinstance(value.get("items"), list) and ("secretName" in value or "name" in value):
            yield from ((value.get("secretName") or value["name"], entry["key"]) for entry in value["items"])
        for entry in value.get("secretTargetRef", []):
            yield entry["name"], entry["key"]
        for part in value.values():
            yield from secret_references(part)
    elif isinstance(value, list):
        for part in value:
            yield from secret_references(part)


def matches(selector: Object, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector takes these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    expressions: Iterable[Object] = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
