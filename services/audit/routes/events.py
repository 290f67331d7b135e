"""Reading and exporting events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from services.audit import commands, store
from services.audit.context import AuditContext
from services.audit.domain.chain import Record
from services.audit.domain.checkpoints import origin_of
from services.audit.domain.exports import CSV_COLUMNS, csv_lines, csv_row, frame_line, json_line, ndjson_line
from services.audit.domain.filters import EventFilter, Position
from services.audit.domain.ocsf import ocsf_event
from services.audit.domain.records import EventUnknown
from services.audit.routes.access import CurrentContext, Reader
from services.audit.schemas import AuditEvent, EventPage, ExportQuery, PageQuery, cursor_behind, position_of
from shared.db import Connection

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

# So many records are read per statement: memory stays flat and no statement runs long.
_STRETCH: Final = 5_000
_MEDIA_TYPES: Final = {
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "ocsf": "application/x-ndjson",
}


@router.get("/events")
async def list_events(query: Annotated[PageQuery, Query()], reader: Reader, context: CurrentContext) -> EventPage:
    """Find events, newest first; a page stays what it is while new events arrive."""
    after = query.position()
    async with context.database.transaction() as conn:
        records = await store.list_records(conn, query.wanted(), after=after, limit=query.limit + 1)
        shown = records[: query.limit]
        items = await _opened(context, conn, shown)
        await commands.record_reading(conn, reader, action="audit.log.read", asked=query.asked(), shown=len(items))
    more = len(records) > query.limit or store.is_full(records)
    return EventPage(items=items, next_cursor=cursor_behind(shown[-1]) if more else None)


@router.get("/events/{event_id}")
async def get_event(event_id: UUID, reader: Reader, context: CurrentContext) -> AuditEvent:
    """Show one event."""
    async with context.database.transaction() as conn:
        record = await store.find_record(conn, event_id)
        await commands.record_reading(
            conn, reader, action="audit.event.read", asked={}, shown=1 if record else 0, event_id=str(event_id)
        )
        items = await _opened(context, conn, [record] if record else [])
    if not items:
        raise EventUnknown
    return items[0]


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {media_type: {} for media_type in _MEDIA_TYPES.values()}}},
)
async def export_events(
    query: Annotated[ExportQuery, Query()], reader: Reader, context: CurrentContext
) -> StreamingResponse:
    """Stream all matching events, oldest first, up to where the log stands now.

    `ndjson` is evidence: payloads with their hashes, between two lines with the newest checkpoint.
    Personal data stays sealed in every format: a copy outside could not be erased any more.
    """
    async with context.database.transaction() as conn:
        # In this order: one that is signed between the two would speak of records that the export does not hold.
        checkpoint = await store.find_last_checkpoint(conn)
        head = await store.get_head(conn)
        await commands.record_export(conn, reader, asked=query.asked(), last_seq=head.seq)
    records = _matching(context, query.wanted(), last=head.seq)
    asked = query.model_copy(update={"format": None}).asked()
    note = checkpoint["note"] if checkpoint else None
    match query.format:
        case "ndjson":
            body = _ndjson(records, note, context, head.seq, asked)
        case "csv":
            body = _csv(records)
        case "ocsf":
            body = _ocsf(records, origin_of(head.chain_id))
    suffix = "csv" if query.format == "csv" else "ndjson"
    return StreamingResponse(
        body,
        media_type=_MEDIA_TYPES[query.format],
        headers={
            "content-disposition": f'attachment; filename="audit-{head.seq}.{suffix}"',
            "cache-control": "no-store",
        },
    )


async def _opened(context: AuditContext, conn: Connection, records: Sequence[Record]) -> list[AuditEvent]:
    ids = {record.seq: record.columns.event_id for record in records if record.columns}
    kept = await store.list_personal_keys(conn, list(ids.values()))
    return [
        AuditEvent.of(record, context.personal_data.show(record.content(), kept.get(ids[record.seq])))
        for record in records
    ]


async def _matching(context: AuditContext, wanted: EventFilter, *, last: int) -> AsyncIterator[list[Record]]:
    """Read some at a time, each with a connection of its own: a slow reader must not hold a transaction open.

    The whole log comes in the order of the chain, as evidence must; a selection from an index, oldest first.
    """
    if not wanted.given():
        async for records in _stretches(context, last):
            yield records
        return
    after: Position | None = None
    while True:
        async with context.database.connection() as conn:
            records = await store.list_records(conn, wanted, after=after, limit=_STRETCH, up_to=last)
        if records:
            yield records
        if len(records) < _STRETCH and not store.is_full(records):
            return
        after = position_of(records[-1])


async def _stretches(context: AuditContext, last: int) -> AsyncIterator[list[Record]]:
    async with context.database.connection() as conn:
        first = await store.find_first_seq(conn) or 1
    while first <= last:
        async with context.database.connection() as conn:
            records = await store.list_stretch(conn, first=first, last=min(first + _STRETCH - 1, last))
        if records:
            yield records
        first += _STRETCH


async def _ndjson(
    stretches: AsyncIterator[list[Record]], note: str | None, context: AuditContext, last: int, asked: dict[str, Any]
) -> AsyncIterator[bytes]:
    facts: dict[str, Any] = {
        "checkpoint": note,
        "verifier_key": context.signing_key.verifier.text(),
        "last_seq": last,
        "filters": asked,
    }
    yield frame_line("first line", **facts)
    count = 0
    async for records in stretches:
        count += len(records)
        yield b"".join(ndjson_line(record) for record in records)
    # Without this line the copy was cut off on its way.
    yield frame_line("last line", records=count, **facts)


async def _csv(stretches: AsyncIterator[list[Record]]) -> AsyncIterator[bytes]:
    yield csv_lines([CSV_COLUMNS])
    async for records in stretches:
        yield csv_lines(csv_row(record) for record in records)


async def _ocsf(stretches: AsyncIterator[list[Record]], chain: str) -> AsyncIterator[bytes]:
    async for records in stretches:
        yield b"".join(json_line(ocsf_event(record, chain)) for record in records)
