"""Verimor, the domestic SMS provider (user guide of its SMS-API, 2025-09).

It is the one that can carry a link to Turkish phones, and the one that can be asked: our delivery id goes along as
`custom_id`, and a status request for it that answers 404 proves that the message never arrived there.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx
import orjson

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
from shared.errors import Invalid

LOOK_UP_SECONDS = 10.0
VALID_FOR = "04:00"  # A message that is later than this must die: it could arrive after we have sent another.
CERTAINLY_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# The same text to the same number within a day. Our texts carry a token, so only this very message can be meant.
DUPLICATE = frozenset({"MUKERRER_RAPORLAMA", "DOUBLE_SEND_ERROR"})
# These say that our account or its settings are wrong: the channel must stop, the rows are not to blame.
ACCOUNT = frozenset(
    {
        "INSUFFICIENT_CREDITS",
        "INVALID_SOURCE_ADDRESS",
        "NUMERIC_SOURCE_ADDRESS_NOT_ALLOWED",
        "MISSING_IYS_BRAND_CODE",
        "AHS_AUTHORIZATION_ERROR",
        "NO_AHS_BRAND_ERROR",
    }
)
STATUSES: Mapping[str, DeliveryStatus] = {
    "SENDING": DeliveryStatus.ACCEPTED,
    "WAITING": DeliveryStatus.SENT,
    "SENT": DeliveryStatus.SENT,
    "DOUBLE_SEND_ERROR": DeliveryStatus.SENT,
    "DELIVERED": DeliveryStatus.DELIVERED,
    "NOT_DELIVERED": DeliveryStatus.UNDELIVERED,
    "EXPIRED": DeliveryStatus.UNDELIVERED,
    "INVALID_DESTINATION_ADDRESS": DeliveryStatus.FAILED,
    "REJECTED": DeliveryStatus.FAILED,
    "BLACKLISTED_DESTINATION_ADDRESS": DeliveryStatus.FAILED,
    "NOT_ALLOWED_BY_IYS": DeliveryStatus.FAILED,
    "MISSING_TARIFF": DeliveryStatus.FAILED,
    "ROUTE_NOT_AVAILABLE": DeliveryStatus.FAILED,
    "NETWORK_NOTCOVERED": DeliveryStatus.FAILED,
    "SEND_ERROR": DeliveryStatus.FAILED,
    "INTERNATIONAL_DENIED": DeliveryStatus.FAILED,
}


class VerimorReportUnreadable(Invalid):
    """A pushed report is not what Verimor sends."""

    code = "VERIMOR_REPORT_UNREADABLE"
    message = "The body is not a list of Verimor delivery reports."


class Verimor:
    """One account at Verimor. `commercial`: checked against IYS, as anything must be that is not a plain notice."""

    name = "verimor"
    # So many that requests are no limit, so few that a request which is lost leaves little to look up.
    most_at_once = 100
    look_up_pace = Pace(per_second=20 / 60, burst=20)  # its limit; one question is about all messages of a request

    def __init__(
        self,
        *,
        url: str,
        username: str,
        password: str,
        sender: str,
        commercial: bool = True,
        answer_seconds: float = 30.0,
    ) -> None:
        self._account = {"username": username, "password": password}
        self._sender = sender
        self._commercial = commercial
        # trust_env off: a proxy variable of the machine must not see the farmers' numbers.
        self._client = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(answer_seconds, connect=5.0, pool=5.0, write=5.0), trust_env=False
        )

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Send one SMS, once."""
        return await self._post(self._order(message.delivery_id, message))

    async def _post(self, order: Mapping[str, Any]) -> Outcome:
        try:
            response = await self._client.post("/v2/send.json", content=orjson.dumps(order), headers=_JSON)
        except CERTAINLY_NOT_SENT as error:
            return NotSent(type(error).__name__)
        except httpx.RequestError as error:
            return Unknown(type(error).__name__)
        return _outcome_of(response)

    async def send_many(self, batch_id: UUID, messages: Sequence[OutgoingMessage]) -> Sequence[Outcome]:
        """Send many SMS in one request, once: Verimor takes 240 requests a minute, but 50,000 messages in each."""
        outcome = await self._post(self._order(batch_id, *messages))
        if isinstance(outcome, Rejected) or (isinstance(outcome, Accepted) and outcome.duplicate):
            # One message spoilt the batch and the answer does not say which; none of it was sent.
            reason = outcome.code if isinstance(outcome, Rejected) else "a duplicate among them"
            outcome = NotSent(f"batch refused: {reason}", alone=True)
        return [outcome] * len(messages)

    def _order(self, order_id: UUID, *messages: OutgoingMessage) -> dict[str, Any]:
        order: dict[str, Any] = self._account | {
            "source_addr": self._sender,
            "valid_for": VALID_FOR,
            "custom_id": str(order_id),
            "messages": [
                {"msg": message.text, "dest": message.phone.removeprefix("+"), "id": str(message.delivery_id)}
                for message in messages
            ],
        }
        if self._commercial:
            order |= {"is_commercial": True, "iys_recipient_type": "BIREYSEL"}
        return order

    async def look_up(self, delivery_id: UUID, provider_id: str | None, *, clue: Clue | None = None) -> LookUp:
        """Ask by our own id, which Verimor knows even if its answer was lost on the way."""
        del provider_id, clue  # Other providers need them.
        return (await self.look_up_many(delivery_id, [delivery_id]))[delivery_id]

    async def look_up_many(self, batch_id: UUID, delivery_ids: Sequence[UUID]) -> Mapping[UUID, LookUp]:
        """Ask by the id of the request that carried the messages."""
        reports = await self._ask(batch_id)
        if not isinstance(reports, list):
            return dict.fromkeys(delivery_ids, reports)
        return {delivery_id: _found_among(reports, delivery_id) for delivery_id in delivery_ids}

    async def _ask(self, order_id: UUID) -> list[StatusReport] | NotFound | LookUpFailed:
        try:
            response = await self._client.get(
                "/v2/status", params=self._account | {"custom_id": str(order_id)}, timeout=LOOK_UP_SECONDS
            )
        except httpx.RequestError as error:
            return LookUpFailed(type(error).__name__)
        if response.status_code == httpx.codes.NOT_FOUND:
            return NotFound(authoritative=True)
        if response.status_code != httpx.codes.OK:
            return LookUpFailed(f"HTTP {response.status_code}")
        try:
            return parse_reports(response.content)
        except VerimorReportUnreadable:
            return LookUpFailed("unreadable answer")

    @property
    def report_key(self) -> str:
        """The key that the report address set in Verimor's panel must carry: Verimor itself signs nothing."""
        return hmac.digest(self._account["password"].encode(), b"verimor delivery reports", hashlib.sha256).hex()

    def is_report_key(self, key: str) -> bool:
        """Say whether a pushed report came to the address that only Verimor was told."""
        return hmac.compare_digest(key.encode(), self.report_key.encode())

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()


def _found_among(reports: Sequence[StatusReport], delivery_id: UUID) -> LookUp:
    best = max(
        (report for report in reports if report.delivery_id == delivery_id and report.provider_id is not None),
        key=lambda report: report.status.rank,
        default=None,
    )
    if best is None or best.provider_id is None:
        return LookUpFailed("not in the answer")
    return Found(best.provider_id, best.status)


def parse_reports(body: bytes) -> list[StatusReport]:
    """Read the delivery reports that Verimor pushes, or gives when asked."""
    try:
        items = orjson.loads(body)
    except ValueError as error:
        raise VerimorReportUnreadable from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise VerimorReportUnreadable
    return [_report_of(item) for item in items if item.get("type", "outbound") == "outbound"]


def _outcome_of(response: httpx.Response) -> Outcome:
    status, answer = response.status_code, response.text.strip()
    if status == httpx.codes.OK:
        return Accepted(answer) if answer.isdecimal() else Unknown("unreadable answer")
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return NotSent.rate_limited(response.headers.get("retry-after"))
    if response.is_server_error or status == httpx.codes.REQUEST_TIMEOUT:
        return Unknown(f"HTTP {status}")
    return _refusal(status, answer)


def _refusal(status: int, answer: str) -> Outcome:
    if answer in DUPLICATE:
        return Accepted(None, duplicate=True)
    if answer in ACCOUNT:
        return NotSent(answer, account=True)
    if status in {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE}:
        return Rejected(answer[:64] or f"HTTP {status}", answer[:500])
    return NotSent(f"HTTP {status}", account=True)  # 401, 403, 404, a redirect: not the message, the set-up is wrong.


def _report_of(item: dict[str, Any]) -> StatusReport:
    status = str(item.get("status", ""))
    error = str(item.get("gsm_error") or "0")
    campaign_id = item.get("campaign_id")
    return StatusReport(
        delivery_id=_uuid_or_none(item.get("message_custom_id") or item.get("campaign_custom_id")),
        provider_id=None if campaign_id is None else str(campaign_id),
        # A status that the guide does not know yet proves at least that Verimor has the message.
        status=STATUSES.get(status, DeliveryStatus.ACCEPTED),
        error_code=f"{status}:{error}" if STATUSES.get(status) in _FAILURES else None,
    )


_JSON = {"content-type": "application/json"}
_FAILURES = frozenset({DeliveryStatus.UNDELIVERED, DeliveryStatus.FAILED})


def _uuid_or_none(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None
