"""Every environment variable of audit."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.sealing import parse_keys
from shared.settings import StoreSettings


class AuditSettings(StoreSettings):
    """What audit reads from its environment."""

    service: ClassVar[str] = "audit"

    secret_keys: SecretStr = Field(
        description="Base64 keys that seal personal data, comma-separated, the newest first."
    )
    signing_key_file: Path = Field(
        description="Ed25519 key (PEM) that signs checkpoints; made if missing in development."
    )
    checkpoint_dir: Path = Field(description="Where a copy of each checkpoint goes, outside the power of the database.")
    former_verifier_keys: str = Field("", description="Keys that signed before the present one: name+hash+key, …")
    log_full_phones: bool = False
    legal_hold: bool = Field(False, description="Nothing leaves the log: prune and erase are refused.")
    checkpoint_seconds: float = 60.0
    verification_seconds: float = 300.0
    whole_verification_seconds: float = 86_400.0
    # Longer than the retry ladder (5 s + 30 s + 5 min + 1 h): until then a missing number may still be on a rung.
    source_grace_seconds: int = 4_200
    partitions_ahead: int = 3

    @field_validator("secret_keys")
    @classmethod
    def _keys_are_keys(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _production_has_its_signing_key(self) -> Self:
        if self.environment == "production" and not self.signing_key_file.exists():
            raise ValueError(
                "AUDIT_SIGNING_KEY_FILE does not exist; make one with: python -m services.audit create-key"
            )
        return self

    def sealing_keys(self) -> list[bytes]:
        """Give the keys that seal personal data."""
        return parse_keys(self.secret_keys.get_secret_value())
