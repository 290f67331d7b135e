"""Celery, in: a task per message, acknowledged late, with the inbox that it does not have written by hand."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from celery import Celery
from celery.signals import worker_process_init
from kombu import Queue

from benchmarks import material
from benchmarks.arena import QUORUM, SCHEMA
from benchmarks.bus_in import CELERY_QUEUE
from shared.events import UserRegistered

PROCESSES = 10  # As many connections to Postgres as the other peer has.
app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"])
app.conf.update(
    task_queues=[Queue(CELERY_QUEUE, routing_key=CELERY_QUEUE, exchange="", durable=True, queue_arguments=QUORUM)],
    task_default_queue=CELERY_QUEUE,
    task_default_queue_type="quorum",
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=material.PREFETCH // PROCESSES,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
connections: list[psycopg.Connection[Any]] = []


def open_connection(**_: Any) -> None:
    """Give each process a connection of its own."""
    url = os.environ["BENCH_POSTGRES_URL"]
    connections.append(psycopg.connect(url, autocommit=True, options=f"-c search_path={SCHEMA}"))


def leave_effect(event_id: str, data: dict[str, Any]) -> None:
    """Leave the effect of one message, once."""
    event = UserRegistered.model_validate(data)
    with connections[0].transaction(), connections[0].cursor() as cursor:
        cursor.execute(
            "INSERT INTO inbox (consumer, event_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", (CELERY_QUEUE, event_id)
        )
        if cursor.rowcount:
            cursor.execute(
                "INSERT INTO effects (user_id, email, full_name) VALUES (%s, %s, %s)",
                (event.user_id, event.email, event.full_name),
            )


worker_process_init.connect(open_connection)
keep = app.task(leave_effect, name="keep")

if __name__ == "__main__":
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", "--pool=prefork", f"--concurrency={PROCESSES}", *quiet])
