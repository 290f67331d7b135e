"""Twilio's Messages resource, API 2010-04-01: create, fetch, list, and signed status callbacks (twilio-oai)."""

import base64
import hmac
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from sandbox.messaging_provider.faults import Faults, Knobs
from sandbox.messaging_provider.http import CUT, Request, Response
from sandbox.messaging_provider.ledger import Ledger, Message
from sandbox.messaging_provider.reports import Report, Reports

NAME = "twilio"
WHATSAPP = "whatsapp:"
LONGEST_TEXT = 1600
PHONE = re.compile(r"\+[1-9]\d{7,14}")
OUTSIDE_WINDOW = "63016"


class TwilioDoor:
    """Takes a message without any idempotency key and reports its way by callbacks."""

    name = NAME

    def __init__(self, ledger: Ledger, reports: Reports) -> None:
        self._ledger = ledger
        self._reports = reports

    def too_many(self, knobs: Knobs) -> Response:
        """Answer beyond the rate limit."""
        answer = _error(429, 20429, "Too Many Requests")
        return Response(429, answer.body, answer.content_type, retry_after=knobs.retry_after_seconds)

    def server_error(self) -> Response:
        """Answer as a broken server."""
        return _error(500, 20500, "Internal Server Error")

    def drop(self) -> Response:
        """Answer nothing."""
        return CUT

    def send(self, request: Request, faults: Faults) -> Response:
        """Take a message, or say by Twilio's error code why not."""
        token = _auth_token(request)
        if faults.knobs.account_refused or token is None:
            return _error(401, 20003, "Authenticate")
        form = request.form()
        wrong = _what_is_wrong(form, faults.knobs)
        if wrong:
            return _error(400, *wrong)
        text = form.get("Body") or form.get("ContentVariables", "")
        phone = form["To"].removeprefix(WHATSAPP)
        message = self._ledger.take(
            Message(
                number=self._ledger.next_number(),
                provider=NAME,
                provider_id=f"SM{uuid4().hex}",
                custom_id="",
                phone=phone,
                sender=form.get("From", form.get("MessagingServiceSid", "")),
                text=text,
                status="queued",
                details={name: value for name, value in form.items() if name not in {"Body", "To"}}
                | {"To": form["To"]},
            )
        )
        if faults.knobs.reports:
            self._reports.schedule(faults, self._steps(message, token, faults))
        return Response.json(201, _resource(message, request.path.split("/")[3]))

    def _steps(self, message: Message, token: str, faults: Faults) -> list[Callable[[], Report | None]]:
        on_whatsapp = message.details["To"].startswith(WHATSAPP)
        if on_whatsapp and "ContentSid" not in message.details:  # Since 2025-04-01 free text opens no conversation.
            way = [("failed", OUTSIDE_WINDOW)]
        elif faults.happens(faults.knobs.undelivered_rate):
            way = [("sent", ""), ("undelivered", "30003")]
        else:
            way = [("sent", ""), ("delivered", "")] + ([("read", "")] if on_whatsapp else [])
        return [self._step(message, status, error_code, token) for status, error_code in way]

    def _step(self, message: Message, status: str, error_code: str, token: str) -> Callable[[], Report | None]:
        def bring_about() -> Report | None:
            message.status, message.error_code = status, error_code
            url = message.details.get("StatusCallback")
            return _callback(message, url, token) if url else None

        return bring_about

    def list_messages(self, request: Request, faults: Faults) -> Response:
        """List by recipient and time, newest first."""
        if faults.knobs.account_refused or _auth_token(request) is None:
            return _error(401, 20003, "Authenticate")
        after = datetime.min.replace(tzinfo=UTC)
        if "DateSent>" in request.query:
            after = datetime.fromisoformat(request.query["DateSent>"]).replace(tzinfo=UTC)
        to = request.query.get("To", "")
        page_size = min(int(request.query.get("PageSize", "50")), 1000)
        account = request.path.split("/")[3]
        found = [
            _resource(message, account)
            for message in reversed(self._ledger.list_by_phone(to.removeprefix(WHATSAPP)))
            if message.provider == NAME and message.details["To"] == to and message.at >= after
        ]
        page = {"messages": found[:page_size], "page": 0, "page_size": page_size, "next_page_uri": None}
        return Response.json(200, page)

    def fetch(self, request: Request, faults: Faults) -> Response:
        """Tell about one message by its SID."""
        if faults.knobs.account_refused or _auth_token(request) is None:
            return _error(401, 20003, "Authenticate")
        parts = request.path.split("/")
        message = self._ledger.find(parts[5].removesuffix(".json"))
        if message is None or message.provider != NAME:
            return _error(404, 20404, f"The requested resource {request.path} was not found")
        return Response.json(200, _resource(message, parts[3]))


def _auth_token(request: Request) -> str | None:
    scheme, _, credentials = request.authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        account, _, token = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return None
    return token if token and account == request.path.split("/")[3] else None


def _what_is_wrong(form: dict[str, str], knobs: Knobs) -> tuple[int, str] | None:
    to = form.get("To", "")
    phone = to.removeprefix(WHATSAPP)
    if not to:
        return 21604, "A 'To' phone number is required."
    if not PHONE.fullmatch(phone) or phone in knobs.rejected_phones:
        return 21211, f"The 'To' number {to} is not a valid phone number."
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return 21603, "A 'From' phone number is required."
    if not form.get("Body") and not form.get("ContentSid"):
        return 21619, "A text message body or media urls must be specified."
    if len(form.get("Body", "")) > LONGEST_TEXT:
        return 21617, "The concatenated message body exceeds the 1600 character limit."
    return None


def _error(status: int, code: int, message: str) -> Response:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    return Response.json(status, {"code": code, "message": message, "more_info": more_info, "status": status})


def _resource(message: Message, account: str) -> dict[str, Any]:
    when = format_datetime(message.at)
    return {
        "sid": message.provider_id,
        "account_sid": account,
        "to": message.details["To"],
        "from": message.details.get("From"),
        "messaging_service_sid": message.details.get("MessagingServiceSid"),
        "body": message.text,
        "status": message.status,
        "direction": "outbound-api",
        "num_segments": "1",
        "num_media": "0",
        "price": None,
        "price_unit": "USD",
        "error_code": int(message.error_code) if message.error_code else None,
        "error_message": None,
        "api_version": "2010-04-01",
        "date_created": when,
        "date_updated": when,
        "date_sent": when,
        "uri": f"/2010-04-01/Accounts/{account}/Messages/{message.provider_id}.json",
    }


def _callback(message: Message, url: str, token: str) -> Report:
    fields = {
        "AccountSid": "AC" + "0" * 32,
        "ApiVersion": "2010-04-01",
        "From": message.sender,
        "MessageSid": message.provider_id,
        "MessageStatus": message.status,
        "SmsSid": message.provider_id,
        "SmsStatus": message.status,
        "To": message.details["To"],
    }
    if message.error_code:
        fields["ErrorCode"] = message.error_code
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    signature = base64.b64encode(hmac.digest(token.encode(), signed.encode(), "sha1")).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    return Report(url, headers, urlencode(fields).encode())
