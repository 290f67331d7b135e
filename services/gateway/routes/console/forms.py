"""What a form of ours sends: read within bounds of size and time, and without a package for it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import parse_qs

from fastapi import Request

from services.gateway.routes.console.refusals import FormRefused

FORM: str = "application/x-www-form-urlencoded"
_MOST_FIELDS = 10_000


class Form:
    """The fields of a form; a field may come several times."""

    def __init__(self, fields: dict[str, list[str]] | None = None) -> None:
        self._fields = fields or {}

    def get(self, name: str, otherwise: str = "") -> str:
        """Give a field without the blanks around it; of repeated ones the first."""
        return self._fields.get(name, [otherwise])[0].strip()

    def exact(self, name: str) -> str:
        """Give a field as it was typed: blanks belong to a password."""
        return self._fields.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """Give every value of a field, in the order of the page."""
        return [value.strip() for value in self._fields.get(name, [])]

    def number(self, name: str) -> int | None:
        """Give a whole number, or None for what is none."""
        text = self.get(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < len(str(2**63)) else None


async def read_form(request: Request, *, most_bytes: int, seconds: float) -> Form:
    """Read the fields; raises FormRefused for what is too long, too slow or no form."""
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                content += part
                if len(content) > most_bytes:
                    raise FormRefused("form_too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return Form(parse_qs(content.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except TimeoutError:
        raise FormRefused("form_too_slow", HTTPStatus.REQUEST_TIMEOUT) from None
    except ValueError:
        raise FormRefused("form_malformed", HTTPStatus.BAD_REQUEST) from None
