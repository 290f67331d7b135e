"""Celery and SQLAlchemy, a task per row: one code, one invitation, one request to the provider, as many systems do it.

Written as its documentation advises: late acknowledgement, a prefetch, a connection of each kind per process that stays
open, no transaction open during the request. The provider's address comes in BENCH_PROVIDER_URL.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

import httpx
from celery import Celery
from celery.signals import worker_process_init
from kombu import Queue
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, create_engine, select, update
from sqlalchemy.dialects.postgresql import insert

from benchmarks.arena import QUORUM, SCHEMA
from benchmarks.excel_job import CELERY_QUEUE
from services.invitations.domain import wording

PREFETCH = 50
app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    task_queues=[Queue(CELERY_QUEUE, routing_key=CELERY_QUEUE, exchange="", durable=True, queue_arguments=QUORUM)],
    task_default_queue=CELERY_QUEUE,
    task_default_queue_type="quorum",
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=PREFETCH,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
tables = MetaData()
codes = Table(
    "peer_codes",
    tables,
    Column("id", BigInteger, primary_key=True),
    Column("sponsor_id", BigInteger),
    Column("tier", Text),
    Column("state", Text),
    Column("invitation_id", BigInteger),
)
invitations = Table(
    "peer_invitations",
    tables,
    Column("id", BigInteger, primary_key=True),
    Column("job_id", BigInteger),
    Column("row_no", Integer),
    Column("sponsor_id", BigInteger),
    Column("phone", Text),
    Column("farmer_name", Text),
    Column("email", Text),
    Column("notes", Text),
    Column("tier", Text),
    Column("token", Text),
    Column("state", Text),
    Column("provider_id", Text),
)
# Engine and client of this process, made after the fork.
mine: dict[str, Any] = {}


class OutOfCodesError(Exception):
    """The sponsor has no code left."""


def open_connections(**_: Any) -> None:
    """Give each process connections of its own."""
    url = os.environ["BENCH_POSTGRES_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
    mine["engine"] = create_engine(url, connect_args={"options": f"-c search_path={SCHEMA}"})
    mine["client"] = httpx.Client(base_url=os.environ["BENCH_PROVIDER_URL"], trust_env=False)


def invite_farmer(row: dict[str, Any]) -> None:
    """Invite one farmer."""
    token = secrets.token_urlsafe(24)
    with mine["engine"].begin() as conn:
        new = insert(invitations).values(row | {"token": token}).on_conflict_do_nothing().returning(invitations.c.id)
        invitation_id = conn.scalar(new)
        if invitation_id is None:  # Delivered twice: who came first sends it (or died; a careful version would look).
            return
        # Unordered: in the order of ids, where everybody tries the same first, it is up to 3 times slower (measured).
        free = select(codes.c.id).where(
            codes.c.sponsor_id == row["sponsor_id"], codes.c.tier == row["tier"], codes.c.state == "available"
        )
        take = update(codes).where(codes.c.id == free.limit(1).with_for_update(skip_locked=True).scalar_subquery())
        if not conn.execute(take.values(state="reserved", invitation_id=invitation_id)).rowcount:
            raise OutOfCodesError
    answer = mine["client"].post("/v2/send.json", json=_order(invitation_id, row, token))
    answer.raise_for_status()
    with mine["engine"].begin() as conn:
        sent = update(invitations).where(invitations.c.id == invitation_id)
        conn.execute(sent.values(state="sent", provider_id=answer.text))


def _order(invitation_id: int, row: Mapping[str, Any], token: str) -> dict[str, Any]:
    link = f"https://ziraai.example/ref/{token}"
    values = wording.variables_of(
        farmer_name=row["farmer_name"], sponsor_name="Deniz Örnek", code_count=1, deep_link=link
    )
    text = wording.render(None, values, f"{link}/opt-out")
    return {
        "username": "902120000000",
        "password": "sandbox",
        "source_addr": "PARTNERHUB",
        "custom_id": str(invitation_id),
        "messages": [{"msg": text, "dest": row["phone"].removeprefix("+"), "id": str(invitation_id)}],
    }


worker_process_init.connect(open_connections)
invite = app.task(invite_farmer, name="invite")

if __name__ == "__main__":
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={os.cpu_count()}", *quiet])
