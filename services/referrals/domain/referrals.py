"""What a referral is: read from what Microsoft sends, tolerant to all that may come (facts 1.3)."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

# Addresses at these say nothing about the company.
_FREE_MAIL: Final = frozenset(
    {"gmail.com", "googlemail.com", "hotmail.com", "live.com", "outlook.com", "yahoo.com", "icloud.com"}
)
_LONGEST_ID: Final = 200
# What the index of the history of statuses can hold, with much to spare.
_LONGEST_STATUS: Final = 200
# An event that tells of each promoted text, old and new, must stay below what the outbox takes, or the sync that found
# it, and every later one, would stop there.
_LONGEST_TEXT: Final = 8_000
# An escaped NUL, but not an escaped backslash before the letters u0000.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# The first and the last moment are what .NET writes for a time that nobody set; the database driver takes them for the
# infinities, which no arithmetic bears.
_UNSET_YEARS: Final = frozenset({1, 9999})
# What `changes` of ReferralChanged and the comparison look at.
PROMOTED: Final = (
    "engagement_id",
    "name",
    "referral_type",
    "direction",
    "qualification",
    "category",
    "status",
    "substatus",
    "status_reason",
    "company_name",
    "domain",
    "country",
    "deal_value",
    "currency",
)


class MalformedError(ValueError):
    """An item of the API that is no referral; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Referral:
    """A referral with its promoted columns; whatever else Microsoft sends stays in `raw`."""

    referral_id: str
    engagement_id: str | None
    name: str | None
    referral_type: str | None
    direction: str | None
    qualification: str | None
    category: str | None
    status: str | None
    substatus: str | None
    status_reason: str | None
    company_name: str | None
    domain: str | None
    country: str | None
    deal_value: Decimal | None
    currency: str | None
    created_at: datetime | None
    updated_at: datetime
    updated_raw: str
    raw: str = field(repr=False)
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that is no referral: where it stood, why it is none, its JSON text, and its id if it has one."""

    position: int
    reason: str
    raw: str = field(repr=False)
    referral_id: str | None


def read_items(items: Iterable[Any]) -> tuple[list[Referral], list[Rejected]]:
    """Part the referrals of a page from what is none: one bad item must not stop the others."""
    referrals: list[Referral] = []
    rejected: list[Rejected] = []
    for position, item in enumerate(items):
        try:
            referrals.append(parse_referral(item))
        except MalformedError as error:
            rejected.append(Rejected(position, str(error), _set_down(item), _sound_id(item)))
    return referrals, rejected


def parse_referral(item: Any) -> Referral:
    """Read one item, tolerant to unknown fields and values; raises MalformedError with the reason."""
    if not isinstance(item, dict):
        raise MalformedError(f"expected an object, found {type(item).__name__}")
    referral_id = _sound_id(item)
    if referral_id is None:
        raise MalformedError("id is missing or no plain text")
    updated_raw = item.get("updatedDateTime")
    updated_at = parse_moment(updated_raw)
    if updated_at is None or not isinstance(updated_raw, str):
        raise MalformedError("updatedDateTime is missing or no time")
    status, substatus = _text(item, "status"), _text(item, "substatus")
    if max(len(status or ""), len(substatus or "")) > _LONGEST_STATUS:
        raise MalformedError(f"a status is longer than {_LONGEST_STATUS} characters")
    raw = _as_json(item)
    customer, details = _object(item, "customerProfile"), _object(item, "details")
    referral = Referral(
        referral_id=referral_id,
        engagement_id=_text(item, "engagementId"),
        name=_text(item, "name"),
        referral_type=_text(item, "type"),  # the docs' tables say ReferralType; on the wire it is `type`
        direction=_text(item, "direction"),
        qualification=_text(item, "qualification"),
        category=_category(item),
        status=status,
        substatus=substatus,
        status_reason=_text(item, "statusReason"),
        company_name=_text(customer, "name"),
        domain=_domain(customer),
        country=_text(_object(customer, "address"), "country"),
        deal_value=_amount(details.get("dealValue")),
        currency=_text(details, "currency"),
        created_at=parse_moment(item.get("createdDateTime")),
        updated_at=updated_at,
        updated_raw=updated_raw,
        raw=raw,
        digest=hashlib.sha256(raw.encode()).digest(),
    )
    for name in PROMOTED:
        value = getattr(referral, name)
        if isinstance(value, str) and len(value) > _LONGEST_TEXT:
            raise MalformedError(f"{name} is longer than {_LONGEST_TEXT} characters")
    return referral


def parse_moment(text: Any) -> datetime | None:
    """Read a time of up to 7 fractional digits; what lies beyond microseconds is cut off, never rounded up."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if moment.year in _UNSET_YEARS else moment


def newest_of_each(referrals: Iterable[Referral]) -> list[Referral]:
    """Keep the newest of each id, sorted by id: a page may hold one twice, and rows are always locked in one order."""
    newest: dict[str, Referral] = {}
    for referral in referrals:
        known = newest.get(referral.referral_id)
        if known is None or referral.updated_at >= known.updated_at:
            newest[referral.referral_id] = referral
    return [newest[referral_id] for referral_id in sorted(newest)]


def changed_fields(raw_before: dict[str, Any], referral: Referral) -> list[str]:
    """Name the fields of Microsoft's object that a newer state changes, promoted or not."""
    after = orjson.loads(referral.raw)
    return sorted(name for name in raw_before.keys() | after.keys() if raw_before.get(name) != after.get(name))


def _sound_id(item: Any) -> str | None:
    referral_id = item.get("id") if isinstance(item, dict) else None
    if isinstance(referral_id, str) and 0 < len(referral_id) <= _LONGEST_ID and referral_id.isprintable():
        return referral_id
    return None


def _as_json(item: dict[str, Any]) -> str:
    """Give the item as JSON that PostgreSQL can keep, keys sorted so that the same content has the same digest."""
    try:
        raw = orjson.dumps(item, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError as error:  # a lone surrogate, an integer beyond 64 bits
        raise MalformedError(f"cannot be stored: {error}") from None
    if "\\u0000" in raw and _NUL.search(raw):  # the plain search first: it is a hundred times faster
        raise MalformedError("holds a NUL character, which PostgreSQL cannot keep")
    return raw


def _set_down(item: Any) -> str:
    """Give a malformed item as JSON; the slower encoder takes what made the faster one give up, almost always."""
    try:
        return json.dumps(item)
    except RecursionError:
        return json.dumps({"id": _sound_id(item)})


def _category(item: dict[str, Any]) -> str | None:
    """Derive the kind of lead, as Microsoft's introduction defines it: it is in no field of its own."""
    kind, qualification = item.get("type"), item.get("qualification")
    inviter = _object(_object(item, "inviteContext"), "invitedBy").get("organizationId")
    # Tuples: what stands there instead of a text may have no hash.
    by_microsoft = inviter in ("msft", None)
    if kind == "Independent" and qualification == "Direct" and by_microsoft:
        return "marketplace_lead"
    if kind == "Independent" and qualification in ("SalesQualified", "MarketingQualified") and inviter == "msft":
        return "qualified_lead"
    if kind in ("Independent", "Shared") and qualification in ("SalesQualified", "None", None) and not by_microsoft:
        return "co_sell"
    return None


def _domain(customer: dict[str, Any]) -> str | None:
    team = customer.get("team")
    for member in team if isinstance(team, list) else []:
        email = _text(member, "email") if isinstance(member, dict) else None
        domain = email.rpartition("@")[2].strip().lower() if email and "@" in email else ""
        if domain and domain not in _FREE_MAIL:
            return domain
    return None


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _text(parent: dict[str, Any], key: str) -> str | None:
    value = parent.get(key)
    return value if isinstance(value, str) and value else None


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    amount = Decimal(str(value))
    return amount if amount.is_finite() else None
