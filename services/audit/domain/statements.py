"""Signed statements beside the checkpoints: rows that must be ours in tables that the database's owner can write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.audit.domain.canonical import canonical
from services.audit.domain.checkpoints import SigningKey, VerifierKey


def sign_statement(key: SigningKey, about: str, facts: Mapping[str, Any]) -> bytes:
    """Sign facts of one sort; a signature about one sort is none about another."""
    return key.signature_of(_text(about, facts))


def is_signed(keys: Iterable[VerifierKey], about: str, facts: Mapping[str, Any], signature: bytes | None) -> bool:
    """Say whether one of the keys signed exactly these facts."""
    return signature is not None and any(key.verifies(_text(about, facts), signature) for key in keys)


def _text(about: str, facts: Mapping[str, Any]) -> str:
    return f"partner-hub/audit/{about}\n{canonical(facts).decode()}\n"
