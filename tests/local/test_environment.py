"""What each process of a local run is told: no more of the servers than it needs."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from local.environment import SERVICES, STORING, Surroundings
from local.infrastructure import Given, Servers
from local.rabbitmq import PrivateRabbit
from shared import permissions

DATABASE = "postgresql://owner:of-all@127.0.0.1:1/partner_hub"


def surroundings_of_ours(folder: Path) -> Surroundings:
    program = Path("not started")
    broker = PrivateRabbit(folder, server=program, control=program, epmd=program, has_management=False)
    return Surroundings(folder, Servers(Given(DATABASE), broker))


def test_each_service_signs_in_to_our_broker_as_a_user_of_its_own(tmp_path: Path) -> None:
    surroundings = surroundings_of_ours(tmp_path)
    variables = surroundings.environment()
    users = {permissions.User.of(variables[f"{name.upper()}_AMQP_URL"]) for name in SERVICES}
    assert len({user.name for user in users}) == len({user.password for user in users}) == len(SERVICES)
    assert urlsplit(variables["AUTH_AMQP_URL"]).port == urlsplit(surroundings.servers.amqp_url).port
    assert set(permissions.SERVICES) == set(SERVICES)


def test_no_process_is_told_how_the_owners_of_the_servers_sign_in(tmp_path: Path) -> None:
    surroundings = surroundings_of_ours(tmp_path)
    told = " ".join(surroundings.environment().values())
    assert str(urlsplit(surroundings.servers.amqp_url).password) not in told
    assert "of-all" not in told
    assert "AMQP_URL" not in surroundings.environment()


def test_the_passwords_are_kept_for_the_next_start_where_only_their_owner_reads_them(tmp_path: Path) -> None:
    first = surroundings_of_ours(tmp_path)
    passwords = [permissions.User.of(first.amqp_url(name)).password for name in permissions.rights()]
    passwords += [str(urlsplit(first.database_url(name)).password) for name in STORING]
    again = surroundings_of_ours(tmp_path)
    assert permissions.User.of(again.amqp_url("auth")).password in passwords
    kept = {path.read_text(): path for path in (tmp_path / "secrets").iterdir()}
    assert {stat.S_IMODE(kept[password].stat().st_mode) for password in passwords} == {0o600}


def test_the_stand_in_is_told_the_address_for_reports_that_the_service_gives(tmp_path: Path) -> None:
    variables = surroundings_of_ours(tmp_path).environment()
    told = {name: value for name, value in variables.items() if name.startswith(("INVITATIONS_", "LOG_"))}
    command = [sys.executable, "-m", "services.invitations", "report-address"]
    said = subprocess.run(command, env=told, check=True, capture_output=True, text=True).stdout.strip()
    assert variables["SANDBOX_VERIMOR_REPORT_URL"] == said


def test_a_given_broker_is_used_by_everybody_as_it_was_given(tmp_path: Path) -> None:
    given = "amqp://somebody:password@mq.example.com/app"
    surroundings = Surroundings(tmp_path, Servers(Given(DATABASE), Given(given)))
    variables = surroundings.environment()
    assert {variables[f"{name.upper()}_AMQP_URL"] for name in SERVICES} == {given}
    assert surroundings.amqp_url(permissions.OWNER) == given
