"""Gives codes to recipients: `allocation call|transactions|statements RECIPIENTS CODES_EACH`; prints the seconds.

`call`: what an on-behalf-of call does in its transaction. The others take one code after the other from the same
table: in a transaction each, as an application does it, or in one statement each, which is as fast as that can be.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import orjson
import uvloop

from benchmarks.invitations import SECRET_KEYS, SPONSOR, TIER
from services.invitations.commands.bulk import Invitation, Recipient, Started, start_call
from services.invitations.commands.placing import Terms
from services.invitations.domain.bulk import Channel, Door
from services.invitations.domain.codes import Tier
from shared.db import Connection, Database
from shared.identity import Principal
from shared.sealing import Sealer, parse_keys

ADMIN = Principal(
    id=166,
    roles=frozenset({"Admin"}),
    permissions=frozenset(),
    on_behalf_of=frozenset({SPONSOR}),
    session_id="bench",
    token_id="bench",  # noqa: S106 - names a token, is none
    issued_at=0,
    expires_at=2**31,
)
FREE = """SELECT id FROM codes WHERE sponsor_id = $1 AND tier = $2 AND state = 'available' AND expires_at > now()
           ORDER BY expires_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"""
HOLD = "UPDATE codes SET state = 'reserved' WHERE id = $1"
LINK = "INSERT INTO invitation_codes (code_id, invitation_id) VALUES ($1, $2)"
ALL_IN_ONE = f"""WITH one AS MATERIALIZED ({FREE}),
                 held AS (UPDATE codes SET state = 'reserved' FROM one WHERE codes.id = one.id RETURNING codes.id)
                 INSERT INTO invitation_codes (code_id, invitation_id) SELECT id, $3 FROM held"""  # noqa: S608


async def main(style: str, recipients: int, codes_each: int) -> dict[str, float]:
    database = Database(os.environ["BENCH_POSTGRES_URL"], schema="invitations")
    # Before the clock: connection and statements are warm, and the others have invitations to reserve for.
    await _call(database, 0, recipients, 1)
    started = time.perf_counter()
    if style == "call":
        await _call(database, recipients, recipients, codes_each)
        seconds = time.perf_counter() - started
    else:
        seconds = await _one_by_one(database, codes_each, _in_a_transaction if style == "transactions" else _at_once)
    await database.close()
    return {"seconds": seconds}


async def _call(database: Database, first: int, recipients: int, codes_each: int) -> None:
    terms = Terms(
        sealer=Sealer(parse_keys(SECRET_KEYS)),
        providers=dict.fromkeys(Channel, "verimor"),
        expiry=timedelta(days=7),
        claimed_by="bench",
        lease=timedelta(seconds=60),
        is_commercial=True,
    )
    invited = [
        Recipient(f"0542{number:07}", f"Çiftçi {number}", None, codes_each, Tier(TIER), None)
        for number in range(first, first + recipients)
    ]
    invitation = Invitation(SPONSOR, Door.ADMIN_JSON, Channel.SMS, None, invited)
    async with database.transaction() as conn:
        started = await start_call(conn, ADMIN, invitation, None, terms)
    assert isinstance(started, Started)
    assert len(started.delivery_ids) == recipients


async def _one_by_one(
    database: Database, codes_each: int, reserve: Callable[[Connection, int], Awaitable[None]]
) -> float:
    async with database.connection() as conn:
        holders = [row["id"] for row in await conn.fetch("SELECT id FROM invitations ORDER BY id")]
        started = time.perf_counter()
        for holder in holders:
            for _ in range(codes_each):
                await reserve(conn, holder)
        return time.perf_counter() - started


async def _in_a_transaction(conn: Connection, holder: int) -> None:
    async with conn.transaction():
        code_id = await conn.fetchval(FREE, SPONSOR, TIER)
        await conn.execute(HOLD, code_id)
        await conn.execute(LINK, code_id, holder)


async def _at_once(conn: Connection, holder: int) -> None:
    await conn.execute(ALL_IN_ONE, SPONSOR, TIER, holder)


if __name__ == "__main__":
    print(orjson.dumps(uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))).decode())
