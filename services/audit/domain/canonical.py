"""One form of bytes for one meaning: JSON Canonicalization Scheme (RFC 8785), without floating point.

What was hashed is stored as these bytes, never as jsonb: Postgres renormalises jsonb, and its hash stops matching.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import orjson
import rfc8785

# RFC 8785 section 3.2.2.3 writes numbers as IEEE 754 doubles: integers are exact up to here only.
_LARGEST_EXACT: Final = 2**53 - 1
# No honest event nests this deep; a hostile one must not exhaust the stack.
_DEEPEST: Final = 32
_TOO_DEEP: Final = "[nested too deep]"
_BEYOND_THE_BASIC_PLANE: Final = re.compile(rb"[\xf0-\xf4]")


def canonical(value: Mapping[str, Any]) -> bytes:
    """Give the bytes that are stored and hashed; takes whatever came and never refuses evidence.

    Without floating point, orjson with sorted keys writes the very bytes of RFC 8785, many times faster, but for one
    thing: the RFC sorts keys by UTF-16 units, which differs from the order of code points beyond U+FFFF. Such text
    (four bytes in UTF-8) goes the slow way. A test compares both ways on whatever hypothesis can think of.
    """
    prepared = plain(value)
    quick = orjson.dumps(prepared, option=orjson.OPT_SORT_KEYS)
    return rfc8785.dumps(prepared) if _BEYOND_THE_BASIC_PLANE.search(quick) else quick


def plain(value: Any, depth: int = 0) -> Any:
    """Keep text, truth, exact integers, lists and objects; write everything else as text."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) <= _LARGEST_EXACT):
        return value
    if isinstance(value, str):
        return _well_formed(value)
    if depth >= _DEEPEST:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        return {_well_formed(str(key)): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    return _text_of(value)


def timestamp(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC with microseconds, which is exactly what Postgres keeps."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _text_of(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return timestamp(value)
    if isinstance(value, UUID):
        return str(value)
    return _well_formed(str(value))


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which no UTF-8 can carry."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text
