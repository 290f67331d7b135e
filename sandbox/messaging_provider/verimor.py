"""Verimor's SMS interface: POST /v2/send.json, GET /v2/status, pushed reports (its user guide, 2025-09)."""

import re
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import orjson

from sandbox.messaging_provider.faults import Faults, Knobs
from sandbox.messaging_provider.http import CUT, Request, Response
from sandbox.messaging_provider.ledger import Ledger, Message
from sandbox.messaging_provider.reports import Report, Reports

NAME = "verimor"
FIRST_CAMPAIGN_ID = 20_000
LONGEST_TEXT = 1071
MOBILE = re.compile(r"90\d{10}")
TURKEY = timezone(timedelta(hours=3))
ACCOUNT_REFUSED = Response.text(401, "Geçersiz kullanıcı adı/şifre")


class VerimorDoor:
    """Takes messages under the client's `custom_id` and tells what became of them."""

    name = NAME

    def __init__(self, ledger: Ledger, reports: Reports) -> None:
        self._ledger = ledger
        self._reports = reports

    def too_many(self, knobs: Knobs) -> Response:
        """Answer beyond the rate limit."""
        return Response(429, b"Too Many Requests", retry_after=knobs.retry_after_seconds)

    def server_error(self) -> Response:
        """Answer as a broken server."""
        return Response.text(500, "Internal Server Error")

    def drop(self) -> Response:
        """Answer nothing."""
        return CUT

    def send(self, request: Request, faults: Faults) -> Response:
        """Take a campaign, or say in one word why not."""
        try:
            order = orjson.loads(request.body)
        except ValueError:
            return Response.text(400, "INVALID_JSON")
        if not isinstance(order, dict):
            return Response.text(400, "INVALID_JSON")
        if faults.knobs.account_refused or not (order.get("username") and order.get("password")):
            return ACCOUNT_REFUSED
        wrong = _what_is_wrong(order, faults.knobs)
        if wrong:
            return Response.text(400, wrong)
        messages = order["messages"]
        if faults.knobs.refuse_duplicates and any(
            self._ledger.has_copy(NAME, f"+{message['dest']}", message["msg"]) for message in messages
        ):
            return Response.text(400, "MUKERRER_RAPORLAMA")
        campaign_id = str(FIRST_CAMPAIGN_ID + self._ledger.next_number())
        for message in messages:
            self._take(order, message, campaign_id, faults)
        return Response.text(200, campaign_id)

    def _take(self, order: dict[str, Any], message: dict[str, str], campaign_id: str, faults: Faults) -> None:
        taken = self._ledger.take(
            Message(
                number=self._ledger.next_number(),
                provider=NAME,
                provider_id=campaign_id,
                custom_id=str(order.get("custom_id", "")),
                phone=f"+{message['dest']}",
                sender=str(order.get("source_addr", "")),
                text=message["msg"],
                status="WAITING",
                details={"message_custom_id": str(message.get("id", ""))},
            )
        )
        if faults.knobs.reports:
            final = "NOT_DELIVERED" if faults.happens(faults.knobs.undelivered_rate) else "DELIVERED"
            self._reports.schedule(faults, [self._step(taken, final, faults.knobs.verimor_report_url)])

    def _step(self, message: Message, status: str, url: str | None) -> Callable[[], Report | None]:
        def bring_about() -> Report | None:
            message.status = status
            message.error_code = "" if status == "DELIVERED" else "27"
            if url is None:
                return None
            body = orjson.dumps([_report_of(message) | {"type": "outbound"}])
            return Report(url, {"content-type": "application/json"}, body, highest_status=200)

        return bring_about

    def status(self, request: Request, faults: Faults) -> Response:
        """Tell what became of a campaign; 404 means that it never came."""
        if faults.knobs.account_refused or not (request.query.get("username") and request.query.get("password")):
            return ACCOUNT_REFUSED
        if "custom_id" in request.query:
            found = [m for m in self._ledger.list_by_custom_id(request.query["custom_id"]) if m.provider == NAME]
        else:
            one = self._ledger.find(request.query.get("id", ""))
            found = [one] if one is not None and one.provider == NAME else []
        if not found:
            return Response.text(404, "Bu idye sahip kampanya bulunamadı")
        return Response.json(200, [_report_of(message) for message in found])


def _what_is_wrong(order: dict[str, Any], knobs: Knobs) -> str | None:
    """Judge a campaign; one wrong message spoils it."""
    messages = order.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        return "MISSING_MESSAGE"
    return next((wrong for message in messages if (wrong := _what_is_wrong_with(message, knobs))), None)


def _what_is_wrong_with(message: dict[str, Any], knobs: Knobs) -> str | None:
    text, phone = message.get("msg"), message.get("dest")
    if not isinstance(text, str) or not text:
        return "MISSING_MESSAGE"
    if len(text) > LONGEST_TEXT:
        return "MESSAGE_TOO_LONG"
    if not isinstance(phone, str) or not phone:
        return "MISSING_DESTINATION_ADDRESS"
    if not MOBILE.fullmatch(phone) or f"+{phone}" in knobs.rejected_phones:
        return "INVALID_DESTINATION_ADDRESS"
    return None


def _report_of(message: Message) -> dict[str, Any]:
    when = message.at.astimezone(TURKEY).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "campaign_id": int(message.provider_id),
        "campaign_custom_id": message.custom_id,
        "message_id": str(10_000_000 + message.number),
        "message_custom_id": message.details["message_custom_id"],
        "dest": message.phone.removeprefix("+"),
        "size": 1,
        "international_multiplier": 1,
        "credits": 1,
        "status": message.status,
        "gsm_error": message.error_code or "0",
        "sent_at": when,
        "done_at": when if message.status in {"DELIVERED", "NOT_DELIVERED"} else None,
    }
