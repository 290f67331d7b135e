"""Admin roles that break-glass gave and that end by themselves."""

from __future__ import annotations

from datetime import datetime

from shared.db import Connection


async def save_temporary_admin(
    conn: Connection, account_id: int, *, until: datetime, disable_after: bool, acts_for_all: bool, now: datetime
) -> None:
    """Let an account be an admin until then."""
    await conn.execute(
        """UPDATE adminuser SET roles = ARRAY (SELECT DISTINCT unnest(roles || ARRAY ['Admin']) ORDER BY 1),
               is_active = true, status = 'active', admin_until = $2, disable_after_admin = disable_after_admin OR $3,
               acts_for_all = acts_for_all OR $4, version = version + 1, updated_at = $5
           WHERE id = $1""",
        account_id,
        until,
        disable_after,
        acts_for_all,
        now,
    )


async def save_confirmed(conn: Connection, account_id: int, now: datetime) -> None:
    """Let a temporary admin's role last."""
    await conn.execute(
        """UPDATE adminuser SET admin_until = NULL, disable_after_admin = false, version = version + 1, updated_at = $2
           WHERE id = $1""",
        account_id,
        now,
    )


async def lock_expired_admins(conn: Connection, now: datetime) -> list[tuple[int, bool]]:
    """Give the accounts whose admin role is over and whether each is to be disabled; leaves out another worker's."""
    rows = await conn.fetch(
        """SELECT id, disable_after_admin FROM adminuser WHERE admin_until <= $1
           ORDER BY id FOR NO KEY UPDATE SKIP LOCKED""",
        now,
    )
    return [(row["id"], row["disable_after_admin"]) for row in rows]
