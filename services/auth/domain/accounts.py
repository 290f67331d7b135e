"""Accounts: who they are, what they may do, when they may sign in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from shared.errors import FieldError, Invalid

ADMIN: Final = "Admin"
ROLES: Final = frozenset({ADMIN, "Sponsor", "Player", "Auditor"})

# What the roles come to, for clients that show or hide things; services decide by role.
PERMISSIONS: Final = {
    ADMIN: frozenset(
        {"users:manage", "sessions:end", "partner-center:connect", "referrals:read", "referrals:sync"}
        | {"invitations:send", "invitations:read", "codes:manage", "audit:read", "queues:manage"}
    ),
    "Sponsor": frozenset({"invitations:send", "invitations:read", "codes:read"}),
    "Player": frozenset[str](),
    "Auditor": frozenset({"audit:read"}),
}

# ASCII only: look-alikes (a dotless i, a ligature, fullwidth letters) make two strings of one address, and mail must go
# to the stored one (CVE-2019-19844). Length: RFC 5321 §4.5.3.1.
_EMAIL: Final = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+"
)
_EMAIL_LENGTH: Final = 254

Grants = frozenset[int] | Literal["all"]


@dataclass(frozen=True, slots=True)
class Account:
    """One person's account, as the database has it."""

    id: int
    email: str
    full_name: str
    roles: frozenset[str]
    is_active: bool
    status: Literal["active", "disabled"]
    password_hash: str | None
    password_reset_token: str | None
    password_reset_expires_at: datetime | None
    password_reset_requested_at: datetime | None
    password_reset_delivered_at: datetime | None
    credential_epoch: int
    version: int
    on_behalf_of: Grants
    admin_until: datetime | None
    disable_after_admin: bool
    has_second_factor: bool
    created_at: datetime
    updated_at: datetime
    signed_in_at: datetime | None

    @property
    def is_enabled(self) -> bool:
        """Say whether the account may be used at all."""
        return self.is_active and self.status == "active"

    @property
    def can_sign_in(self) -> bool:
        """Say whether there is a password that would let its owner in."""
        return self.is_enabled and self.password_hash is not None

    def roles_at(self, now: datetime) -> frozenset[str]:
        """Give the roles in force: a break-glass admin's role ends by the clock, whoever else is asleep."""
        expired = self.admin_until is not None and self.admin_until <= now
        return self.roles - {ADMIN} if expired else self.roles

    def grants_at(self, now: datetime) -> Grants:
        """Give the sponsors for whom this account may act: admins only."""
        return self.on_behalf_of if ADMIN in self.roles_at(now) else frozenset()

    def is_admin_at(self, now: datetime) -> bool:
        """Say whether this is an admin who can sign in."""
        return self.can_sign_in and ADMIN in self.roles_at(now)

    def is_lasting_admin(self) -> bool:
        """Say whether this is an admin who can sign in and whose role has no end."""
        return self.can_sign_in and ADMIN in self.roles and self.admin_until is None


@dataclass(frozen=True, slots=True)
class Seed:
    """An account of the demo, with its password already hashed."""

    id: int
    email: str
    full_name: str
    roles: frozenset[str]
    is_active: bool
    password_hash: str
    on_behalf_of: Grants


def permissions_of(roles: Iterable[str]) -> frozenset[str]:
    """Give what these roles may do together."""
    return frozenset[str]().union(*(PERMISSIONS[role] for role in roles))


def normal_email(text: str) -> str:
    """Give the one spelling under which an address is stored and looked up; raises Invalid."""
    email = text.strip(" ").lower() if text.isascii() else ""
    if len(email) > _EMAIL_LENGTH or not _EMAIL.fullmatch(email):
        raise Invalid(fields=[FieldError("email", "Give one plain address such as name@example.com.", "EMAIL_INVALID")])
    return email


def known_roles(roles: Iterable[str]) -> frozenset[str]:
    """Give the roles as a set; raises Invalid for one that does not exist."""
    wanted = frozenset(roles)
    if unknown := sorted(wanted - ROLES):
        words = f"{', '.join(unknown)} is no role. Roles are {', '.join(sorted(ROLES))}."
        raise Invalid(fields=[FieldError("roles", words, "ROLE_UNKNOWN")])
    return wanted
