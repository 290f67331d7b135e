"""Settings that every service has. A variable of the service's own (`AUTH_DATABASE_URL`) beats the general one.

Each may also be a file of its name in /run/secrets, where Docker and Kubernetes mount secrets; a variable beats a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Environment = Literal["development", "production"]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)]

_GENERAL = {"database_url", "amqp_url"}
_SECRETS: Final = Path("/run/secrets")


class SettingsInvalid(SystemExit):
    """The settings make no sense; the process ends with one clear line per variable."""


class ServiceSettings(BaseSettings):
    """What every process reads from its environment."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)
    service: ClassVar[str]

    environment: Environment = Field("development", validation_alias="ENVIRONMENT")
    log_level: LogLevel = Field("INFO", validation_alias="LOG_LEVEL")
    amqp_url: SecretStr
    host: str = "127.0.0.1"
    port: int = 8000
    drain_seconds: float = 25.0
    jwks_url: str = Field("http://127.0.0.1:8000/.well-known/jwks.json", validation_alias="JWKS_URL")
    token_issuer: str = Field("https://partner-hub.local/auth", validation_alias="TOKEN_ISSUER")
    token_audience: str = Field("partner-hub", validation_alias="TOKEN_AUDIENCE")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Name each variable `<SERVICE>_<FIELD>`; the database and the broker may also come by their general names."""
        super().__pydantic_init_subclass__(**kwargs)
        service = getattr(cls, "service", None)
        if service is None:
            return
        # Fields are read by their bare names too (populate_by_name), and PORT or HOST of the machine are not ours.
        cls.model_config["env_prefix"] = f"{service.upper()}_"
        for name, field in cls.model_fields.items():
            if field.validation_alias is None:
                general = [name.upper()] if name in _GENERAL else []
                field.validation_alias = AliasChoices(f"{service.upper()}_{name.upper()}", *general)
        cls.model_rebuild(force=True)

    @classmethod
    def load(cls) -> Self:
        """Read the environment, or end the process with one clear line per wrong variable."""
        try:
            return cls(_secrets_dir=_SECRETS if _SECRETS.is_dir() else None)
        except ValidationError as error:
            lines = [f"  {_variable(item['loc'])}: {item['msg']}" for item in error.errors()]
            raise SettingsInvalid("\n".join([f"{cls.service} can't start, its settings are wrong:", *lines])) from None


class StoreSettings(ServiceSettings):
    """What a service that has a database and a worker reads besides."""

    database_url: SecretStr
    database_pool_size: int = 10
    worker_port: int = 8001
    owner_database_url: SecretStr | None = Field(None, validation_alias="OWNER_DATABASE_URL")


def find_setting(*names: str) -> str | None:
    """Find a setting by the first of its names that is in the environment or among the secrets; for a step of few."""
    for name in names:
        file = _SECRETS / name
        if value := os.environ.get(name) or (file.read_text().strip() if file.is_file() else ""):
            return value
    return None


def _variable(location: tuple[int | str, ...]) -> str:
    """Name the environment variable that an error is about."""
    name = str(location[0]) if location else "settings"
    general = name.partition("_")[2]
    return f"{name} (or {general})" if general.lower() in _GENERAL else name
