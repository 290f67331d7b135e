"""Every environment variable of auth."""

from __future__ import annotations

from email.utils import parseaddr
from typing import ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator

from shared.sealing import parse_keys
from shared.settings import StoreSettings

# Public on purpose, and refused in production.
DEVELOPMENT_KEYS: Final = "cGFydG5lci1odWIgZGV2ZWxvcG1lbnQgb25seSBrZXk="
# 32 random bytes have fewer different values than this once in 10^10 keys; typed or repeated ones always.
_LEAST_DISTINCT_BYTES: Final = 20


class OperatorSettings(StoreSettings):
    """What operator commands read: they work with the database and the secret keys alone."""

    service: ClassVar[str] = "auth"

    amqp_url: SecretStr = SecretStr("amqp://127.0.0.1")
    secret_keys: SecretStr = SecretStr(DEVELOPMENT_KEYS)
    reset_delivery: Literal["log", "smtp"] = "log"
    smtp_url: SecretStr | None = None
    smtp_from: str = "Partner Hub <no-reply@partner-hub.local>"
    smtp_timeout_seconds: float = Field(20.0, gt=0)
    public_url: str = "http://127.0.0.1:8000"

    password_min_length: int = Field(15, ge=8, le=64)
    password_blocklist_file: FilePath | None = None
    password_context_words: str = ""
    hash_memory_kib: int = Field(19 * 1024, ge=19 * 1024)
    hash_passes: int = Field(2, ge=2)
    hash_lanes: int = Field(1, ge=1)
    hash_threads: int = Field(2, ge=1, le=64)

    sign_in_free_failures: int = Field(10, ge=1, le=10)
    sign_in_first_pause_seconds: int = Field(30, ge=1)
    sign_in_longest_pause_seconds: int = Field(900, ge=1)
    second_factor_for_admins: bool = False

    access_token_seconds: int = Field(600, ge=30, le=600)
    reset_token_seconds: int = Field(1800, ge=1, le=1800)  # the letters, the console and the runbooks promise no more
    first_password_token_seconds: int = Field(86_400, ge=3_600, le=86_400)
    session_seconds: int = Field(86_400, ge=60)
    session_idle_seconds: int = Field(3_600, ge=60)
    refresh_grace_seconds: int = Field(10, ge=0, le=30)
    # Verifiers ask for unknown keys at most once a minute, so a shorter lead would cost 401s.
    key_lead_seconds: int = Field(300, ge=60)

    @field_validator("secret_keys")
    @classmethod
    def _keys_are_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @field_validator("smtp_from")
    @classmethod
    def _sender_has_an_address(cls, value: str) -> str:
        if "@" not in parseaddr(value)[1]:
            raise ValueError("give an address, such as Partner Hub <no-reply@example.com>")
        return value

    @model_validator(mode="after")
    def _keys_of_production_are_secret(self) -> Self:
        if self.environment != "production":
            return self
        if parse_keys(DEVELOPMENT_KEYS)[0] in self.key_bytes:
            raise ValueError(
                "AUTH_SECRET_KEYS is the default of development: make your own with `openssl rand -base64 32`"
            )
        if any(len(set(key)) < _LEAST_DISTINCT_BYTES for key in self.key_bytes):
            raise ValueError("AUTH_SECRET_KEYS does not look random: make a key with `openssl rand -base64 32`")
        return self

    @property
    def key_bytes(self) -> list[bytes]:
        """Give the secret keys, the one that seals first."""
        return parse_keys(self.secret_keys.get_secret_value())


class AuthSettings(OperatorSettings):
    """What the processes that serve read: what they deliver must reach its owner, and nobody else."""

    amqp_url: SecretStr

    @model_validator(mode="after")
    def _delivery_is_possible(self) -> Self:
        if self.reset_delivery == "smtp" and not _is_mail_server(self.smtp_url):
            # Without the reason: a slash in a password that was not written as %2F would make it part of the message.
            raise ValueError(
                "AUTH_RESET_DELIVERY=smtp needs AUTH_SMTP_URL, such as smtps://user:password@mail.example.com;"
                " special characters of user and password are written as %XX"
            )
        return self

    @model_validator(mode="after")
    def _delivery_of_production_is_safe(self) -> Self:
        if self.environment != "production":
            return self
        if self.reset_delivery == "log":
            raise ValueError("AUTH_RESET_DELIVERY=log prints reset tokens, which production must not: set it to smtp")
        if urlsplit(self.public_url).scheme != "https" or not urlsplit(self.public_url).hostname:
            raise ValueError("AUTH_PUBLIC_URL must be an https:// address: links in mails point there")
        return self


def _is_mail_server(url: SecretStr | None) -> bool:
    parts = urlsplit(url.get_secret_value() if url else "")
    try:
        return parts.scheme in {"smtp", "smtps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False
