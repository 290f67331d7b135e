"""Inviting farmers on a sponsor's behalf, one by one in a form, or pasted from a spreadsheet."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any, Final

from fastapi import Response

from services.gateway.domain.console.pasting import COLUMNS, PastedRow, read_pasted
from services.gateway.routes.console.door import Admin, explain, make_router
from services.gateway.routes.console.forms import number_or_text
from services.gateway.routes.console.invitations import API, pick_sponsor
from services.gateway.routes.console.refusals import ApiRefused
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_BLANK_ROWS: Final = 3


@router.get("/invitations/on-behalf")
async def show_form(visitor: Admin, sponsor: str = "", search: str = "", cursor: str = "") -> Response:
    """Ask for the farmers, once the sponsor is chosen."""
    chosen = await pick_sponsor(visitor, sponsor, search, cursor)
    if isinstance(chosen, Response):
        return chosen
    return _form(visitor, chosen, [PastedRow()] * _BLANK_ROWS)


@router.post("/invitations/on-behalf/rows")
async def add_rows(visitor: Admin) -> Response:
    """Turn what was pasted into rows of the form."""
    rows = read_pasted(visitor.form.exact("pasted")) if visitor.form.exact("pasted") else [PastedRow()]
    return visitor.page("fragments/recipients.html", rows=rows, problems={})


@router.post("/invitations/on-behalf")
async def invite_on_behalf(visitor: Admin) -> Response:
    """Send the invitations, and show what became of each farmer."""
    form = visitor.form
    chosen = await pick_sponsor(visitor, form.get("sponsor"), "", "")
    if isinstance(chosen, Response):
        return chosen
    rows = [row for row in _rows(visitor) if not row.is_blank]
    body = {
        "sponsorId": chosen["sponsorId"],
        "channel": form.get("channel", "SMS"),
        "customMessage": form.get("customMessage") or None,
        "recipients": [_recipient(row) for row in rows],
    }
    path = f"{API}/admin/farmer/invitations/bulk"
    try:
        answer = await visitor.send("POST", path, body, key=form.get("key") or None)
    except ApiRefused as refused:
        return _form(visitor, chosen, rows or [PastedRow()] * _BLANK_ROWS, refused)
    return visitor.page("on_behalf_result.html", sponsor=chosen, result=answer["data"])


def _form(
    visitor: Visitor, sponsor: dict[str, Any], rows: list[PastedRow], refused: ApiRefused | None = None
) -> Response:
    form = visitor.form
    problems = _problems_by_row(refused) if refused else {}
    return visitor.page(
        "on_behalf.html",
        status=refused.status if refused else HTTPStatus.OK,
        sponsor=sponsor,
        rows=rows,
        problems=problems,
        problem=_words(visitor, refused, problems) if refused else None,
        channel=form.get("channel", "SMS"),
        message=form.get("customMessage"),
        key=secrets.token_urlsafe(18),
    )


def _words(visitor: Visitor, refused: ApiRefused, problems: dict[int, str]) -> str:
    return visitor.say("on_behalf.rows_wrong", n=len(problems)) if problems else explain(visitor, refused)


def _rows(visitor: Visitor) -> list[PastedRow]:
    # The columns of the form are the fields of a row, in the same order.
    columns = [visitor.form.all(column) for column in COLUMNS]
    return [PastedRow(*cells) for cells in zip(*columns, strict=False)]


def _recipient(row: PastedRow) -> dict[str, Any]:
    count = number_or_text(row.codeCount)
    recipient: dict[str, Any] = {"phone": row.phone, "farmerName": row.farmerName, "codeCount": count}
    optional = {"packageTier": row.packageTier, "email": row.email, "notes": row.notes}
    return recipient | {name: value for name, value in optional.items() if value}


def _problems_by_row(refused: ApiRefused) -> dict[int, str]:
    """Find which row each complaint is about: `recipients.3.codeCount`."""
    problems: dict[int, str] = {}
    for item in refused.fields:
        parts = str(item.get("field", "")).split(".")
        if len(parts) > 1 and parts[0] == "recipients" and parts[1].isdigit():
            words = f"{'.'.join(parts[2:])}: {item.get('message', '')}"
            problems[int(parts[1])] = f"{problems[int(parts[1])]} {words}" if int(parts[1]) in problems else words
    return problems
