"""The environment of every process of one local run: addresses, ports and secrets, made anew for each."""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from local import records
from local.infrastructure import Servers
from local.processes import free_port

STORING: Final = ("auth", "referrals", "invitations", "audit")
SERVICES: Final = (*STORING, "gateway")
# Any tenant and application will do: the sandbox knows none that would be wrong.
TENANT_ID: Final = "6f1c9a52-3d0b-4c58-9d86-0d3f4f0c7b11"
CLIENT_ID: Final = "b2a4e1d7-58c3-4f0e-8a6d-91f7c02e3a44"


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _signed_in(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc.rpartition('@')[2]}"))


@dataclass(frozen=True)
class Ports:
    """Where each role listens."""

    api: Mapping[str, int] = field(default_factory=lambda: {name: free_port() for name in SERVICES})
    worker: Mapping[str, int] = field(default_factory=lambda: {name: free_port() for name in STORING})
    microsoft: int = field(default_factory=free_port)
    provider: int = field(default_factory=free_port)


@dataclass(frozen=True)
class Surroundings:
    """One run: its folder, its servers, its ports, and what the processes are told of them."""

    run_dir: Path
    servers: Servers
    ports: Ports = field(default_factory=Ports)

    @property
    def gateway_url(self) -> str:
        """The one address that clients call."""
        return _url(self.ports.api["gateway"])

    @property
    def microsoft_url(self) -> str:
        """The stand-in of Microsoft."""
        return f"https://127.0.0.1:{self.ports.microsoft}"

    @property
    def provider_url(self) -> str:
        """The stand-in of the messaging providers."""
        return _url(self.ports.provider)

    @property
    def microsoft_dir(self) -> Path:
        """Where the stand-in of Microsoft puts the certificate that its clients must trust."""
        return self.run_dir / "sandbox-microsoft"

    @property
    def ready_urls(self) -> dict[str, str]:
        """Where each role of the services tells whether it is ready."""
        apis = {"gateway" if name == "gateway" else f"{name}-api": port for name, port in self.ports.api.items()}
        workers = {f"{name}-worker": port for name, port in self.ports.worker.items()}
        return {role: f"{_url(port)}/readyz" for role, port in (apis | workers).items()}

    def database_url(self, service: str) -> str:
        """Give a service's own door to the database."""
        return _signed_in(self.servers.postgres_url, f"partner_hub_{service}", self._secret(f"postgres-{service}"))

    def amqp_url(self, user: str) -> str:
        """Give the door to the broker of a service, or of the owner of the topology; a given broker has one for all."""
        if self.servers.is_broker_given:
            return self.servers.amqp_url
        return _signed_in(self.servers.amqp_url, f"partner_hub_{user}", self._secret(f"rabbitmq-{user}"))

    def environment(self) -> dict[str, str]:
        """Give the variables of every role; each reads those with its own prefix."""
        variables = self._general() | self._of_outside_systems() | self._of_stores()
        for name, port in self.ports.api.items():
            variables[f"{name.upper()}_PORT"] = str(port)
            variables[f"{name.upper()}_AMQP_URL"] = self.amqp_url(name)
            # honcho ends what still runs 5 s after it was told to stop.
            variables[f"{name.upper()}_DRAIN_SECONDS"] = "4"
        for name, port in self.ports.worker.items():
            variables[f"{name.upper()}_WORKER_PORT"] = str(port)
            variables[f"GATEWAY_{name.upper()}_URL"] = _url(self.ports.api[name])
        return variables

    def _general(self) -> dict[str, str]:
        return {
            "ENVIRONMENT": "development",
            "LOG_LEVEL": "INFO",
            "GATEWAY_SECRET_KEYS": self._key("gateway"),
            "JWKS_URL": f"{_url(self.ports.api['auth'])}/.well-known/jwks.json",
            "SANDBOX_MICROSOFT_PORT": str(self.ports.microsoft),
            "SANDBOX_MICROSOFT_DIR": str(self.microsoft_dir),
            "SANDBOX_PROVIDER_PORT": str(self.ports.provider),
            "SANDBOX_VERIMOR_REPORT_URL": self._verimor_report_url(),
        }

    def _of_stores(self) -> dict[str, str]:
        """Give each service a login role of its own, and keys that no other has."""
        urls = {f"{name.upper()}_DATABASE_URL": self.database_url(name) for name in STORING}
        uploads = self.run_dir / "uploads"
        uploads.mkdir(exist_ok=True)
        return urls | {
            "AUTH_SECRET_KEYS": self._key("auth"),
            "AUTH_RESET_DELIVERY": "log",
            "AUTH_PUBLIC_URL": self.gateway_url,
            "INVITATIONS_SECRET_KEYS": self._key("invitations"),
            "INVITATIONS_UPLOAD_FOLDER": str(uploads),
            "INVITATIONS_LINK_BASE_URL": self.gateway_url,
            "INVITATIONS_CALLBACK_BASE_URL": self.gateway_url,
            # The sandbox answers at once, so what a killed worker had in hand need not be waited for as long.
            "INVITATIONS_PROVIDER_SECONDS": "5",
            "INVITATIONS_LEASE_SECONDS": "25",
            "AUDIT_SECRET_KEYS": self._key("audit"),
            "AUDIT_SIGNING_KEY_FILE": str(self.run_dir / "secrets" / "audit-signing.pem"),
            "AUDIT_CHECKPOINT_DIR": str(self.run_dir / "audit-checkpoints"),
        }

    def _of_outside_systems(self) -> dict[str, str]:
        return {
            "HUNTER_PARTNER_CENTER_ENABLED": "true",
            "HUNTER_PARTNER_CENTER_TENANT_ID": TENANT_ID,
            "HUNTER_PARTNER_CENTER_CLIENT_ID": CLIENT_ID,
            "HUNTER_PARTNER_CENTER_AUTHORITY": self.microsoft_url,
            "HUNTER_PARTNER_CENTER_API_URL": self.microsoft_url,
            "HUNTER_PARTNER_CENTER_CA_FILE": str(self.microsoft_dir / "ca.pem"),
            "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS": self._key("token-cache"),
            "INVITATIONS_VERIMOR_URL": self.provider_url,
            "INVITATIONS_VERIMOR_USERNAME": "sandbox",
            "INVITATIONS_VERIMOR_PASSWORD": self._secret("verimor"),
            "INVITATIONS_VERIMOR_SENDER": "PARTNERHUB",
            "INVITATIONS_TWILIO_URL": self.provider_url,
            "INVITATIONS_TWILIO_ACCOUNT_SID": f"AC{self._secret('twilio-sid')[:32]}",
            "INVITATIONS_TWILIO_AUTH_TOKEN": self._secret("twilio"),
            "INVITATIONS_TWILIO_FROM": "+15005550006",  # the number that Twilio's own documentation tests with
            "INVITATIONS_TWILIO_CONTENT_SID": "HX" + "0" * 32,
        }

    def _verimor_report_url(self) -> str:
        """Give what `python -m services.invitations report-address` says, for the stand-in's panel."""
        key = hmac.digest(self._secret("verimor").encode(), b"verimor delivery reports", "sha256").hex()
        return f"{self.gateway_url}/callbacks/verimor?key={key}"

    def _secret(self, name: str) -> str:
        return self._kept(name, lambda: secrets.token_hex(20))

    def _key(self, name: str) -> str:
        return self._kept(f"{name}-key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        """Give a secret of this run; it is made once, and lies where only its owner can read it."""
        path = self.run_dir / "secrets" / name
        if not path.exists():
            records.write_private(path, make())
        return path.read_text()
