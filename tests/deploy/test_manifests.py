"""The manifests say what the code needs: roles, settings, ports, queues, and no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from local.environment import SERVICES, STORING
from services.audit.settings import AuditSettings
from services.auth.settings import AuthSettings
from services.gateway.settings import GatewaySettings
from services.invitations.settings import InvitationsSettings
from services.referrals.settings import ReferralsSettings
from shared import permissions, settings, topology
from shared.settings import ServiceSettings, StoreSettings
from tests.deploy.rendering import (
    ROOT,
    Manifests,
    Object,
    container_of,
    matches,
    name_of,
    pod_of,
    secret_files,
    secret_references,
)

SETTINGS: dict[str, type[ServiceSettings]] = {
    "auth": AuthSettings,
    "referrals": ReferralsSettings,
    "invitations": InvitationsSettings,
    "audit": AuditSettings,
    "gateway": GatewaySettings,
}
# What may lie in a secret's file; a variable of another name must not be a file.
SECRETS = {
    "DATABASE_URL": "postgresql://partner_hub_x:secret@postgres-rw/partner_hub",
    "AMQP_URL": "amqp://partner_hub_x:secret@rabbitmq/",
    "_KEYS": "8xYp0D6nqj7lF6FuX9cT2b1mK5sQeWgHrZvAoJdNiUE=",
    "SMTP_URL": "smtps://user:secret@mail.example.com",
    "AUDIT-SIGNING": "a key",
}


def service_of(workload: Object) -> str:
    return str(workload["metadata"]["labels"]["app.kubernetes.io/name"])


def component_of(workload: Object) -> str:
    return str(workload["metadata"]["labels"]["app.kubernetes.io/component"])


def variables_of(field: FieldInfo) -> list[str]:
    """Name the variables that a setting is read from."""
    alias: Any = field.validation_alias
    return [alias] if isinstance(alias, str) else list(alias.choices)


def known_variables(service: str) -> set[str]:
    return {name for field in SETTINGS[service].model_fields.values() for name in variables_of(field)}


def default_of(name: str) -> Any:
    return (StoreSettings if name in StoreSettings.model_fields else ServiceSettings).model_fields[name].default


def test_every_role_of_the_procfile_runs_as_what_it_is(manifests: Manifests) -> None:
    lines = [line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines()]
    commands = {name: command.partition(" -- ")[2].split() for name, command in lines}
    wanted = {name: command for name, command in commands.items() if command[2].startswith("services.")}
    assert {name: container_of(role)["command"] for name, role in manifests.roles.items()} == wanted
    for name, role in manifests.roles.items():
        service = service_of(role)
        assert container_of(role)["image"].startswith(f"partner-hub-{service}:"), name
        assert pod_of(role)["spec"]["serviceAccountName"] == service


def test_what_must_run_before_the_code_is_a_job(manifests: Manifests) -> None:
    wanted = {f"{service}-migrate": ["python", "-m", f"services.{service}", "migrate"] for service in STORING}
    wanted |= {
        "topology": ["python", "-m", "shared.bus", "declare"],
        "broker-users": ["python", "-m", "shared.bus", "users"],
    }
    assert {name: container_of(job)["command"] for name, job in manifests.jobs.items()} == wanted
    for job in manifests.jobs.values():
        assert job["metadata"]["labels"]["partner-hub/step"] == "preparation"


def test_every_setting_that_is_set_is_known_and_none_that_is_needed_is_missing(manifests: Manifests) -> None:
    for name, role in manifests.roles.items():
        service = service_of(role)
        files = {file for file in secret_files(role) if file.isupper()}
        variables = manifests.settings_of(role).keys()
        assert (variables | files) - known_variables(service) == set(), f"{name} does not read these"
        assert variables & files == set(), f"{name} has these twice"
        for field in SETTINGS[service].model_fields.values():
            if field.is_required():
                assert {*variables, *files} & set(variables_of(field)), f"{name} needs {variables_of(field)}"


def test_each_service_accepts_its_settings_in_production(
    manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, role in manifests.roles.items():
        mounted = tmp_path / name
        mounted.mkdir()
        for file in secret_files(role):
            (mounted / file).write_text(next((text for part, text in SECRETS.items() if part in file.upper()), "x"))
        monkeypatch.setattr(settings, "_SECRETS", mounted)
        with monkeypatch.context() as patch:
            for variable in known_variables(service_of(role)):
                patch.delenv(variable, raising=False)
            for variable, value in manifests.settings_of(role).items():
                patch.setenv(variable, value.replace("/run/secrets", str(mounted)))
            loaded = SETTINGS[service_of(role)].load()
        assert loaded.environment == "production", name
        assert loaded.host == "0.0.0.0", f"{name} listens where nobody reaches it"  # noqa: S104


def test_secrets_are_files_where_the_settings_look_for_them_and_never_settings(manifests: Manifests) -> None:
    for name, role in {**manifests.roles, **manifests.jobs}.items():
        (mount,) = [item for item in container_of(role)["volumeMounts"] if item["name"] == "secrets"]
        assert mount["mountPath"] == str(settings._SECRETS), name
        assert mount["readOnly"]
    secret = {
        variable
        for model in SETTINGS.values()
        for field in model.model_fields.values()
        if SecretStr in (field.annotation, *getattr(field.annotation, "__args__", ()))
        for variable in variables_of(field)
    }
    for item in manifests.of_kind("ConfigMap"):
        assert item["data"].keys() & secret == set(), name_of(item)
    assert manifests.of_kind("Secret") == []


def test_a_pod_sees_the_secrets_of_its_own_service_alone(manifests: Manifests) -> None:
    for name, role in manifests.roles.items():
        assert {secret for secret, _ in secret_files(role).values()} == {service_of(role)}, name
    for service in STORING:
        files = secret_files(manifests.jobs[f"{service}-migrate"])
        assert files == {
            f"{service.upper()}_DATABASE_URL": (service, f"{service.upper()}_DATABASE_URL"),
            "OWNER_DATABASE_URL": ("database-owner", "OWNER_DATABASE_URL"),
        }


def test_the_users_of_the_broker_are_made_from_every_address_of_the_topology(manifests: Manifests) -> None:
    files = set(secret_files(manifests.jobs["broker-users"]))
    wanted = {f"{service.upper()}_AMQP_URL" for service in permissions.SERVICES} | {"AMQP_URL"}
    assert files == wanted | {"RABBITMQ_ADMIN_USERNAME", "RABBITMQ_ADMIN_PASSWORD"}


def test_ports_are_those_that_the_code_listens_on(manifests: Manifests) -> None:
    for name, role in manifests.roles.items():
        port = default_of("worker_port" if component_of(role) == "worker" else "port")
        (declared,) = container_of(role)["ports"]
        assert declared["containerPort"] == port, name
        assert not [variable for variable in manifests.settings_of(role) if variable.endswith("_PORT")]
        assert pod_of(role)["metadata"]["annotations"]["prometheus.io/port"] == str(port)
    for service in manifests.of_kind("Service"):
        if service["spec"].get("clusterIP") != "None":
            assert service["spec"]["ports"] == [{"name": "http", "port": default_of("port"), "targetPort": "http"}]


def test_addresses_in_the_settings_are_services_that_exist(manifests: Manifests) -> None:
    services = {name_of(item): item for item in manifests.of_kind("Service")}
    for name, role in manifests.roles.items():
        for variable, value in manifests.settings_of(role).items():
            if host := re.fullmatch(r"http://([a-z-]+):(\d+)(/.*)?", value):
                ports = [port["port"] for port in services[host[1]]["spec"]["ports"]]
                assert int(host[2]) in ports, f"{name}: {variable}"
    for name, service in services.items():
        chosen = [
            pod for pod, template in manifests.pods.items()
            if matches({"matchLabels": service["spec"]["selector"]}, template["metadata"]["labels"])
        ]  # fmt: skip
        assert chosen == [{"postgres-rw": "postgres"}.get(name, name)]


def test_liveness_asks_nothing_that_a_restart_would_not_mend(manifests: Manifests) -> None:
    for name, role in manifests.roles.items():
        container = container_of(role)
        (port,) = container["ports"]
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert paths["startup"] == paths["liveness"] == {"path": "/healthz", "port": port["name"]}, name
        assert paths["readiness"] == {"path": "/readyz", "port": port["name"]}
        # Asking the database may take as long as connecting does; a slow answer is no failure of the process.
        assert container["livenessProbe"]["failureThreshold"] * container["livenessProbe"]["periodSeconds"] >= 60


def test_a_pod_has_the_time_to_finish_what_it_has_begun(manifests: Manifests) -> None:
    drain = default_of("drain_seconds")
    for name, role in manifests.roles.items():
        assert not [variable for variable in manifests.settings_of(role) if variable.endswith("_DRAIN_SECONDS")]
        sleep = container_of(role).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        closing = 20 if component_of(role) == "worker" else 0  # two connections to the broker, ten seconds for each
        assert pod_of(role)["spec"]["terminationGracePeriodSeconds"] > sleep + drain + closing, name
        assert sleep or component_of(role) == "worker", f"{name} gets requests until it is out of its Service"


def test_every_pod_has_the_least_rights(manifests: Manifests) -> None:
    for name, pod in manifests.pods.items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        assert not any("hostPath" in volume for volume in spec["volumes"]), name
        if container["image"].startswith("partner-hub-"):
            assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001, name


def test_queues_that_scale_workers_exist_and_are_theirs(cluster: Manifests) -> None:
    scaled = cluster.of_kind("ScaledObject")
    queues = {queue.name: queue for queue in topology.QUEUES}
    for item in scaled:
        service = service_of(cluster.roles[item["spec"]["scaleTargetRef"]["name"]])
        assert item["spec"]["minReplicaCount"] >= 2, "the relay and the schedules need a standby"
        wanted = {queue.name for queue in topology.QUEUES if queue.service == service}
        triggers = [trigger["metadata"]["queueName"] for trigger in item["spec"]["triggers"]]
        assert set(triggers) == wanted
        assert all(queues[name].service == service for name in triggers)
        for trigger in item["spec"]["triggers"]:
            (secret,) = cluster.named("TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"][
                "secretTargetRef"
            ]
            assert (secret["name"], secret["key"]) == (service, f"{service.upper()}_AMQP_URL")
    # One sync at a time and one sealer at a time: more workers would only wait.
    assert {item["spec"]["scaleTargetRef"]["name"] for item in scaled} == {"auth-worker", "invitations-worker"}


def test_every_role_survives_the_loss_of_a_machine(cluster: Manifests) -> None:
    most = most_replicas(cluster)
    for name, role in cluster.roles.items():
        assert most[name][0] >= 2, name
        assert "replicas" not in role["spec"] or name in {"audit-worker", "referrals-worker"}, (
            f"{name} would be set back to that number by every rollout, whatever its autoscaler has decided"
        )
        labels = pod_of(role)["metadata"]["labels"]
        (budget,) = [
            item for item in cluster.of_kind("PodDisruptionBudget") if matches(item["spec"]["selector"], labels)
        ]
        assert budget["spec"]["minAvailable"] < most[name][0], name
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        keys = {constraint["topologyKey"] for constraint in pod_of(role)["spec"]["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, name


def most_replicas(manifests: Manifests) -> dict[str, tuple[int, int]]:
    """Give the least and the most replicas of each role."""
    numbers = {name: (role["spec"].get("replicas", 1),) * 2 for name, role in manifests.roles.items()}
    for item in manifests.of_kind("HorizontalPodAutoscaler"):
        numbers[item["spec"]["scaleTargetRef"]["name"]] = (item["spec"]["minReplicas"], item["spec"]["maxReplicas"])
    for item in manifests.of_kind("ScaledObject"):
        spec = item["spec"]
        numbers[spec["scaleTargetRef"]["name"]] = (spec["minReplicaCount"], spec["maxReplicaCount"])
    return numbers


def test_postgres_takes_the_connections_of_all_replicas_at_once(manifests: Manifests) -> None:
    needed = 0
    for name, (_, most) in most_replicas(manifests).items():
        if service_of(manifests.roles[name]) in STORING:
            relay = component_of(manifests.roles[name]) == "worker"
            surge = manifests.roles[name]["kind"] == "Deployment"
            needed += (most + surge) * (default_of("database_pool_size") + relay)
    if manifests.overlay == "cluster":
        limit = int(manifests.named("Cluster", "postgres")["spec"]["postgresql"]["parameters"]["max_connections"])
    else:
        (option,) = [arg for arg in container_of(manifests.named("StatefulSet", "postgres"))["args"] if "=" in arg]
        limit = int(option.partition("=")[2])
    assert needed + 20 <= limit, "20 for owners, backups and operators"


def test_the_servers_of_the_cluster_keep_what_they_confirmed_when_a_machine_is_lost(cluster: Manifests) -> None:
    postgres = cluster.named("Cluster", "postgres")["spec"]
    assert postgres["instances"] == 3
    assert postgres["postgresql"]["synchronous"] == {"method": "any", "number": 1, "dataDurability": "required"}
    assert cluster.named("RabbitmqCluster", "rabbitmq")["spec"]["replicas"] == 3


def test_images_are_named_with_a_version(manifests: Manifests) -> None:
    images = {container_of(item)["image"] for item in manifests.of_kind("Deployment", "StatefulSet", "Job")}
    images |= {pod["spec"]["containers"][0]["image"] for pod in manifests.pods.values()}
    assert all(re.fullmatch(r".+:(?!latest)[\w.-]+", image) for image in images), images
    ours = {image.partition(":")[0].removeprefix("partner-hub-") for image in images if image.startswith("partner-hub")}
    assert ours == {*SERVICES, "setup"}


def test_every_secret_that_is_named_is_in_the_documentation(manifests: Manifests) -> None:
    text = (ROOT / "docs" / "deployability.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \|", text, flags=re.MULTILINE)
    documented = {(secret, key) for secret, keys in rows for key in re.findall(r"`([\w.-]+)`", keys)}
    named = {reference for item in manifests.objects for reference in secret_references(item)}
    assert named
    assert named - documented == set()


def test_compose_runs_the_same_roles_and_steps_from_the_same_images(single_node: Manifests) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    compose = {
        name: (service["image"].partition(":")[0], ["python", "-m", *service["command"]])
        for name, service in services.items()
        if service["image"].startswith("partner-hub-") and not service.get("profiles")
    }
    # On Kubernetes secrets come from elsewhere; compose has the users of the broker in a file that it reads.
    del compose["secrets"]
    kubernetes = {
        name: (container_of(item)["image"].partition(":")[0], container_of(item)["command"])
        for name, item in {**single_node.roles, **single_node.jobs}.items()
    }
    del kubernetes["broker-users"]
    assert kubernetes == compose


def test_servers_are_of_the_versions_that_compose_has(single_node: Manifests) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("postgres", "rabbitmq"):
        assert container_of(single_node.named("StatefulSet", name))["image"] == services[name]["image"]
