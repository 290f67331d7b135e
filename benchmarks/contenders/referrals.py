"""Fetches every referral of the sandbox and stores or discards it: `store|discard URL CA_FILE`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import orjson
import uvloop
from pydantic import SecretStr

from benchmarks.material import peak_megabytes
from services.referrals.commands import sign_in, sync
from services.referrals.commands.connection import get_credential
from services.referrals.context import Context, make_context
from services.referrals.settings import ReferralsSettings
from services.referrals.store import sign_ins, syncs
from shared.events.audit import Actor

BENCH = Actor(kind="operator")


async def main() -> None:
    """Sign in, then measure."""
    what, url, ca_file = sys.argv[1:]
    context = make_context(_settings(url, Path(ca_file)))
    await _sign_in(context)
    started = time.perf_counter()
    referrals = await (_store(context) if what == "store" else _discard(context))
    seconds = time.perf_counter() - started
    await context.close()
    print(orjson.dumps({"rate": referrals / seconds, "megabytes": peak_megabytes(), "referrals": referrals}).decode())


def _settings(url: str, ca_file: Path) -> ReferralsSettings:
    return ReferralsSettings(
        database_url=SecretStr(os.environ["BENCH_POSTGRES_URL"]),
        amqp_url=SecretStr(os.environ["BENCH_AMQP_URL"]),
        enabled=True,
        tenant_id="3f1c9a52-7f0e-4b7c-9a64-1d1f6c2b8e10",
        client_id="9b1f7c04-52a8-4c39-8a4e-0c6d2f7e5b21",
        authority=url,
        api_url=url,
        ca_file=ca_file,
    )


async def _sign_in(context: Context) -> None:
    begun = await sign_in.begin_sign_in(context.access, asked_by=BENCH)
    while True:
        await sign_in.poll_due_sign_ins(context.access)
        async with context.database.connection() as conn:
            if (await sign_ins.get_sign_in(conn, begun.sign_in_id)).state == "succeeded":
                return


async def _store(context: Context) -> int:
    async with context.database.transaction() as conn:
        task, _ = await sync.request_sync(conn, context.rules, mode="full", asked_by=BENCH)
    await sync.run_sync(context.access, context.partner_center, context.rules, task.task_id)
    async with context.database.connection() as conn:
        return (await syncs.get_sync(conn, task.task_id)).counts.created


async def _discard(context: Context) -> int:
    token = (await get_credential(context.access)).token.access_token
    target: str | None = context.partner_center.first_target(ordered_by="createdDateTime asc")
    count = 0
    while target is not None:
        page = await context.partner_center.get_page(target, token)
        count += len(page.items)
        target = page.next_target
    return count


if __name__ == "__main__":
    uvloop.run(main())
