"""excel-job: from the upload of a list to the provider's word that it has taken every message."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import aio_pika
import asyncpg
import httpx
import xlsxwriter
from pydantic import SecretStr

from benchmarks import invitations
from benchmarks.arena import RUN_DIR, Arena, in_loop
from benchmarks.contest import Aim, Limit, Row
from benchmarks.invitations import Provider
from services.invitations.settings import InvitationsSettings
from tests.invitations.processes import running_role, serving_keys
from tests.support.tokens import Issuer

OURS = "our api and one worker"
OURS_SINGLY = "ours, one request a message"
CELERY = "Celery, a task per row"
CELERY_QUEUE = "bench.celery-invitations"
DOOR = "/api/Sponsorship/farmer/invitations/bulk"
HEADER = ("Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes")
FILE = RUN_DIR / "invitations.xlsx"
LOG = RUN_DIR / "invitations.log"
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 300.0
NO_LIMIT = 1e6  # Messages a second: the shared pace stays on, but is not what is measured.


def row(arena: Arena, *, size: int) -> Row:
    """Invite `size` farmers."""
    invitations.prepare(arena)
    _write(size)

    def contender(measure: Callable[[Arena, Provider, int], float]) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            invitations.fill(arena, 2 * size)
            with invitations.provider() as provider:
                seconds = measure(arena, provider, size)
                phones = provider.phones()
            assert len(phones) == size, f"{len(phones)} farmers got a message"
            assert set(phones.values()) == {1}, "a farmer got two"
            return {"seconds": seconds}

        return run

    return Row(
        name="excel-job",
        title=f"{size:,} rows, {FILE.stat().st_size / 1e6:.1f} MB .xlsx → each message accepted by the provider",
        contenders={
            OURS: contender(lambda *these: _ours(*these, channel="SMS")),
            OURS_SINGLY: contender(lambda *these: _ours(*these, channel="WhatsApp")),
            CELERY: contender(_celery),
        },
        units={"seconds": "s"},
        aims=[Aim(CELERY, "seconds", 5.0)],
        limits=[Limit("seconds", 5.0)],
        terms=[
            "all: until the database knows of each message that the provider has it; the programs run before; fsync on",
            "all: the sandbox answers at once, shares the machine, and counts: each farmer gets one message",
            "ours: HTTP upload, api and one worker as in production, pace limit out of reach; audit, events, sealed",
            "  tokens and the record of each attempt included; 100 messages a request, as Verimor takes them",
            "one request a message: the same by WhatsApp, where Twilio takes one message a request",
            "Celery: the clock starts when openpyxl opens the file, no HTTP; quorum queue, prefork, a process per",
            "  core, acks_late, prefetch 50; SQLAlchemy and psycopg, one code by SKIP LOCKED, two transactions a task",
        ],
        less_is_better=True,
    )


def _write(size: int) -> None:
    with xlsxwriter.Workbook(str(FILE)) as workbook:
        sheet = workbook.add_worksheet("Davetler")
        sheet.write_row(0, 0, HEADER)
        for number in range(1, size + 1):
            email = f"ciftci{number}@example.com"
            sheet.write_row(
                number, 0, (f"0542{number:07}", f"Çiftçi {number}", email, invitations.TIER, f"Bölge {number % 81}")
            )


def _ours(arena: Arena, provider: Provider, size: int, *, channel: str) -> float:
    issuer = Issuer()
    with _roles(arena, provider, issuer) as url:
        began = time.time()
        answer = httpx.post(
            f"{url}{DOOR}",
            headers=issuer.headers(invitations.SPONSOR, "Sponsor"),
            data={"channel": channel},
            files={"excelFile": ("list.xlsx", FILE.read_bytes())},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        in_loop(_wait(arena, "SELECT count(*) FROM invitations.job_rows WHERE outcome = 'sent'", size))
        return time.time() - began


@contextmanager
def _roles(arena: Arena, provider: Provider, issuer: Issuer) -> Iterator[str]:
    settings = InvitationsSettings(
        database_url=SecretStr(arena.postgres_url),
        amqp_url=SecretStr(arena.amqp_url),
        secret_keys=SecretStr(invitations.SECRET_KEYS),
        upload_folder=RUN_DIR,
        verimor_url=provider.url,
        verimor_username="902120000000",
        verimor_password=SecretStr("sandbox"),
        twilio_url=provider.url,
        twilio_account_sid="AC" + "0" * 32,
        twilio_auth_token=SecretStr("sandbox"),
        twilio_from="+15005550006",
        twilio_content_sid="HX" + "0" * 32,
        messages_per_second=NO_LIMIT,
        messages_burst=NO_LIMIT,
    )
    with ExitStack() as stack:
        jwks_url = stack.enter_context(serving_keys(in_loop(issuer.keys())))
        api, worker = (
            stack.enter_context(running_role(role, settings, arena.amqp_url, LOG, jwks_url=jwks_url))
            for role in ("api", "worker")
        )
        in_loop(api.ready())
        in_loop(worker.ready())
        yield api.url


def _celery(arena: Arena, provider: Provider, size: int) -> float:
    arena.fresh_queue(CELERY_QUEUE)
    os.environ["BENCH_PROVIDER_URL"] = provider.url
    with arena.running("celery_invitations"):
        in_loop(_wait_for_consumer(arena))
        began = arena.run("celery_upload", str(FILE))["began"]
        in_loop(_wait(arena, "SELECT count(*) FROM bench.peer_invitations WHERE state = 'sent'", size))
        return time.time() - began


async def _wait_for_consumer(arena: Arena) -> None:
    async with await aio_pika.connect(arena.amqp_url) as connection:
        channel = await connection.channel()
        while True:
            queue = await channel.declare_queue(CELERY_QUEUE, passive=True)
            if queue.declaration_result.consumer_count:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _wait(arena: Arena, question: str, size: int) -> None:
    conn = await asyncpg.connect(arena.postgres_url)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (done := await conn.fetchval(question)) < size:
        assert time.monotonic() < deadline, f"only {done} messages were accepted in time"
        await asyncio.sleep(LOOK_SECONDS)
    await conn.close()
