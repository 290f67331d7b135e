"""What a form of ours sends: read within bounds of size and time, and without a package for it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from services.gateway.routes.console.refusals import FormRefused

FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 10_000
_DIGITS: Final = len(str(2**63))


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

    def number(self, name: str) -> int | str:
        """Give a whole number, or the text that is none."""
        return number_or_text(self.get(name))


def number_or_text(text: str) -> int | str:
    """Read a whole number of at most 64 bits; what is none stays as it is, so that the service says what is wrong."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _DIGITS else text


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
