"""Checkpoints: a signed statement about the chain every minute, also when nothing happened, kept in three places.

An idle log that falls silent can't be told from one whose tail was cut; a checkpoint that says "still 57" can.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import timedelta
from typing import Final

from prometheus_client import Gauge

from services.audit import store
from services.audit.checkpoint_directory import CheckpointDirectory
from services.audit.domain.checkpoints import (
    FIRST,
    Checkpoint,
    SigningKey,
    UnreadableCheckpointError,
    VerifierKey,
    open_note,
    origin_of,
)
from shared.db import Connection

log = logging.getLogger(__name__)

# A day's worth, so that a folder that begins anew is soon complete.
_AT_ONCE: Final = 1_440

CHECKPOINT_AT = Gauge("audit_last_checkpoint_timestamp_seconds", "When the newest checkpoint was signed")


async def take_checkpoint(conn: Connection, key: SigningKey, *, every: timedelta) -> Checkpoint | None:
    """Sign where the chain stands; None when another worker has done so within this interval."""
    head, now = await store.lock_head(conn)
    before = await store.find_last_checkpoint(conn)
    # One from the future is not ours, or of a clock that was wrong: it must not keep us from signing the next.
    if before is not None and abs(now - before["taken_at"]) < every:
        CHECKPOINT_AT.set(before["taken_at"].timestamp())
        return None
    checkpoint = Checkpoint(
        origin=origin_of(head.chain_id),
        seq=head.seq,
        head=head.hash,
        number=before["number"] + 1 if before else 1,
        taken_at=now,
        records=head.seq - (before["seq"] if before else 0),
        previous=_digest(before["note"]) if before else FIRST,
    )
    note = key.sign(checkpoint)
    await store.insert_checkpoint(conn, checkpoint, note)
    CHECKPOINT_AT.set(now.timestamp())
    # The log stream is the second place; it leaves this machine by itself wherever logs are collected.
    log.info("checkpoint %d: %d records", checkpoint.number, checkpoint.seq, extra={"checkpoint": note})
    return checkpoint


async def copy_checkpoints(conn: Connection, directory: CheckpointDirectory, keys: list[VerifierKey]) -> int:
    """Bring the directory up to date with the table, after a crash or a full disk too; gives how many were copied."""
    number = await asyncio.to_thread(directory.last_number)
    copied = 0
    while rows := await store.list_checkpoints(conn, after_number=number, limit=_AT_ONCE):
        number = rows[-1]["number"]
        readable = []
        for row in rows:
            try:
                readable.append((open_note(row["note"], keys), row["note"]))
            except UnreadableCheckpointError as error:
                log.error("checkpoint %d was not copied: %s", row["number"], error)  # noqa: TRY400 the reason is enough
        await asyncio.to_thread(directory.append, readable)
        copied += len(readable)
    return copied


def _digest(note: str) -> bytes:
    """Digest the signed text of a note, readable or not: a damaged one must not stop the next."""
    return hashlib.sha256(f"{note.partition(chr(10) * 2)[0]}\n".encode()).digest()
