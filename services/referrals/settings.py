"""Every environment variable of referrals; the names of Partner Center's are those of the operators' runbook."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import ClassVar, Final, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from shared.sealing import parse_keys
from shared.settings import StoreSettings

# Public on purpose, and refused in production.
DEVELOPMENT_KEYS: Final = "cmVmZXJyYWxzIGRldmVsb3BtZW50IG9ubHkga2V5ISE="
_PREFIX: Final = "HUNTER_PARTNER_CENTER_"
_LONGEST_SECONDS: Final = 366 * 86_400


def _named(name: str) -> str:
    return _PREFIX + name


class ReferralsSettings(StoreSettings):
    """What referrals reads from its environment besides what every service reads."""

    # The runbook's .env lists each variable, empty where nothing was filled in.
    model_config = SettingsConfigDict(env_ignore_empty=True)
    service: ClassVar[str] = "referrals"

    enabled: bool = Field(default=False, validation_alias=_named("ENABLED"))
    tenant_id: UUID | None = Field(default=None, validation_alias=_named("TENANT_ID"))
    client_id: UUID | None = Field(default=None, validation_alias=_named("CLIENT_ID"))
    scope: str = Field("https://api.partner.microsoft.com/.default", validation_alias=_named("SCOPE"))
    authority: str = Field("https://login.microsoftonline.com", validation_alias=_named("AUTHORITY"))
    api_url: str = Field("https://api.partner.microsoft.com", validation_alias=_named("API_URL"))
    ca_file: Path | None = Field(default=None, validation_alias=_named("CA_FILE"))
    proxy_url: SecretStr | None = Field(default=None, validation_alias=_named("PROXY_URL"))
    token_cache_keys: SecretStr = Field(SecretStr(DEVELOPMENT_KEYS), validation_alias=_named("TOKEN_CACHE_KEYS"))

    sync_interval_seconds: int = Field(600, ge=1, le=_LONGEST_SECONDS, validation_alias=_named("SYNC_INTERVAL_SECONDS"))
    # Microsoft rounds and orders times in ways that nobody documents; what is fetched twice is recognised as unchanged.
    overlap_seconds: int = Field(600, ge=0, le=_LONGEST_SECONDS, validation_alias=_named("OVERLAP_SECONDS"))
    full_sweep_interval_seconds: int = Field(
        86_400, ge=60, le=_LONGEST_SECONDS, validation_alias=_named("FULL_SWEEP_INTERVAL_SECONDS")
    )

    # Questions that only a live tenant can settle (facts 5): both answers are possible.
    next_link: Literal["lift", "follow"] = Field("lift", validation_alias=_named("NEXT_LINK"))
    quoted_dates: bool = Field(default=False, validation_alias=_named("QUOTED_DATES"))

    request_attempts: int = Field(6, ge=1, le=20, validation_alias=_named("REQUEST_ATTEMPTS"))
    backoff_seconds: float = Field(1.0, gt=0, validation_alias=_named("BACKOFF_SECONDS"))

    @field_validator("token_cache_keys")
    @classmethod
    def _keys_are_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @field_validator("authority", "api_url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme != "https" or not url.hostname or url.query or url.username:
            raise ValueError("must be an https:// address without user name or query: tokens are sent there")
        return value.rstrip("/")

    @field_validator("proxy_url")
    @classmethod
    def _is_a_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        url = urlsplit(value.get_secret_value()) if value else None
        if url and (url.scheme not in {"http", "https"} or not url.hostname):
            raise ValueError("must be the address of a proxy, such as http://proxy.example:3128")
        return value

    @field_validator("scope")
    @classmethod
    def _is_one_scope(cls, value: str) -> str:
        # MSAL adds these by itself and raises when they are asked for (measured).
        if len(value.split()) != 1 or value in {"openid", "profile", "offline_access"}:
            raise ValueError("must be one scope, such as https://api.partner.microsoft.com/.default")
        return value

    @field_validator("ca_file")
    @classmethod
    def _ca_file_can_be_read(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if not value.is_file():
            raise ValueError(f"there is no file {value}")
        try:
            ssl.create_default_context(cafile=value)
        except OSError as error:  # an SSLError is one
            raise ValueError(f"{value} holds no certificates that can be read (PEM is expected)") from error
        return value

    @model_validator(mode="after")
    def _enabled_is_configured(self) -> Self:
        if self.enabled and (self.tenant_id is None or self.client_id is None):
            raise ValueError(
                "HUNTER_PARTNER_CENTER_ENABLED needs HUNTER_PARTNER_CENTER_TENANT_ID and "
                "HUNTER_PARTNER_CENTER_CLIENT_ID (both GUIDs, from the application's registration)"
            )
        return self

    @model_validator(mode="after")
    def _production_has_its_own_key(self) -> Self:
        if self.environment == "production" and parse_keys(DEVELOPMENT_KEYS)[0] in self.key_bytes:
            raise ValueError(
                "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS is the default of development: "
                "make your own with `openssl rand -base64 32`"
            )
        return self

    @property
    def key_bytes(self) -> list[bytes]:
        """Give the keys of the token cache, the one that seals first."""
        return parse_keys(self.token_cache_keys.get_secret_value())

    @property
    def tenant_authority(self) -> str | None:
        """Give the authority with the tenant in its path, as MSAL wants it; None when nobody has said which tenant."""
        if urlsplit(self.authority).path.strip("/"):
            return self.authority
        return f"{self.authority}/{self.tenant_id}" if self.tenant_id else None
