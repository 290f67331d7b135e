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
    if not isinstance(position, list) or len(position) != length or any(_is_too_large(part) for part in position):
        raise Invalid(fields=[FieldError("cursor", "Take the cursor from next_cursor of the page before.")])
    return position


def _is_too_large(part: Any) -> bool:
    """Say whether a number can't be a key of ours: Postgres would refuse it as a fault of the program."""
    return isinstance(part, int) and not -(2**63) <= part < 2**63
