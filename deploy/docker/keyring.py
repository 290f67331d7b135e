"""The first step of a deployment with Compose: every password and key is made once, and each reader gets its own only.

A reader's secrets are files in a volume of its own: here /secrets/<reader>, in the reader's container /run/secrets.
So no secret stands in a file of the host, in the environment of a container or in an image.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared import permissions

HOME: Final = Path("/secrets")
# The user of the images (Dockerfile). PostgreSQL and RabbitMQ run as users that only their images know.
USER_ID: Final = 10_001
OWNER = DATABASE = "partner_hub"  # the owner makes the services' schemas and roles (deploy/postgres/create-owner.sh)
STORING: Final = ("auth", "referrals", "invitations", "audit")
SEALING_KEYS: Final = {
    "auth": "AUTH_SECRET_KEYS",
    "referrals": "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS",
    "invitations": "INVITATIONS_SECRET_KEYS",
    "audit": "AUDIT_SECRET_KEYS",
    "gateway": "GATEWAY_SECRET_KEYS",
}

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def ensure() -> None:
    """Make what is missing; what is there stays, so this may run before every start."""
    databases = {
        name: _keep(name, f"{name.upper()}_DATABASE_URL", partial(_database_url, f"{OWNER}_{name}")) for name in STORING
    }
    brokers = {name: _keep(name, f"{name.upper()}_AMQP_URL", partial(_amqp_url, name)) for name in permissions.SERVICES}
    brokers[permissions.OWNER] = _keep("topology", "AMQP_URL", partial(_amqp_url, permissions.OWNER))
    owner = _keep("migrate", "OWNER_DATABASE_URL", partial(_database_url, OWNER))
    for name, variable in SEALING_KEYS.items():
        _keep(name, variable, _sealing_key)
    _keep("audit", "audit-signing.pem", _signing_key)
    # Until `put` brings those of real accounts; the sandbox takes any.
    for variable in ("INVITATIONS_VERIMOR_PASSWORD", "INVITATIONS_TWILIO_AUTH_TOKEN"):
        _keep("invitations", variable, _password)

    # What servers and steps must know of it; written anew each time, since rights grow with the topology.
    users = {name: permissions.User.of(url) for name, url in brokers.items()}
    _write("rabbitmq", "definitions.json", json.dumps(permissions.definitions(users), indent=2))
    _write("postgres", "owner-password", permissions.User.of(owner).password)
    for name, url in databases.items():
        _write("migrate", f"{name.upper()}_DATABASE_URL", url)
    typer.echo(f"every secret is there, for {', '.join(sorted(path.name for path in HOME.iterdir()))}")


@app.command()
def put(
    reader: Annotated[str, typer.Argument(help="The service that is to know it")],
    name: Annotated[str, typer.Argument(help="The name of its setting")],
) -> None:
    """Give a service a secret from standard input, in place of the one it has; it reads it when it starts again."""
    if not (HOME / reader).is_dir():
        sys.exit(f"{reader} is none of {', '.join(sorted(path.name for path in HOME.iterdir()))}.")
    value = sys.stdin.read().strip()
    if not value:
        sys.exit("Write the secret to standard input.")
    _write(reader, name, value)


def _keep(reader: str, name: str, make: Callable[[], str]) -> str:
    path = HOME / reader / name
    if not path.exists():
        _write(reader, name, make())
    return path.read_text()


def _write(reader: str, name: str, text: str) -> None:
    """Write a file that only its reader can open; it is never seen half written."""
    is_ours = reader not in {"postgres", "rabbitmq"}
    draft = HOME / reader / f".{name}.draft"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o400 if is_ours else 0o444)
        if is_ours:
            os.fchown(file.fileno(), USER_ID, USER_ID)
    draft.replace(HOME / reader / name)


def _password() -> str:
    return secrets.token_hex(20)  # needs no escaping in an address


def _database_url(role: str) -> str:
    return f"postgresql://{role}:{_password()}@postgres:5432/{DATABASE}"


def _amqp_url(user: str) -> str:
    return f"amqp://partner_hub_{user}:{_password()}@rabbitmq:5672/"


def _sealing_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _signing_key() -> str:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


if __name__ == "__main__":
    app()
