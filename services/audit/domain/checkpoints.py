"""Signed checkpoints: what turns a chain into evidence.

Whoever owns the database can rewrite a chain from any place on; nobody without the signing key can rewrite what was
signed and kept elsewhere. The text is a signed note in the form of C2SP `tlog-checkpoint` (origin, size, root hash,
extension lines; Ed25519, algorithm byte 0x01), so that standard tools read it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from services.audit.domain.canonical import timestamp
from shared.errors import NotFound

KEY_NAME: Final = "partner-hub-audit"
FIRST: Final = bytes(32)
_ED25519: Final = b"\x01"
_KEY_HASH_BYTES: Final = 4
SIGNATURE_START: Final = "— "


class UnreadableCheckpointError(ValueError):
    """This text is no checkpoint, or nobody we trust signed it."""


class NoCheckpointYet(NotFound):
    """No checkpoint has been signed so far."""

    code = "AUDIT_NO_CHECKPOINT_YET"
    message = "No checkpoint has been signed yet."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A statement about the chain at one moment: so many records, the last with this hash."""

    origin: str
    seq: int
    head: bytes
    number: int
    taken_at: datetime
    records: int
    previous: bytes

    def text(self) -> str:
        """Write what is signed."""
        return (
            f"{self.origin}\n{self.seq}\n{_base64(self.head)}\n"
            f"number {self.number}\ntime {timestamp(self.taken_at)}\nrecords {self.records}\n"
            f"previous {_base64(self.previous)}\n"
        )

    def digest(self) -> bytes:
        """Give what the next checkpoint names as its predecessor."""
        return hashlib.sha256(self.text().encode()).digest()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a checkpoint; raises UnreadableCheckpointError."""
        try:
            origin, seq, head, *extensions = text.splitlines()
            named = dict(line.split(" ", 1) for line in extensions)
            checkpoint = cls(
                origin,
                int(seq),
                base64.b64decode(head, validate=True),
                int(named["number"]),
                datetime.fromisoformat(named["time"]),
                int(named["records"]),
                base64.b64decode(named["previous"], validate=True),
            )
        except (ValueError, KeyError, binascii.Error) as error:
            raise UnreadableCheckpointError(f"not a checkpoint: {error}") from None
        if checkpoint.text() != text:
            raise UnreadableCheckpointError("not a checkpoint in its one form")
        return checkpoint


class SigningKey:
    """The private key that signs checkpoints; it lives in a file, never in the database."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier = VerifierKey(KEY_NAME, key.public_key())

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a key from PEM (PKCS#8); raises ValueError in words for the operator."""
        key = load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the signing key must be an Ed25519 private key in PEM (PKCS#8)")  # noqa: TRY004 a bad value, not a bug
        return cls(key)

    def pem(self) -> bytes:
        """Write the key as PEM (PKCS#8)."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, checkpoint: Checkpoint) -> str:
        """Give the signed note: the text, an empty line, the signature line."""
        text = checkpoint.text()
        return f"{text}\n{SIGNATURE_START}{self.verifier.name} {_base64(self.signature_of(text))}\n"

    def signature_of(self, text: str) -> bytes:
        """Sign any text; gives the hash that names the key (4 bytes) and the signature (64 bytes)."""
        return self.verifier.key_hash + self._key.sign(text.encode())


class VerifierKey:
    """The public half; whoever holds it can check every checkpoint without us."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        self.name = name
        self._key = key
        self._raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        named = name.encode() + b"\n" + _ED25519 + self._raw
        self.key_hash = hashlib.sha256(named).digest()[:_KEY_HASH_BYTES]

    def text(self) -> str:
        """Write the key as `name+hash+key`, the form of C2SP signed notes."""
        return f"{self.name}+{self.key_hash.hex()}+{_base64(_ED25519 + self._raw)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name+hash+key`; raises ValueError in words for the operator."""
        try:
            name, key_hash, key = text.strip().split("+", 2)
            raw = base64.b64decode(key, validate=True)
            verifier = cls(name, Ed25519PublicKey.from_public_bytes(raw.removeprefix(_ED25519)))
        except ValueError:
            raise ValueError("a verifier key reads name+hash+base64") from None
        if verifier.key_hash.hex() != key_hash or raw[:1] != _ED25519:
            raise ValueError("the verifier key's hash does not match its key")
        return verifier

    def verifies(self, text: str, signature: bytes) -> bool:
        """Say whether this key made the signature."""
        if signature[:_KEY_HASH_BYTES] != self.key_hash:
            return False
        try:
            self._key.verify(signature[_KEY_HASH_BYTES:], text.encode())
        except InvalidSignature:
            return False
        return True


def unsigned(note: str) -> Checkpoint | None:
    """Read a note without believing it; None when it can't be read."""
    try:
        return Checkpoint.parse(note.partition("\n\n")[0] + "\n")
    except UnreadableCheckpointError:
        return None


def open_note(note: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Read a signed note that one of the keys signed; raises UnreadableCheckpointError."""
    text, separator, signatures = note.partition("\n\n")
    if not separator:
        raise UnreadableCheckpointError("no signature")
    checkpoint = Checkpoint.parse(text + "\n")
    by_name = _signatures(signatures)
    if not any(key.verifies(text + "\n", signature) for key in keys for signature in by_name.get(key.name, [])):
        raise UnreadableCheckpointError(f"checkpoint {checkpoint.number} is not signed by a key we trust")
    return checkpoint


def split_notes(text: str) -> list[str]:
    """Split a file of many signed notes, one after the other, into the notes."""
    notes, current = [], ""
    for line in text.splitlines(keepends=True):
        if not current and not line.strip():
            continue
        current += line
        if line.startswith(SIGNATURE_START):
            notes.append(current)
            current = ""
    return [*notes, current] if current.strip() else notes


def origin_of(chain_id: object) -> str:
    """Name the chain, so that a checkpoint of one log proves nothing about another."""
    return f"partner-hub/audit/{chain_id}"


def _signatures(lines: str) -> Mapping[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for line in lines.splitlines():
        name, _, encoded = line.removeprefix(SIGNATURE_START).partition(" ")
        try:
            found.setdefault(name, []).append(base64.b64decode(encoded, validate=True))
        except binascii.Error:
            continue
    return found


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
