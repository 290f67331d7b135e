"""Twilio, for WhatsApp by approved template and for SMS outside Turkey (API 2010-04-01, read from twilio-oai).

Its API has no idempotency key, so a lost answer can only be cleared up by the first status callback, whose address
carries our delivery id, or by searching the list of messages for the token in the text.
"""

import base64
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit
from uuid import UUID

import httpx

from services.invitations.domain.messages import (
    Accepted,
    Clue,
    DeliveryStatus,
    Found,
    LookUp,
    LookUpFailed,
    NotFound,
    NotSent,
    Outcome,
    OutgoingMessage,
    Rejected,
    StatusReport,
    Unknown,
)
from services.invitations.domain.pacing import Pace
from shared.errors import Forbidden, Invalid

LOOK_UP_SECONDS = 10.0
ON_WHATSAPP, BY_SMS = "twilio", "twilio-sms"
VALIDITY_SECONDS = 4 * 3600  # A message that is later than this must die: it could arrive after we have sent another.
CLOCK_TOLERANCE = timedelta(minutes=2)
CERTAINLY_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Sender, template, callback address or account are wrong: the channel must stop, the rows are not to blame.
ACCOUNT_CODES = frozenset({20003, 20404, 21603, 21606, 21609, 21654, 21655, 21659, 63007})
MESSAGE_ID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")
STATUSES: Mapping[str, DeliveryStatus] = {
    "accepted": DeliveryStatus.ACCEPTED,
    "scheduled": DeliveryStatus.ACCEPTED,
    "queued": DeliveryStatus.ACCEPTED,
    "sending": DeliveryStatus.ACCEPTED,
    "sent": DeliveryStatus.SENT,
    "partially_delivered": DeliveryStatus.SENT,
    "delivered": DeliveryStatus.DELIVERED,
    "read": DeliveryStatus.READ,
    "undelivered": DeliveryStatus.UNDELIVERED,
    "failed": DeliveryStatus.FAILED,
    "canceled": DeliveryStatus.FAILED,
}
DEFAULT_PORTS = {"https": 443, "http": 80}


class CallbackForged(Forbidden):
    """A status callback does not carry Twilio's signature."""

    code = "CALLBACK_SIGNATURE_INVALID"
    message = "The signature of this callback is not valid."


class CallbackUnreadable(Invalid):
    """A status callback lacks what every status callback has."""

    code = "TWILIO_CALLBACK_UNREADABLE"
    message = "The body is not a Twilio status callback."


class Twilio:
    """One sender at Twilio: with a `content_sid` on WhatsApp by that template, without one by SMS.

    `sender` is a phone number or a Messaging Service SID; `callback_url` is public and is what Twilio signs.
    """

    look_up_pace = Pace(per_second=20, burst=40)  # Twilio names no number; this leaves the account to the messages.

    def __init__(
        self,
        *,
        url: str,
        account_sid: str,
        auth_token: str,
        sender: str,
        callback_url: str,
        content_sid: str | None,
        answer_seconds: float = 30.0,
    ) -> None:
        # Twilio's limits hold for each sender, so each has a line and a pace of its own.
        self.name = ON_WHATSAPP if content_sid else BY_SMS
        self._auth_token = auth_token.encode()
        self._sender = sender
        self._callback_url = callback_url
        self._content_sid = content_sid
        self._prefix = "whatsapp:" if content_sid else ""
        self._client = httpx.AsyncClient(
            base_url=f"{url.rstrip('/')}/2010-04-01/Accounts/{account_sid}/",
            auth=(account_sid, auth_token),
            timeout=httpx.Timeout(answer_seconds, connect=5.0, pool=5.0, write=5.0),
            trust_env=False,  # A proxy variable of the machine must not see the farmers' numbers.
        )

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Send one message, once."""
        try:
            response = await self._client.post("Messages.json", data=self._form(message))
        except CERTAINLY_NOT_SENT as error:
            return NotSent(type(error).__name__)
        except httpx.RequestError as error:
            return Unknown(type(error).__name__)
        return _outcome_of(response)

    def _form(self, message: OutgoingMessage) -> dict[str, str]:
        form = {
            "To": self._prefix + message.phone,
            # Twilio's signature covers the whole address, so the delivery id in it needs no seal of ours.
            "StatusCallback": f"{self._callback_url}?d={message.delivery_id}",
            "ValidityPeriod": str(VALIDITY_SECONDS),
        }
        if self._sender.startswith("MG"):
            form["MessagingServiceSid"] = self._sender
        else:
            form["From"] = self._prefix + self._sender
        if self._content_sid:
            form["ContentSid"] = self._content_sid
            form["ContentVariables"] = json.dumps(dict(message.variables), ensure_ascii=False)
        else:
            form["Body"] = message.text
        return form

    async def look_up(self, delivery_id: UUID, provider_id: str | None, *, clue: Clue | None = None) -> LookUp:
        """Ask by Twilio's id; without one, search what the phone got for the text that only this message has."""
        del delivery_id  # Twilio keeps no id of ours.
        if provider_id is None and clue is None:
            return LookUpFailed("neither an id nor a clue to search for")
        try:
            if provider_id is not None:
                response = await self._client.get(f"Messages/{provider_id}.json", timeout=LOOK_UP_SECONDS)
            else:
                assert clue is not None  # noqa: S101 - for the type checker
                response = await self._client.get("Messages.json", params=self._search(clue), timeout=LOOK_UP_SECONDS)
        except httpx.RequestError as error:
            return LookUpFailed(type(error).__name__)
        # An empty list proves nothing: a message shows up there some time after it was taken.
        if response.status_code == httpx.codes.NOT_FOUND and provider_id is not None:
            return NotFound(authoritative=False)
        if response.status_code != httpx.codes.OK:
            return LookUpFailed(f"HTTP {response.status_code}")
        return _found_in(response, clue if provider_id is None else None)

    def _search(self, clue: Clue) -> dict[str, str]:
        since = (clue.sent_after - CLOCK_TOLERANCE).astimezone(UTC)
        return {"To": self._prefix + clue.phone, "DateSent>": since.strftime("%Y-%m-%dT%H:%M:%SZ"), "PageSize": "1000"}

    def read_callback(self, *, query: str, body: bytes, signature: str) -> StatusReport:
        """Read a status callback that came to our callback address with this query, if Twilio has signed it."""
        url = f"{self._callback_url}?{query}" if query else self._callback_url
        form = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True)
        if not any(
            hmac.compare_digest(_signature(self._auth_token, spelling, form), signature.encode())
            for spelling in _spellings(url)
        ):
            raise CallbackForged
        message_id, status = form.get("MessageSid", [""])[0], form.get("MessageStatus", [""])[0]
        if not MESSAGE_ID.fullmatch(message_id) or status not in STATUSES:
            raise CallbackUnreadable
        delivery_id = dict(parse_qsl(query)).get("d", "")
        return StatusReport(
            delivery_id=_uuid_or_none(delivery_id),
            provider_id=message_id,
            status=STATUSES[status],
            error_code=form.get("ErrorCode", [None])[0],
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()


def _outcome_of(response: httpx.Response) -> Outcome:
    status, answer = response.status_code, _json_of(response)
    if response.is_success:
        message_id = str(answer.get("sid", ""))
        return Accepted(message_id) if MESSAGE_ID.fullmatch(message_id) else Unknown("unreadable answer")
    if status == httpx.codes.TOO_MANY_REQUESTS:  # "aren't processed and are safe to retry": Twilio on error 20429.
        return NotSent.rate_limited(response.headers.get("retry-after"))
    if response.is_server_error or status == httpx.codes.REQUEST_TIMEOUT:
        return Unknown(f"HTTP {status}")
    code = answer.get("code")
    if status != httpx.codes.BAD_REQUEST or code in ACCOUNT_CODES:
        return NotSent(f"HTTP {status} {code}", account=True)
    return Rejected(str(code), str(answer.get("message", ""))[:500])


def _found_in(response: httpx.Response, clue: Clue | None) -> LookUp:
    answer = _json_of(response)
    listed = [answer] if clue is None else answer.get("messages", [])
    found = [
        Found(str(item["sid"]), STATUSES.get(str(item.get("status")), DeliveryStatus.ACCEPTED))
        for item in listed
        if isinstance(item, dict) and "sid" in item and (clue is None or clue.mark in str(item.get("body")))
    ]
    if clue is None and not found:
        return LookUpFailed("unreadable answer")
    return max(found, key=lambda one: one.status.rank, default=NotFound(authoritative=False))


def _json_of(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _signature(auth_token: bytes, url: str, form: Mapping[str, list[str]]) -> bytes:
    signed = url + "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    return base64.b64encode(hmac.digest(auth_token, signed.encode(), "sha1"))


def _spellings(url: str) -> list[str]:
    # Twilio signs the address sometimes with and sometimes without the default port; its own validator takes both.
    parts = urlsplit(url)
    port = DEFAULT_PORTS.get(parts.scheme)
    if parts.port not in {None, port} or parts.hostname is None:
        return [url]
    bare = parts.netloc.removesuffix(f":{port}")
    return [urlunsplit(parts._replace(netloc=netloc)) for netloc in (bare, f"{bare}:{port}")]


def _uuid_or_none(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
