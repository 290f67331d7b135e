"""Rows of `adminuser`."""

# ruff: noqa: S608  what is put into the statements is a constant list of columns

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from services.auth.domain.accounts import Account, Grants, Seed
from services.auth.domain.errors import EmailTaken, UserNotFound
from shared.db import Connection, Row, violations

_COLUMNS: Final = """id, email, full_name, roles, is_active, status, password_hash, password_reset_token,
    password_reset_expires_at, password_reset_requested_at, password_reset_delivered_at, credential_epoch, version,
    acts_for_all, acts_for, admin_until, disable_after_admin,
    totp_confirmed_at IS NOT NULL AS has_second_factor, created_at, updated_at, signed_in_at"""
_UNIQUE: Final = {"adminuser_email_is_unique": EmailTaken}


def _account(row: Row) -> Account:
    fields: dict[str, Any] = dict(row)
    for_all, some = fields.pop("acts_for_all"), fields.pop("acts_for")
    fields["on_behalf_of"] = "all" if for_all else frozenset(some)
    fields["roles"] = frozenset(fields["roles"])
    return Account(**fields)


def _found(row: Row | None) -> Account:
    if row is None:
        raise UserNotFound
    return _account(row)


async def find_account_by_email(conn: Connection, email: str) -> Account | None:
    """Look an account up by its address, in lower case."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM adminuser WHERE email = $1", email)
    return _account(row) if row else None


async def get_account(conn: Connection, account_id: int) -> Account:
    """Give an account; raises UserNotFound."""
    return _found(await conn.fetchrow(f"SELECT {_COLUMNS} FROM adminuser WHERE id = $1", account_id))


async def find_and_lock_account(conn: Connection, account_id: int) -> Account | None:
    """Give an account and let nobody else change it until the transaction ends."""
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM adminuser WHERE id = $1 FOR NO KEY UPDATE", account_id)
    return _account(row) if row else None


async def lock_account(conn: Connection, account_id: int) -> Account:
    """Give an account and let nobody else change it until the transaction ends; raises UserNotFound."""
    account = await find_and_lock_account(conn, account_id)
    if account is None:
        raise UserNotFound
    return account


async def lock_account_and_admins(conn: Connection, account_id: int) -> tuple[Account, list[Account]]:
    """Lock an account with all admins, so that two admins can't demote each other at the same moment."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM adminuser WHERE id = $1 OR 'Admin' = ANY (roles)
            ORDER BY id FOR NO KEY UPDATE""",
        account_id,
    )
    accounts = [_account(row) for row in rows]
    target = next((account for account in accounts if account.id == account_id), None)
    if target is None:
        raise UserNotFound
    return target, [account for account in accounts if "Admin" in account.roles]


async def list_admins(conn: Connection) -> list[Account]:
    """Give every account with the role Admin."""
    return [_account(row) for row in await conn.fetch(f"SELECT {_COLUMNS} FROM adminuser WHERE 'Admin' = ANY (roles)")]


async def list_accounts(
    conn: Connection, *, role: str | None, is_active: bool | None, search: str | None, after: int, limit: int
) -> list[Account]:
    """Give a page of accounts by id."""
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS} FROM adminuser
            WHERE id > $1 AND ($2::text IS NULL OR $2 = ANY (roles))
              AND ($3::boolean IS NULL OR (is_active AND status = 'active') = $3)
              AND ($4::text IS NULL OR strpos(email, lower($4)) > 0 OR strpos(lower(full_name), lower($4)) > 0)
            ORDER BY id LIMIT $5""",
        after,
        role,
        is_active,
        search,
        limit,
    )
    return [_account(row) for row in rows]


async def list_unknown_sponsors(conn: Connection, sponsor_ids: list[int]) -> list[int]:
    """Give those of the ids that belong to no sponsor."""
    rows = await conn.fetch(
        """SELECT wanted FROM unnest($1::bigint[]) AS wanted
           WHERE NOT EXISTS (SELECT FROM adminuser WHERE id = wanted AND 'Sponsor' = ANY (roles)) ORDER BY wanted""",
        sponsor_ids,
    )
    return [row["wanted"] for row in rows]


async def insert_account(
    conn: Connection, *, email: str, full_name: str, roles: frozenset[str], now: datetime
) -> Account:
    """Add an account without a password; raises EmailTaken."""
    with violations(_UNIQUE):
        row = await conn.fetchrow(
            f"""INSERT INTO adminuser (email, full_name, roles, created_at, updated_at)
                VALUES ($1, $2, $3, $4, $4) RETURNING {_COLUMNS}""",
            email,
            full_name,
            sorted(roles),
            now,
        )
    return _found(row)


async def save_seed(conn: Connection, seed: Seed, now: datetime) -> Account:
    """Add or overwrite an account under a given id; raises EmailTaken."""
    with violations(_UNIQUE):
        row = await conn.fetchrow(
            f"""INSERT INTO adminuser AS known (id, email, full_name, roles, is_active, password_hash, acts_for_all,
                    acts_for, created_at, updated_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
                ON CONFLICT ON CONSTRAINT adminuser_pkey DO UPDATE SET (email, full_name, roles, is_active, status,
                    password_hash, acts_for_all, acts_for, credential_epoch, version, updated_at)
                  = (excluded.email, excluded.full_name, excluded.roles, excluded.is_active, 'active',
                    excluded.password_hash, excluded.acts_for_all, excluded.acts_for, known.credential_epoch + 1,
                    known.version + 1, excluded.updated_at)
                RETURNING {_COLUMNS}""",
            seed.id,
            seed.email,
            seed.full_name,
            sorted(seed.roles),
            seed.is_active,
            seed.password_hash,
            *_grant_columns(seed.on_behalf_of),
            now,
        )
    return _found(row)


async def save_profile(
    conn: Connection, account_id: int, *, full_name: str, roles: frozenset[str], is_active: bool, now: datetime
) -> Account:
    """Change what an admin may change; waking and disabling kill an outstanding reset token."""
    row = await conn.fetchrow(
        f"""UPDATE adminuser SET full_name = $2, roles = $3, is_active = $4,
                status = CASE WHEN $4 THEN 'active' ELSE 'disabled' END,
                acts_for_all = acts_for_all AND 'Admin' = ANY ($3),
                acts_for = CASE WHEN 'Admin' = ANY ($3) THEN acts_for ELSE '{{}}' END,
                admin_until = CASE WHEN 'Admin' = ANY ($3) THEN admin_until END,
                disable_after_admin = disable_after_admin AND 'Admin' = ANY ($3),
                password_reset_token =
                    CASE WHEN $4 = (is_active AND status = 'active') THEN password_reset_token END,
                version = version + 1, updated_at = $5
            WHERE id = $1 RETURNING {_COLUMNS}""",
        account_id,
        full_name,
        sorted(roles),
        is_active,
        now,
    )
    return _found(row)


async def save_grants(conn: Connection, account_id: int, on_behalf_of: Grants, now: datetime) -> Account:
    """Change for which sponsors an admin may act."""
    row = await conn.fetchrow(
        f"""UPDATE adminuser SET acts_for_all = $2, acts_for = $3, version = version + 1, updated_at = $4
            WHERE id = $1 RETURNING {_COLUMNS}""",
        account_id,
        *_grant_columns(on_behalf_of),
        now,
    )
    return _found(row)


async def save_temporary_admin(
    conn: Connection, account_id: int, *, until: datetime, disable_after: bool, acts_for_all: bool, now: datetime
) -> Account:
    """Let an account be an admin until then."""
    row = await conn.fetchrow(
        f"""UPDATE adminuser SET roles = ARRAY (SELECT DISTINCT unnest(roles || ARRAY ['Admin']) ORDER BY 1),
                is_active = true, status = 'active', admin_until = $2, disable_after_admin = disable_after_admin OR $3,
                acts_for_all = acts_for_all OR $4, version = version + 1, updated_at = $5
            WHERE id = $1 RETURNING {_COLUMNS}""",
        account_id,
        until,
        disable_after,
        acts_for_all,
        now,
    )
    return _found(row)


async def save_confirmed_admin(conn: Connection, account_id: int, now: datetime) -> Account:
    """Let a temporary admin's role last."""
    row = await conn.fetchrow(
        f"""UPDATE adminuser SET admin_until = NULL, disable_after_admin = false, version = version + 1, updated_at = $2
            WHERE id = $1 RETURNING {_COLUMNS}""",
        account_id,
        now,
    )
    return _found(row)


async def lock_expired_admins(conn: Connection, now: datetime) -> list[Account]:
    """Give the accounts whose temporary admin role is over; leaves out those that another worker holds."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} FROM adminuser WHERE admin_until <= $1 ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", now
    )
    return [_account(row) for row in rows]


def _grant_columns(on_behalf_of: Grants) -> tuple[bool, list[int]]:
    return (True, []) if on_behalf_of == "all" else (False, sorted(on_behalf_of))
