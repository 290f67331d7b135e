"""Brings the whole system up on this machine, step by step, and takes it down again."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from local import infrastructure, records
from local.accounts import SPONSOR_ID, Account, make_accounts, seed_of, sign_in_data
from local.client import Client
from local.environment import STORING, Surroundings
from local.errors import LocalError
from local.processes import tail
from local.progress import step
from local.stack_file import describe, restarts, write_environment
from local.supervisor import HOME, is_supervised, start_roles, stop_roles
from shared import permissions

SANDBOX_ROLES: Final = ("sandbox-microsoft", "sandbox-provider")
NOT_FOUND: Final = httpx.codes.NOT_FOUND
READY_SECONDS: Final = 120
HOPELESS_RESTARTS: Final = 4  # a role that was started so often will not come up by being waited for
STOCK: Final = {"S": 5_000, "M": 60, "L": 40, "XL": 20}


def up(run_dir: Path) -> dict[str, Any]:
    """Start everything from nothing; gives what stack.json says."""
    down(run_dir)  # what a crash left
    shutil.rmtree(run_dir / "logs", ignore_errors=True)
    servers = infrastructure.start(run_dir)
    surroundings = Surroundings(run_dir, servers)
    variables = surroundings.environment()
    accounts = make_accounts()
    with step("Starting the sandbox") as note:
        start_roles(run_dir, variables, SANDBOX_ROLES)
        _wait(run_dir, lambda: _silent_sandboxes(surroundings), note)
    _prepare(surroundings, variables, accounts)
    with step("Starting the services") as note:
        start_roles(run_dir, variables, list(surroundings.ready_urls))
        _wait(run_dir, lambda: _not_ready(surroundings), note)
    with step("Giving sponsor 6 codes of every tier, through the gateway"):
        stock_codes(surroundings.gateway_url, accounts["admin"])
    stack = _description(surroundings, accounts)
    describe(run_dir, stack)
    write_environment(run_dir, variables)
    return stack


def down(run_dir: Path) -> None:
    """Stop everything of this run and forget its data; the logs stay."""
    stop_roles(run_dir)
    # What is in a given database can only be opened with the keys that it was sealed with.
    ours = (run_dir / "postgres.json").exists()
    infrastructure.stop(run_dir)
    for folder in ("secrets", "uploads", "sandbox-microsoft", "audit-checkpoints") if ours else ("uploads",):
        shutil.rmtree(run_dir / folder, ignore_errors=True)


def _prepare(surroundings: Surroundings, variables: Mapping[str, str], accounts: dict[str, Account]) -> None:
    """Make what must be there before any service starts."""
    owner = {"OWNER_DATABASE_URL": surroundings.servers.postgres_url}
    with step("Declaring exchanges and queues"):
        _make_broker_users(surroundings)
        declarer = {"AMQP_URL": surroundings.amqp_url(permissions.OWNER)}
        _run_all(surroundings.run_dir, {"topology": ["shared.bus", "declare"]}, {**variables, **declarer})
    with step("Migrating the schemas"):
        migrations = {f"{name}-migrate": [f"services.{name}", "migrate"] for name in STORING}
        _run_all(surroundings.run_dir, migrations, {**variables, **owner})
    with step("Adding the demo accounts"):
        seed = surroundings.run_dir / "secrets" / "seed.json"
        records.write_private(seed, seed_of(accounts))
        _run_all(surroundings.run_dir, {"auth-seed": ["services.auth", "seed", str(seed)]}, variables)


def _make_broker_users(surroundings: Surroundings) -> None:
    """Give each service a user at a broker of ours, with the rights that its part in the topology needs."""
    if surroundings.servers.is_broker_given:
        return
    users = {name: permissions.User.of(surroundings.amqp_url(name)) for name in permissions.rights()}
    surroundings.servers.broker.import_definitions(json.dumps(permissions.definitions(users)))


def _run_all(run_dir: Path, commands: Mapping[str, list[str]], variables: Mapping[str, str]) -> None:
    """Run modules side by side to their end; each has its log."""
    environment = {**os.environ, **variables}
    running = {}
    for name, arguments in commands.items():
        with (run_dir / "logs" / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", *arguments]
            running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=HOME, env=environment)
    ended = {name: process.wait() for name, process in running.items()}
    for name, code in ended.items():
        if code:
            log_file = run_dir / "logs" / f"{name}.log"
            raise LocalError(f"{name} failed with exit code {code}; the end of {log_file}:\n{tail(log_file)}")


def _wait(run_dir: Path, missing: Callable[[], list[str]], note: Callable[[str], None]) -> None:
    """Wait until nothing is missing any more; a role that cannot start is told with the end of its log."""
    deadline = time.monotonic() + READY_SECONDS
    while names := missing():
        note(f"waiting for {', '.join(names)}")
        hopeless = [name for name in names if restarts(run_dir, name) >= HOPELESS_RESTARTS]
        if hopeless or time.monotonic() > deadline:
            role = (hopeless or names)[0]
            log = run_dir / "logs" / f"{role}.log"
            why = "ends whenever it is started" if hopeless else f"is not ready after {READY_SECONDS} s"
            raise LocalError(f"{role} {why}; the end of {log}:\n{tail(log)}")
        if not is_supervised(run_dir):
            raise LocalError(f"honcho ended; the end of its log:\n{tail(run_dir / 'logs' / 'honcho.log')}")
        time.sleep(0.3)


def _silent_sandboxes(surroundings: Surroundings) -> list[str]:
    authority = surroundings.microsoft_dir / "ca.pem"
    trust: Any = ssl.create_default_context(cafile=authority) if authority.exists() else False
    silent = []
    if not trust or not _answers(f"{surroundings.microsoft_url}/_sandbox/state", verify=trust):
        silent.append("sandbox-microsoft")
    if not _answers(f"{surroundings.provider_url}/healthz"):
        silent.append("sandbox-provider")
    return silent


def _not_ready(surroundings: Surroundings) -> list[str]:
    return [role for role, url in surroundings.ready_urls.items() if not _answers(url, status="ready")]


def _answers(url: str, *, verify: Any = True, status: str | None = None) -> bool:
    """Tell whether a role answers well; the gateway also answers 200 while it is degraded."""
    try:
        answer = httpx.get(url, timeout=5, verify=verify, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success and (status is None or answer.json()["status"] == status)


def stock_codes(gateway_url: str, admin: Account) -> None:
    """Give sponsor 6 what the tour spends, as an admin does."""
    with Client(gateway_url) as client:
        client.sign_in(admin.email, admin.password)
        for tier, count in STOCK.items():
            body = {"sponsorId": SPONSOR_ID, "tier": tier, "count": count}
            # The accounts reach invitations as events: until they do, it knows no such sponsor.
            deadline = time.monotonic() + 30
            while (answer := client.call("POST", "/api/Sponsorship/admin/codes", json=body)).status_code == NOT_FOUND:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.3)
            if not answer.is_success:
                raise LocalError(f"Codes could not be added: {answer.status_code} {answer.text}")


def _description(surroundings: Surroundings, accounts: dict[str, Account]) -> dict[str, Any]:
    roles = [*surroundings.ready_urls, *SANDBOX_ROLES]
    logs = surroundings.run_dir / "logs"
    return {
        "gateway_url": surroundings.gateway_url,
        "sandbox": {
            "microsoft": surroundings.microsoft_url,
            "microsoft_ca_file": str(surroundings.microsoft_dir / "ca.pem"),
            "provider": surroundings.provider_url,
        },
        "accounts": sign_in_data(accounts),
        "postgres_url": surroundings.servers.postgres_url,
        "database_urls": {name: surroundings.database_url(name) for name in STORING},
        "amqp_url": surroundings.servers.amqp_url,
        "management_url": surroundings.servers.management_url,
        "health_urls": surroundings.ready_urls,
        "logs": {role: str(logs / f"{role}.log") for role in roles},
    }
