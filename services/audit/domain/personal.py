"""Personal data: sealed under a key of the record's own, so that throwing that key away erases it for good.

The chain covers the ciphertext. Erasing a person therefore changes no byte of the log and breaks no proof. A mark that
only we can make takes the place of an erased key: a key that somebody else removed does not pass for erased.
Personal values that hide in `details` (each recipient's phone of a bulk call) are moved into the sealed part, and what
must never be kept (passwords, tokens) is removed: a second filter behind the producers' own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.audit.domain.canonical import plain
from shared.sealing import CannotOpen, Sealer

SEALED: Final = "[sealed]"
ERASED: Final = "[erased]"
REMOVED: Final = "[removed]"
_PERSONAL: Final = re.compile(r"(?:^|_)(?:ip|user_agent|email|phone|name|address|typed)(?:s|es)?$")
# What a person is found by, to be erased.
_IDENTIFYING: Final = re.compile(r"(?:^|_)(?:email|phone)s?$")
# Of names in snake case. A link counts as a secret: ours carry the token of an invitation or of a reset.
_SECRET: Final = re.compile(
    r"password|passwd|secret|token(?!_(?:id|type|kind|hash)$)|authorization|cookie|api_key|private_key|recovery_code|link$"
)
# Invitation tokens travel in paths (/ref/<token>/accept), and 128 random bits are a secret wherever they stand.
_SECRET_SEGMENT: Final = re.compile(r"(?<=/ref/)[^/]+|(?<=/)[0-9a-fA-F]{32,}(?=/|$)")
_KEY_BYTES: Final = 32
_MASKED_FROM_END, _SHOWN_AT_END = 7, 4
_SHORTEST_PHONE, _COMPARED_DIGITS = 7, 10


@dataclass(frozen=True, slots=True)
class SealedPersonal:
    """Ciphertext for the chain, and beside it the key that opens it, itself sealed by the service's key."""

    text: str
    wrapped_key: bytes
    subjects: list[bytes]


@dataclass(frozen=True, slots=True)
class KeptKey:
    """What is kept beside the chain about the personal data of one record."""

    actor_id: int | None
    subjects: list[bytes]
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """Personal data as it can be shown; no values when they were erased, or when their key is gone or damaged."""

    values: dict[str, str] | None
    erased: bool = False


class PersonalData:
    """Seals, opens and finds personal data with the service's keys."""

    def __init__(self, keys: list[bytes]) -> None:
        self._wrapping = Sealer(keys)
        self._searching = [hmac.digest(key, b"audit subject search", "sha256") for key in keys]

    def seal(self, values: Mapping[str, str], event_id: str) -> SealedPersonal | None:
        """Seal the personal values of one record; None when it has none."""
        if not values:
            return None
        key = os.urandom(_KEY_BYTES)
        sealed = Sealer([key]).seal(orjson.dumps(plain(values), option=orjson.OPT_SORT_KEYS), bound_to=event_id)
        subjects = [_digest(self._searching[0], subject) for subject in _subjects(values)]
        wrapped_key = self._wrapping.seal(key, bound_to=_row(event_id, subjects))
        return SealedPersonal(base64.b64encode(sealed).decode(), wrapped_key, subjects)

    def erased(self, event_id: str) -> bytes:
        """Make the mark that takes the place of an erased key."""
        return self._wrapping.seal(b"", bound_to=_erased_row(event_id))

    def key_of(self, event_id: str, kept: KeptKey) -> bytes | None:
        """Give the key of a record's personal data, None when we erased it; raises CannotOpen for what is not ours."""
        with suppress(CannotOpen):
            return self._wrapping.open(kept.wrapped_key, bound_to=_row(event_id, kept.subjects))
        self._wrapping.open(kept.wrapped_key, bound_to=_erased_row(event_id))
        return None

    def show(self, content: Mapping[str, Any], kept: KeptKey | None) -> Opened:
        """Open the personal data of a record, as far as its key allows."""
        event_id, text = content["id"], content["personal"]
        if text is None:
            return Opened({})
        if kept is None:
            return Opened(None)
        try:
            key = self.key_of(event_id, kept)
            if key is None:
                return Opened(None, erased=True)
            return Opened(orjson.loads(Sealer([key]).open(base64.b64decode(text), bound_to=event_id)))
        except (CannotOpen, ValueError):
            return Opened(None)

    def search_digests(self, subject: str) -> list[bytes]:
        """Give every digest under which this phone or e-mail may have been noted, one per configured key."""
        return [_digest(key, subject) for key in self._searching]


def separate(personal: Mapping[str, Any], details: Any) -> tuple[dict[str, str], Any]:
    """Split into personal values by path and details that show nobody; secrets are dropped from both."""
    values = {
        key: REMOVED if _SECRET.search(_snake(key)) else str(value)
        for key, value in personal.items()
        if value is not None and value != ""
    }
    kept = _without_personal(plain(details), "details", values)
    return values, kept


def without_secrets(path: str | None) -> str | None:
    """Keep the path of a request, without the tokens that some of our addresses carry."""
    return path and _SECRET_SEGMENT.sub(REMOVED, path)


def restore(content: dict[str, Any], opened: Opened) -> dict[str, Any]:
    """Put opened personal values back into their places; an erased one reads as erased."""
    details = _restored(content.get("details"), "details", opened)
    values = opened.values
    own = None if values is None else {key: value for key, value in values.items() if not key.startswith("details.")}
    return {**content, "details": details, "personal": own, "personal_erased": opened.erased}


def mask_phone(phone: str) -> str:
    """Hide the middle of a phone: +905421396386 becomes +90542***6386."""
    if len(phone) <= _MASKED_FROM_END:
        return "***"
    return f"{phone[:-_MASKED_FROM_END]}***{phone[-_SHOWN_AT_END:]}"


def _without_personal(value: Any, path: str, found: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _kept(key, item, f"{path}.{key}", found) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_personal(item, f"{path}.{index}", found) for index, item in enumerate(value)]
    return value


def _kept(key: str, value: Any, path: str, found: dict[str, str]) -> Any:
    if _SECRET.search(_snake(key)) and isinstance(value, str | dict | list):
        return REMOVED
    if _PERSONAL.search(_snake(key)):
        return _sealed(value, path, found)
    return _without_personal(value, path, found)


def _sealed(value: Any, path: str, found: dict[str, str]) -> Any:
    """Move a personal value, or each one of a list, into the sealed part."""
    if isinstance(value, list):
        return [_sealed(item, f"{path}.{index}", found) for index, item in enumerate(value)]
    if isinstance(value, dict | bool) or value is None or value == "":
        return _without_personal(value, path, found)
    found[path] = str(value)
    return SEALED


def _restored(value: Any, path: str, opened: Opened) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item, f"{path}.{key}", opened) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item, f"{path}.{index}", opened) for index, item in enumerate(value)]
    if value == SEALED:
        return ERASED if opened.erased else (opened.values or {}).get(path, SEALED)
    return value


def _snake(name: str) -> str:
    """Read `farmerName` and `farmer_name` as the same field."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _subjects(values: Mapping[str, str]) -> Iterator[str]:
    """Name the persons of a record by what identifies them: phones and e-mail addresses."""
    for path, value in values.items():
        name = next((part for part in reversed(path.split(".")) if not part.isdigit()), "")
        if _IDENTIFYING.search(_snake(name)):
            yield value


def _row(event_id: str, subjects: Iterable[bytes]) -> str:
    """Bind a key to its record and the persons it is found under: an erasure of one can't be led to another."""
    return " ".join([event_id, *(subject.hex() for subject in subjects)])


def _erased_row(event_id: str) -> str:
    return f"{event_id} {ERASED}"


def _digest(key: bytes, subject: str) -> bytes:
    """Digest a subject under a key: without the key nobody can try out all phone numbers (there are too few)."""
    return hmac.digest(key, _normal(subject).encode("utf-8", "replace"), hashlib.sha256)


def _normal(subject: str) -> str:
    """Write a phone in digits and an e-mail in lower case, however it was typed.

    People sign in with what is neither, such as a name: by its digits alone it would be everybody else's name, too.
    """
    digits = re.sub(r"\D", "", subject)
    if "@" in subject or len(digits) < _SHORTEST_PHONE:
        return subject.strip().casefold()
    return digits[-_COMPARED_DIGITS:]
