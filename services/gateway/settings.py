"""Every setting of the gateway."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import ClassVar, Final, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.sealing import parse_keys
from shared.settings import ServiceSettings

# Public on purpose, and refused in production.
DEVELOPMENT_KEYS: Final = "cGFydG5lci1odWIgZGV2ZWxvcG1lbnQgY29uc29sZSE="

# Private, link-local and loopback addresses (RFC 1918, RFC 4193, RFC 6890).
_INSIDE = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,fc00::/7,fe80::/10"

# As browsers send it (RFC 6454, 6.2): no path, no capital letters; '*' would be everybody.
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.\-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


class GatewaySettings(ServiceSettings):
    """What the gateway reads from its environment; lists are separated by commas, limits hold per replica."""

    service: ClassVar[str] = "gateway"

    auth_url: str
    referrals_url: str
    invitations_url: str
    audit_url: str

    # Calls per minute and address (an IPv6 /64 counts as one), or per account.
    sign_ins_per_minute: int = Field(30, ge=1)
    resets_per_minute: int = Field(10, ge=1)
    public_calls_per_minute: int = Field(120, ge=1)
    callbacks_per_minute: int = Field(60_000, ge=1)
    address_calls_per_minute: int = Field(6_000, ge=1)
    account_calls_per_minute: int = Field(1_200, ge=1)

    # Seal the console's sessions into cookies: the same on every replica, the first seals, all open.
    secret_keys: SecretStr = SecretStr(DEVELOPMENT_KEYS)
    # Browsers keep Secure cookies over https and, most of them, over http from this very machine.
    cookies_secure: bool = True
    time_zone: str = "Europe/Istanbul"

    trusted_proxies: str = ""
    operator_networks: str = _INSIDE
    cors_origins: str = ""

    connections_per_service: int = Field(100, ge=1)
    waiting_per_service: int = Field(1_000, ge=0)
    connect_seconds: float = Field(2.0, gt=0)
    idle_seconds: float = Field(60.0, gt=0)
    event_stream_idle_seconds: float = Field(300.0, gt=0)
    body_seconds: float = Field(20.0, gt=0)
    upload_seconds: float = Field(600.0, gt=0)
    breaker_failures: int = Field(5, ge=1)
    breaker_pause_seconds: float = Field(1.0, gt=0)
    breaker_longest_pause_seconds: float = Field(15.0, gt=0)

    # How long a start may wait until it knows which sessions have ended; without the broker it does not wait.
    catch_up_seconds: float = Field(5.0, ge=0)

    header_bytes: int = Field(16_384, ge=1_024)
    header_count: int = Field(100, ge=10)
    header_seconds: float = Field(10.0, gt=0)
    unread_seconds: float = Field(60.0, gt=0)
    keep_alive_seconds: int = Field(30, ge=1)
    # How long clients that hold a connection are told to take another one, before it is closed under them.
    farewell_seconds: float = Field(1.0, ge=0)

    @field_validator("auth_url", "referrals_url", "invitations_url", "audit_url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = url.rstrip("/") == f"http://{parts.netloc}" and parts.hostname and "@" not in parts.netloc
        if not plain or parts.port == 0:  # `port` raises for what is none
            raise ValueError("must read http://host:port")
        return url.rstrip("/")

    @field_validator("trusted_proxies", "operator_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for part in split(text):
            ip_network(part, strict=False)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in split(text):
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no origin as browsers write them, such as https://console.example")
        return text

    @field_validator("secret_keys")
    @classmethod
    def _keys_are_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("must be a time zone such as Europe/Istanbul") from None
        return name

    @model_validator(mode="after")
    def _sessions_of_production_are_safe(self) -> Self:
        if self.environment != "production":
            return self
        if parse_keys(DEVELOPMENT_KEYS)[0] in self.key_bytes:
            raise ValueError(
                "GATEWAY_SECRET_KEYS is the default of development: make your own with `openssl rand -base64 32`"
            )
        if not self.cookies_secure:
            raise ValueError("GATEWAY_COOKIES_SECURE=false sends sessions in the clear, which production must not")
        return self

    @property
    def key_bytes(self) -> list[bytes]:
        """Give the secret keys, the one that seals first."""
        return parse_keys(self.secret_keys.get_secret_value())

    @property
    def service_urls(self) -> dict[str, str]:
        """Give the address of each service."""
        return {
            "auth": self.auth_url,
            "referrals": self.referrals_url,
            "invitations": self.invitations_url,
            "audit": self.audit_url,
        }


def split(text: str) -> list[str]:
    """Read a list that is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
