"""The system in containers, as docker-compose.yml describes it: brought up, looked into, killed, taken down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from local.accounts import Account, make_accounts, seed_of, sign_in_data
from local.containers import docker
from local.errors import LocalError
from local.processes import free_port, tail
from local.progress import step
from local.stack import stock_codes
from local.supervisor import HOME

SANDBOX: Final = "deploy/docker/sandbox.env"
UP_SECONDS: Final = 600
BUILD_SECONDS: Final = 1_800


@dataclass(frozen=True)
class Compose:
    """One deployment with the sandbox, under a name and on ports of its own; a `local.tour.system.System`."""

    run_dir: Path
    project: str
    tag: str = "latest"
    gateway: int = field(default_factory=free_port)
    microsoft: int = field(default_factory=free_port)
    provider: int = field(default_factory=free_port)

    def up(self) -> dict[str, Any]:
        """Build and start everything, add the demo accounts and their codes; gives what stack.json says elsewhere."""
        self.down()
        with step("Building the images"):
            self.run("build", log=True, seconds=BUILD_SECONDS)
        with step("Starting the containers"):
            self.run("up", "--detach", "--wait", log=True, seconds=UP_SECONDS)
        accounts = make_accounts()
        with step("Adding the demo accounts, and codes of every tier for sponsor 6"):
            self._seed(accounts)
            stock_codes(self.gateway_url, accounts["admin"])
        # What the browser of the tour must trust.
        authority = self.run_dir / "sandbox-ca.pem"
        self.run("cp", "sandbox-microsoft:/data/ca.pem", str(authority))
        return {
            "gateway_url": self.gateway_url,
            "sandbox": {
                "microsoft": f"https://127.0.0.1:{self.microsoft}",
                "microsoft_ca_file": str(authority),
                "provider": f"http://127.0.0.1:{self.provider}",
            },
            "accounts": sign_in_data(accounts),
        }

    def down(self) -> None:
        """Remove every container of this deployment, and its data."""
        self.run("down", "--volumes", "--remove-orphans", seconds=UP_SECONDS)

    @property
    def gateway_url(self) -> str:
        """The one address that clients call."""
        return f"http://127.0.0.1:{self.gateway}"

    @property
    def log(self) -> Path:
        """What building and starting said."""
        return self.run_dir / "compose.log"

    def run(self, *arguments: str, stdin: str = "", log: bool = False, seconds: float = 120) -> str:
        """Run `docker compose` on this deployment; gives its output, or writes it to the log."""
        command = [shutil.which("docker") or "docker", "compose", "--ansi=never", *arguments]
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            done = subprocess.run(
                command,
                cwd=HOME,
                env=os.environ | self.environment,
                input=stdin,
                stdout=file if log else subprocess.PIPE,
                stderr=file if log else subprocess.PIPE,
                text=True,
                timeout=seconds,
                check=False,
            )
        if done.returncode:
            said = tail(self.log) if log else (done.stderr + done.stdout).strip()
            raise LocalError(f"docker compose {' '.join(arguments)} failed:\n{said}")
        return str(done.stdout or "")

    def keep_logs(self) -> None:
        """Save what every container has said, before it is removed."""
        (self.run_dir / "containers.log").write_text(self.run("logs", "--no-color", "--timestamps"))

    def log_of(self, role: str) -> str:
        """Give everything that a role has said."""
        # Of Docker itself: `docker compose logs` puts terminal sequences into its lines, colours or not.
        return "\n".join(docker("logs", container) for container in self.run("ps", "--all", "--quiet", role).split())

    def sql(self, service: str, statement: str) -> Any:
        """Ask the database one figure, with a service's rights and in its schema."""
        own = [f"SET SESSION AUTHORIZATION partner_hub_{service}", f"SET search_path = {service}"]
        psql = ["psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "partner_hub"]
        asked = f"SELECT to_json(({statement.rstrip(';')}))"
        return json.loads(self.run("exec", "-T", "postgres", *psql, stdin=";\n".join([*own, asked]) + ";\n"))

    def containers_of(self, role: str) -> list[str]:
        """Name the running containers of a role."""
        return self.run("ps", "--quiet", role).split()

    def life_of(self, role: str) -> str | None:
        """Name the container that plays a role now, and since when."""
        found = self.run("ps", "--all", "--quiet", role).split()
        format_ = "{{.Name}} since {{.State.StartedAt}} {{.State.Running}}"
        said = docker("inspect", "--format", format_, found[0]).strip() if found else ""
        name, _, runs = said.rpartition(" ")
        return f"container {name.lstrip('/')}" if runs == "true" else None

    def kill(self, role: str) -> None:
        """End every process in a role's container with kill -9, as a crash would; its restart policy brings it back."""
        try:
            self.run("exec", "-T", role, "sh", "-c", "kill -9 -1")
        except LocalError:  # the command itself ends with the container
            if self.run("ps", "--all", "--quiet", role):
                return
            raise

    def _seed(self, accounts: dict[str, Account]) -> None:
        command = ["python", "-m", "services.auth", "seed", "/dev/stdin"]
        self.run("exec", "-T", "auth-worker", *command, stdin=seed_of(accounts))

    @property
    def environment(self) -> dict[str, str]:
        """Give the variables with which `docker compose` means this deployment."""
        return {
            "COMPOSE_ENV_FILES": SANDBOX,
            "COMPOSE_PROJECT_NAME": self.project,
            "TAG": self.tag,
            "GATEWAY_PUBLISHED": f"127.0.0.1:{self.gateway}",
            "PUBLIC_URL": self.gateway_url,
            "SANDBOX_MICROSOFT_PORT": str(self.microsoft),
            "SANDBOX_PROVIDER_PORT": str(self.provider),
        }
