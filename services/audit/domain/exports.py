"""The log in the formats that others read: evidence as NDJSON, and a table as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

import orjson

from services.audit.domain.canonical import canonical
from services.audit.domain.chain import Record
from services.audit.domain.lines import neutralise
from shared.csv_cells import harmless

CSV_COLUMNS: Final = (
    "seq", "id", "occurred_at", "recorded_at", "service", "action", "outcome", "severity", "reason",
    "actor_kind", "actor_id", "actor_roles", "on_behalf_of", "target_kind", "target_id", "request_id", "request_path",
    "details", "hash",
)  # fmt: skip


def frame_line(part: str, **facts: Any) -> bytes:
    """Write the first or the last line of an export: what it should hold, and what was signed about it."""
    return json_line({"part": part, **facts})


def ndjson_line(record: Record) -> bytes:
    """Write a record as evidence: its payload in the one form of RFC 8785, so that anybody can hash it again.

    Byte for byte, but for characters at which some readers break a line (U+2028, U+0085) and which act on a terminal:
    these are escaped. Whoever meets an escape writes the payload in that form again before hashing it.
    """
    return b'{"seq":%d,"prev_hash":"%b","hash":"%b","payload":%b}\n' % (
        record.seq,
        record.prev_hash.hex().encode(),
        record.hash.hex().encode(),
        neutralise(record.payload.decode(errors="replace")).encode(),
    )


def json_line(value: Any) -> bytes:
    """Write a value as one line, whatever text is in it."""
    return neutralise(orjson.dumps(value).decode()).encode() + b"\n"


def read_ndjson_line(line: bytes) -> Record | dict[str, Any]:
    """Read evidence back: a record, or the first or last line around the records; raises ValueError."""
    parsed: dict[str, Any] = orjson.loads(line)
    if "payload" not in parsed:
        return parsed
    start = line.index(b'"payload":') + len(b'"payload":')
    payload = line[start : line.rindex(b"}")]
    if b"\\u" in payload:
        payload = canonical(parsed["payload"])
    return Record(
        int(parsed["seq"]), bytes.fromhex(parsed["prev_hash"]), bytes.fromhex(parsed["hash"]), payload, columns=None
    )


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Write rows, each in one line, with every cell quoted and none that a spreadsheet would run."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
        [[harmless_cell(cell) for cell in row] for row in rows]
    )
    return out.getvalue().encode()


def harmless_cell(value: Any) -> str:
    """Write a value so that a spreadsheet takes it for text, and in one line without what acts on a terminal."""
    return neutralise(harmless("" if value is None else str(value), separator=","))


def csv_row(record: Record) -> list[Any]:
    """Lay a record out in the columns of the CSV."""
    content = record.content()
    actor, target = content["actor"], content.get("target") or {}
    return [
        record.seq, content["id"], content["time"], content["recordedtime"], content["service"], content["action"],
        content["outcome"], content["severity"], content.get("reason"), actor.get("kind"), actor.get("id"),
        " ".join(actor.get("roles") or []), content.get("on_behalf_of"), target.get("kind"), target.get("id"),
        content.get("request_id"), content.get("request_path"), orjson.dumps(content["details"]).decode(),
        record.hash.hex(),
    ]  # fmt: skip
