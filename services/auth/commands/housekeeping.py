"""Forgetting what is over."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.auth.domain.rules import Rules
from services.auth.store import sessions, throttles
from shared.db import Connection


async def forget_old(conn: Connection, rules: Rules, *, keep_sessions: timedelta, now: datetime) -> None:
    """Forget sessions that ended long ago and failures that no rule looks at."""
    await throttles.delete_old_throttles(
        conn, now - max(rules.sign_ins.forgotten_after, rules.reset_mails.forgotten_after)
    )
    await sessions.delete_old_sessions(conn, now - keep_sessions)
