"""Opaque cursors of lists: `?limit=&cursor=` answers `{"items": [...], "next_cursor": …}`."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from shared.errors import FieldError, Invalid


def encode_cursor(*position: Any) -> str:
    """Turn the sort key of the last item shown into an opaque cursor."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, length: int) -> list[Any]:
    """Read a cursor that `encode_cursor` made of so many values; raises Invalid."""
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    if not isinstance(position, list) or len(position) != length:
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")])
    return position
