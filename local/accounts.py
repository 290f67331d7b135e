"""The people of the local system: those of the operators' guides, with passwords made anew for every run."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, Final

ADMIN_ID: Final = 166
SPONSOR_ID: Final = 6


@dataclass(frozen=True)
class Account:
    """One person, as the seed file of auth describes one."""

    id: int
    email: str
    full_name: str
    roles: list[str]
    is_active: bool = True
    on_behalf_of: list[int] = field(default_factory=list)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))


def make_accounts() -> dict[str, Account]:
    """Make everybody that the demo and the tests need."""
    admin = Account(ADMIN_ID, "admin@example.com", "Deniz Yönetici", ["Admin"], on_behalf_of=[SPONSOR_ID])
    return {
        "admin": admin,
        "admin_without_grants": Account(167, "admin.two@example.com", "Ekin Yönetici", ["Admin"]),
        "sponsor": Account(SPONSOR_ID, "sponsor@example.com", "Bereket Tohum", ["Sponsor"]),
        "sponsor_disabled": Account(7, "sponsor.closed@example.com", "Eski Tohum", ["Sponsor"], is_active=False),
        "auditor": Account(8, "auditor@example.com", "Umut Denetçi", ["Auditor"]),
    }


def seed_of(accounts: dict[str, Account]) -> str:
    """Write what `python -m services.auth seed` reads."""
    return json.dumps([asdict(account) for account in accounts.values()], ensure_ascii=False)


def sign_in_data(accounts: dict[str, Account]) -> dict[str, dict[str, Any]]:
    """Give what scripts and tests need to sign in."""
    return {
        name: {"id": account.id, "email": account.email, "password": account.password}
        for name, account in accounts.items()
    }
