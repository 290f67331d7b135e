"""What a running container may do and reach, seen from inside it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from local.compose import Compose
from local.containers import docker
from shared import permissions
from tests.docker.compose_file import STORING, reachable, roles
from tests.docker.conftest import inspect
from tests.shared.test_database_rights import forbidden_statements

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]

INSIDE: Final = """
import json, pathlib
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
def write(path):
    try:
        pathlib.Path(path).write_text("x")
        return True
    except OSError:
        return False
paths = ["/app/services/planted.py", "/venv/planted", "/etc/planted", "/run/secrets/planted", "/tmp/written"]
print(json.dumps({**{name: status[name].split()[0] for name in ("Uid", "CapEff", "CapBnd", "NoNewPrivs")},
    "written": [path for path in paths if write(path)]}))
"""
KNOCK: Final = """
import concurrent.futures, json, socket, sys
def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
        return True
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(20) as knocking:
    doors = json.load(sys.stdin)
    opened = knocking.map(lambda door: answers(*door), doors)
    print(json.dumps([door[0] for door, is_open in zip(doors, opened) if is_open]))
"""
PORTS: Final = {"postgres": 5432, "rabbitmq": 5672}
ASK: Final = """
import asyncio, asyncpg, json, sys
from shared.settings import find_setting
async def main(service, statements):
    connection = await asyncpg.connect(find_setting(f"{service.upper()}_DATABASE_URL"))
    allowed = []
    for statement in statements:
        try:
            await connection.execute(statement)
            allowed.append(statement)
        except asyncpg.InsufficientPrivilegeError:
            pass
    return allowed
print(json.dumps(asyncio.run(main(*json.load(sys.stdin)))))
"""
BROKER: Final = """
import asyncio, aiormq, json, sys
from shared.settings import find_setting
async def main(service, other, queue):
    done = []
    connection = await aiormq.connect(find_setting(f"{service.upper()}_AMQP_URL"))
    async def publish(channel):
        await channel.basic_publish(b"{}", exchange="events", routing_key=f"{other}.audit.recorded.v1")
    async def consume(channel):
        await channel.basic_consume(queue, print)
    async def declare(channel):
        await channel.queue_declare(f"{service}.of-its-own")
    for deed in (publish, consume, declare):
        channel = await connection.channel()
        try:
            await deed(channel)
            done.append(deed.__name__)
        except aiormq.exceptions.ChannelAccessRefused:
            pass
    await connection.close()
    return done
print(json.dumps(asyncio.run(main(*json.load(sys.stdin)))))
"""


def inside(deployment: Compose, role: str, program: str, given: Any = None) -> Any:
    return json.loads(deployment.run("exec", "-T", role, "python", "-c", program, stdin=json.dumps(given)))


@pytest.mark.parametrize("role", roles())
def test_a_role_has_no_right_that_it_does_not_need_and_writes_nowhere(deployment: Compose, role: str) -> None:
    assert inside(deployment, role, INSIDE) == {
        "Uid": "10001",
        "CapEff": "0000000000000000",
        "CapBnd": "0000000000000000",
        "NoNewPrivs": "1",
        "written": ["/tmp/written"],  # noqa: S108 - in the container, in memory
    }


@pytest.mark.parametrize("role", roles())
def test_a_role_reaches_those_that_it_shares_a_network_with_and_nobody_else(deployment: Compose, role: str) -> None:
    others = sorted({*roles(), *PORTS} - {role})
    found = inside(deployment, role, KNOCK, [(name, PORTS.get(name, 8000)) for name in others])
    assert found == [name for name in others if (role, name) in reachable()]


def test_the_host_can_reach_the_gateway_and_the_outside_worlds_stand_ins(deployment: Compose) -> None:
    published = {}
    for container in deployment.run("ps", "--quiet").split():
        known = inspect("container", container)
        ports = known["NetworkSettings"]["Ports"]
        published[known["Config"]["Labels"]["com.docker.compose.service"]] = {
            f"{binding['HostIp']}:{inner}" for inner, bindings in ports.items() for binding in bindings or []
        }
    reachable_from_here = {name for name, where in published.items() if where}
    assert reachable_from_here == {"gateway", "sandbox-microsoft", "sandbox-provider"}
    assert {where for each in published.values() for where in each} == {"127.0.0.1:8000/tcp"}


# --- secrets


def test_no_secret_is_told_by_docker_or_by_any_log(deployment: Compose) -> None:
    reading = "import json, pathlib; print(json.dumps([p.read_text() for p in pathlib.Path('/run/secrets').iterdir()]))"
    values = {value for role in roles() for value in inside(deployment, role, reading)}
    # An address is no secret, but what stands between its user and its host is.
    secrets = {match[1] if (match := re.search(r"://[^:]+:([^@]+)@", value)) else value for value in values}
    assert len(secrets) >= 4 + 5 + 4, "a database and a broker password each, and sealing keys"
    told = deployment.run("config") + deployment.run("logs", "--no-color")
    for container in deployment.run("ps", "--quiet").split():
        told += json.dumps(inspect("container", container)) + docker("top", container)
    for image in set(deployment.run("config", "--images").split()):
        told += docker("history", "--no-trunc", image)
    assert [secret for secret in secrets if secret in told] == []


@pytest.mark.parametrize("role", roles())
def test_the_environment_of_a_role_holds_no_secret(deployment: Compose, role: str) -> None:
    names = inside(deployment, role, "import json, os; print(json.dumps(list(os.environ)))")
    assert not any(re.search(r"PASSWORD|_KEYS|_TOKEN$|DATABASE_URL|AMQP_URL|SMTP_URL", name) for name in names)


# --- the servers


@pytest.mark.parametrize("service", STORING)
def test_a_service_can_do_nothing_in_the_database_that_is_not_its_own(deployment: Compose, service: str) -> None:
    statements = forbidden_statements(service, {name: _tables(deployment, name) for name in STORING})
    assert inside(deployment, f"{service}-api", ASK, [service, statements]) == []


def _tables(deployment: Compose, service: str) -> list[str]:
    names = f"SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = '{service}'"  # noqa: S608 - ours
    return str(deployment.sql(service, names)).split()


@pytest.mark.parametrize("service", STORING)
def test_a_service_can_neither_speak_for_another_nor_listen_to_it(deployment: Compose, service: str) -> None:
    other = "auth" if service != "auth" else "referrals"
    queue = "invitations.events" if service != "invitations" else "audit.events.auth"
    assert inside(deployment, f"{service}-worker", BROKER, [service, other, queue]) == []


def test_the_broker_knows_the_users_of_the_topology_and_no_other(deployment: Compose) -> None:
    users = deployment.run("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_users", "--formatter=json")
    assert {user["user"]: user["tags"] for user in json.loads(users)} == {
        f"partner_hub_{name}": [] for name in permissions.rights()
    }


def test_nobody_but_the_owner_and_the_services_may_sign_in_to_the_database(deployment: Compose) -> None:
    powers = "rolsuper OR rolcreatedb OR rolreplication OR rolbypassrls"
    asked = f"SELECT json_object_agg(rolname, {powers}) FROM pg_roles WHERE rolcanlogin"  # noqa: S608 - a constant
    assert deployment.sql("auth", asked) == {
        "postgres": True,
        "partner_hub": False,
        **{f"partner_hub_{service}": False for service in STORING},
    }


def test_a_command_of_an_operator_runs_in_a_container(deployment: Compose) -> None:
    said = deployment.run("exec", "-T", "audit-worker", "python", "-m", "services.audit", "verify")
    assert said.startswith("OK: ") or "\nOK: " in said
    assert "signs from" in deployment.run("exec", "-T", "auth-worker", "python", "-m", "services.auth", "list-keys")
