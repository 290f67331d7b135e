"""Sealing: the only way into the log."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prometheus_client import Counter, Histogram

from services.audit import store
from services.audit.domain.chain import extend, head_after
from services.audit.domain.records import Draft
from shared.db import Connection

SEALED = Counter("audit_sealed_total", "Records sealed into the chain", ["service"])
LAG_SECONDS = Histogram(
    "audit_lag_seconds", "From the event to its record", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
)


async def seal(conn: Connection, drafts: Sequence[Draft]) -> list[Draft]:
    """Put events behind the end of the chain, each once; gives those that were new.

    The lock on the head is taken first and held to the end of the transaction: one sealer at a time, whatever the
    number of workers. Reading the newest record and inserting behind it without that lock forks the chain.
    """
    head, now = await store.lock_head(conn)
    fresh = _without_known(drafts, await store.list_seen(conn, [draft.event_id for draft in drafts]))
    if not fresh:
        return []
    records = extend(head, [draft.content for draft in fresh], now)
    await store.insert_records(conn, records)
    await store.insert_personal_keys(
        conn, [(record, draft.sealed) for record, draft in zip(records, fresh, strict=True) if draft.sealed]
    )
    await store.save_head(conn, head_after(head, records, now))
    for record in records:
        if record.columns:
            SEALED.labels(record.columns.service).inc()
            LAG_SECONDS.observe((record.columns.recorded_at - record.columns.occurred_at).total_seconds())
    return fresh


async def make_partitions(conn: Connection, ahead: int) -> list[str]:
    """Make the log's partitions of the coming months; gives the names of new ones."""
    return await store.make_partitions(conn, ahead)


def _without_known(drafts: Sequence[Draft], known: set[UUID]) -> list[Draft]:
    """Keep the first of each event that is not in the log."""
    fresh = {draft.event_id: draft for draft in reversed(drafts) if draft.event_id not in known}
    return [draft for draft in drafts if fresh.get(draft.event_id) is draft]
