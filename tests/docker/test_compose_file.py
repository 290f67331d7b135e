"""docker-compose.yml can't drift from the code: its roles, settings, secrets, and who reaches whom."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from dotenv import dotenv_values

from deploy.docker import keyring
from local.lock import IMAGES
from local.supervisor import HOME
from sandbox.microsoft import certificates
from services.audit.settings import AuditSettings
from services.auth.settings import AuthSettings
from services.gateway.settings import GatewaySettings
from services.invitations.settings import InvitationsSettings
from services.referrals.settings import ReferralsSettings
from shared import permissions, probe
from shared.settings import ServiceSettings, StoreSettings
from tests.docker.compose_file import STORING, blocks, compose_file, is_ours, reachable, roles, runs, service_of

SETTINGS: Final[dict[str, type[ServiceSettings]]] = {
    each.service: each
    for each in (AuthSettings, ReferralsSettings, InvitationsSettings, AuditSettings, GatewaySettings)
}
SANDBOX: Final = dotenv_values(HOME / "deploy" / "docker" / "sandbox.env")
EVERYBODY: Final = blocks(sandbox=True)


def procfile() -> dict[str, str]:
    lines = (HOME / "Procfile").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(" -- python -m ")[2] for line in lines}


def variables_of(settings: type[ServiceSettings]) -> dict[str, str]:
    """Name the variables of a service, each with its field."""
    names: dict[str, str] = {}
    for field, info in settings.model_fields.items():
        alias = info.validation_alias
        choices = [alias] if isinstance(alias, str) else getattr(alias, "choices", [])
        names |= {str(choice): field for choice in choices}
    return names


def interpolated(value: Any, variables: dict[str, str | None]) -> str:
    """Fill in variables as Compose does."""
    text, before = str(value), ""
    while text != before:
        before = text
        text = re.sub(r"\$\{(\w+):-([^${}]*)\}", lambda m: variables.get(m[1]) or m[2], text)
    return text


def environment_of(block: dict[str, Any], variables: dict[str, str | None]) -> dict[str, str]:
    """Give the environment of a container; a setting without a value is taken over where it is set."""
    given = {
        name: variables.get(name) if value is None else interpolated(value, variables)
        for name, value in block["environment"].items()
    }
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the first step of a deployment makes: a folder for each reader."""
    home = tmp_path_factory.mktemp("secrets")
    for volume in EVERYBODY["secrets"]["volumes"]:
        (home / volume.rpartition("/")[2]).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyring, "HOME", home)
        patch.setattr(keyring, "USER_ID", os.getuid())
        keyring.ensure()
        yield home


# --- roles and steps


def test_there_is_one_block_for_each_role_with_the_same_command() -> None:
    containers = {name: " ".join(block["command"]) for name, block in EVERYBODY.items() if is_ours(block)}
    local = {name: command for name, command in procfile().items() if not name.startswith("sandbox")}
    assert {name: containers.get(name) for name in local} == local
    assert set(roles()) == set(local)
    assert {name for name in containers if name.startswith("sandbox")} == set(procfile()) - set(local)


def test_before_the_roles_come_secrets_topology_and_the_migrations_of_each_service() -> None:
    steps = {name for name, block in blocks().items() if not runs(block)}
    assert steps == {"secrets", "topology", *(f"{service}-migrate" for service in STORING)}
    for name, block in roles().items():
        own = [f"{service_of(block)}-migrate"] if service_of(block) in STORING else []
        needed = {each for each, how in block["depends_on"].items() if how.get("required", True)}
        assert needed == {"topology", *own}, name
        assert all(block["depends_on"][each]["condition"] == "service_completed_successfully" for each in needed)


def test_each_image_is_built_from_its_own_code_and_packages() -> None:
    built = [(service_of(block), block["build"]["args"]) for block in EVERYBODY.values() if "build" in block]
    assert sorted(name for name, _ in built) == sorted(IMAGES), "each once: built side by side, one would undo another"
    for name, arguments in built:
        assert arguments["SERVICE"] == name
        code = arguments.get("CODE", f"services/{name}")
        assert (HOME / code / "__init__.py").is_file()
        assert (HOME / "requirements" / f"{name}.txt").is_file()
    ours = [block for block in EVERYBODY.values() if is_ours(block)]
    assert {block["image"] for block in ours} == {f"partner-hub-{name}:${{TAG:-latest}}" for name in IMAGES}
    assert {block["pull_policy"] for block in ours} == {"never"}, "a registry might have somebody else's of that name"


# --- settings and secrets


@pytest.mark.parametrize("role", roles())
def test_every_variable_of_a_role_is_one_of_its_services_settings(role: str) -> None:
    block = roles()[role]
    assert set(block["environment"]) - set(variables_of(SETTINGS[service_of(block)])) == set()


def test_every_line_of_the_sandboxs_settings_is_read_by_somebody() -> None:
    text = (HOME / "docker-compose.yml").read_text()
    unread = [name for name in SANDBOX if not re.search(rf"\b{name}\b", text)]
    assert unread == ["COMPOSE_PROFILES"]
    assert all(SANDBOX.values())


@pytest.mark.parametrize("settings_file", [{}, SANDBOX], ids=["nothing", "sandbox"])
@pytest.mark.parametrize("role", roles())
def test_a_role_can_start_with_what_it_is_given(
    role: str, settings_file: dict[str, str | None], secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block = roles()[role]
    service = service_of(block)
    for name in variables_of(SETTINGS[service]):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment_of(block, settings_file).items():
        here = value.replace("/run/secrets", str(secrets / service)).replace("/sandbox/", f"{tmp_path}/")
        monkeypatch.setenv(name, here)
    certificates.issue(tmp_path, [])
    monkeypatch.setattr("shared.settings._SECRETS", secrets / service)

    settings = SETTINGS[service].load()

    assert settings.host == "0.0.0.0"  # noqa: S104 - of a container
    port = settings.worker_port if isinstance(settings, StoreSettings) and role.endswith("worker") else settings.port
    assert f":{port}/" in probe.READY, "where the health check of the image looks"
    assert settings.amqp_url.get_secret_value().startswith(f"amqp://partner_hub_{service}:")


def test_every_secret_is_a_setting_of_the_one_who_can_read_it(secrets: Path) -> None:
    held = {folder.name: {file.name for file in folder.iterdir()} for folder in secrets.iterdir()}
    for service, settings in SETTINGS.items():
        assert held.pop(service) - set(variables_of(settings)) <= {"audit-signing.pem"}
    assert held == {
        "migrate": {"OWNER_DATABASE_URL", *(f"{service.upper()}_DATABASE_URL" for service in STORING)},
        "topology": {"AMQP_URL"},
        "postgres": {"owner-password"},
        "rabbitmq": {"definitions.json"},
    }


def test_a_container_is_given_the_secrets_of_its_own_reader_alone_and_cannot_write_them() -> None:
    readers = {name: service_of(block) for name, block in roles().items()}
    readers |= {"topology": "topology", "postgres": "postgres", "rabbitmq": "rabbitmq"}
    readers |= {f"{service}-migrate": "migrate" for service in STORING}
    for name, block in EVERYBODY.items():
        mounted = [volume for volume in block.get("volumes", []) if volume.startswith("secrets-")]
        if name != "secrets":
            assert mounted == ([f"secrets-{readers[name]}:/run/secrets:ro"] if name in readers else []), name


def test_secrets_are_made_once_and_readable_by_their_reader_alone(secrets: Path) -> None:
    files = [path for path in secrets.rglob("*") if path.is_file()]
    first = {path: path.read_text() for path in files if path.name != "definitions.json"}
    keyring.ensure()
    assert {path: path.read_text() for path in first} == first
    assert len(set(first.values())) == len(first) - len(STORING), "only the addresses that migrate shares with services"
    open_to_all = {path.parent.name for path in files if path.stat().st_mode & 0o004}
    assert open_to_all == {"postgres", "rabbitmq"}, "whose users only their images know"


def test_the_broker_is_given_a_user_with_its_rights_for_each_service_and_no_password(secrets: Path) -> None:
    definitions = (secrets / "rabbitmq" / "definitions.json").read_text()
    for service in permissions.SERVICES:
        address = (secrets / service / f"{service.upper()}_AMQP_URL").read_text()
        assert f'"partner_hub_{service}"' in definitions
        assert permissions.User.of(address).password not in definitions


def test_a_secret_can_be_replaced_and_a_stranger_is_refused(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.write_text("smtps://user:password@mail.example.com\n")
    kept = secrets / "auth" / "AUTH_SMTP_URL"
    with given.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        keyring.put("auth", "AUTH_SMTP_URL")
        assert kept.read_text() == "smtps://user:password@mail.example.com"
        assert kept.stat().st_mode & 0o777 == 0o400
        with pytest.raises(SystemExit, match="nobody is none of audit, auth"):
            keyring.put("nobody", "AUTH_SMTP_URL")
        with pytest.raises(SystemExit, match="standard input"):
            keyring.put("auth", "AUTH_SMTP_URL")
    kept.unlink()


def test_no_secret_stands_in_the_file() -> None:
    text = (HOME / "docker-compose.yml").read_text() + (HOME / "deploy" / "docker" / "sandbox.env").read_text()
    secret = r"^\s*\w*(?:PASSWORD|SECRET_KEYS|CACHE_KEYS|AUTH_TOKEN|AMQP_URL|DATABASE_URL|SMTP_URL)\s*[:=]"
    assert re.findall(secret, text, re.MULTILINE) == []


# --- confinement


@pytest.mark.parametrize("name", EVERYBODY)
def test_a_container_is_confined(name: str) -> None:
    block = EVERYBODY[name]
    assert block["read_only"] is True
    assert block["cap_drop"] == ["ALL"]
    assert block["security_opt"] == ["no-new-privileges:true"]
    assert block["init"] is True
    assert {"cpus", "memory", "pids"} <= set(block["deploy"]["resources"]["limits"])
    if is_ours(block) and name != "secrets":
        assert not {"user", "cap_add"} & set(block)


@pytest.mark.parametrize("name", [name for name, block in EVERYBODY.items() if runs(block)])
def test_what_runs_comes_back_after_a_crash_and_has_time_to_stop(name: str) -> None:
    block = EVERYBODY[name]
    assert block["restart"] == "unless-stopped"
    assert not block.get("healthcheck", {}).get("disable", False)
    if name in roles():
        drain = SETTINGS[service_of(block)].model_fields["drain_seconds"].default
        assert float(block["stop_grace_period"].removesuffix("s")) > drain


def test_the_broker_holds_publishers_back_before_its_container_is_full() -> None:
    configuration = (HOME / "deploy" / "rabbitmq" / "rabbitmq.conf").read_text()
    watermark = re.search(r"^vm_memory_high_watermark.absolute = (\d+)MB$", configuration, re.MULTILINE)
    assert watermark
    assert EVERYBODY["rabbitmq"]["deploy"]["resources"]["limits"]["memory"] == "1G"
    assert 512 <= int(watermark[1]) < 1000
    assert EVERYBODY["rabbitmq"]["hostname"] == "rabbitmq"


# --- who reaches whom


def test_the_host_publishes_the_gateway_and_nothing_else() -> None:
    assert [name for name, block in blocks().items() if block.get("ports")] == ["gateway"]
    assert all(
        block["ports"][0].startswith("127.0.0.1:") for name, block in EVERYBODY.items() if name.startswith("sandbox")
    )


def test_a_service_reaches_its_servers_and_its_own_roles_and_of_the_others_only_the_keys_of_auth() -> None:
    allowed = {("gateway", "rabbitmq"), ("postgres", "rabbitmq")}
    for service in STORING:
        api, worker = f"{service}-api", f"{service}-worker"
        allowed |= {(role, server) for role in (api, worker) for server in ("postgres", "rabbitmq")}
        allowed |= {(api, worker), ("gateway", api)}
        allowed |= {(api, "auth-api")} if service != "auth" else set()
    assert reachable() == allowed | {(other, one) for one, other in allowed}


def test_only_what_must_gets_out_to_the_world() -> None:
    networks = compose_file()["networks"]
    outside = {name for name, network in networks.items() if not (network or {}).get("internal")}
    assert outside == {"front", "auth", "referrals", "invitations"}
    assert set(networks) == {name for block in EVERYBODY.values() for name in block.get("networks", [])}
