"""What Twilio's answers, and its silences, mean; and whose callbacks are believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import pytest

from services.invitations import twilio as client_module
from services.invitations.domain.messages import (
    Accepted,
    Clue,
    DeliveryStatus,
    Found,
    LookUpFailed,
    NotFound,
    NotSent,
    Outcome,
    OutgoingMessage,
    Rejected,
    Unknown,
)
from services.invitations.twilio import CallbackForged, CallbackUnreadable, Twilio
from tests.support.eventually import eventually
from tests.support.messaging import RunningProvider, raw_server, request_of, running_provider, silent_server, unused_url

PHONE = "+905421396386"
TOKEN = "0123456789abcdef"
CALLBACK = "http://127.0.0.1:1/callbacks/twilio"  # where nobody listens
ON_DEFAULT_PORT = "https://hub.example/callbacks/twilio"


@pytest.fixture
async def provider() -> AsyncIterator[RunningProvider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
async def twilio(provider: RunningProvider) -> AsyncIterator[Twilio]:
    client = an_account(provider.url)
    yield client
    await client.close()


def an_account(
    url: str,
    *,
    whatsapp: bool = True,
    sender: str = "+15005550006",
    callback_url: str = CALLBACK,
    answer_seconds: float = 30.0,
) -> Twilio:
    return Twilio(
        url=url,
        account_sid="AC" + "1" * 32,
        auth_token="twilio-token",
        sender=sender,
        callback_url=callback_url,
        content_sid="HX" + "0" * 32 if whatsapp else None,
        answer_seconds=answer_seconds,
    )


def a_message(phone: str = PHONE) -> OutgoingMessage:
    return OutgoingMessage(uuid4(), phone, f"Davetiniz: https://example.com/ref/{TOKEN}", {"1": "Ahmet", "2": TOKEN})


def a_clue(mark: str = TOKEN) -> Clue:
    return Clue(PHONE, mark, datetime.now(UTC))


def http(status: str, body: object = None, *headers: str) -> bytes:
    content = "" if body is None else json.dumps(body)
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(content)}", *headers, "", content]).encode()


async def outcome_of(answer: bytes) -> Outcome:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        writer.close()

    async with raw_server(serve) as url:
        client = an_account(url)
        try:
            return await client.send(a_message())
        finally:
            await client.close()


async def test_a_whatsapp_message_goes_out_by_its_approved_template(provider: RunningProvider, twilio: Twilio) -> None:
    message = a_message()
    outcome = await twilio.send(message)
    (sent,) = await provider.messages()
    assert outcome == Accepted(sent["provider_id"])
    details = sent["details"]
    assert details["To"] == f"whatsapp:{PHONE}"
    assert details["From"] == "whatsapp:+15005550006"
    assert json.loads(details["ContentVariables"]) == {"1": "Ahmet", "2": TOKEN}
    assert details["StatusCallback"] == f"{CALLBACK}?d={message.delivery_id}"
    assert details["ValidityPeriod"] == "14400"


async def test_an_sms_goes_out_as_text_from_a_number_or_a_messaging_service(provider: RunningProvider) -> None:
    service = "MG" + "2" * 32
    for sender, field in (("+15005550006", "From"), (service, "MessagingServiceSid")):
        client = an_account(provider.url, whatsapp=False, sender=sender)
        message = a_message()
        assert isinstance(await client.send(message), Accepted)
        await client.close()
        sent = (await provider.messages())[-1]
        assert (sent["text"], sent["details"]["To"], sent["details"][field]) == (message.text, PHONE, sender)
        assert "ContentSid" not in sent["details"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http("400 Bad Request", {"code": 21211, "message": "invalid"}), Rejected),
        (http("400 Bad Request", {"code": 21610, "message": "opted out"}), Rejected),
        (http("400 Bad Request", {"code": 21614, "message": "landline"}), Rejected),
        (http("429 Too Many Requests", {"code": 20429}), NotSent),
        (http("500 Internal Server Error", {"code": 20500}), Unknown),
        (http("503 Service Unavailable"), Unknown),
        (http("408 Request Timeout"), Unknown),
        (http("201 Created", {"sid": "no sid"}), Unknown),
        (http("201 Created", []), Unknown),
        (http("200 OK"), Unknown),
        (b"", Unknown),
        (b"HTTP/1.1 201 Created\r\ncontent-length: 50\r\n\r\n{", Unknown),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value[:20].decode("latin-1"),
)
async def test_every_answer_is_one_of_four_facts(answer: bytes, outcome: type[Outcome]) -> None:
    assert isinstance(await outcome_of(answer), outcome)


@pytest.mark.parametrize(
    "answer",
    [
        http("401 Unauthorized", {"code": 20003}),
        http("403 Forbidden", {"code": 20005}),
        http("404 Not Found", {"code": 20404}),
        http("400 Bad Request", {"code": 21606, "message": "From"}),
        http("400 Bad Request", {"code": 21609, "message": "StatusCallback"}),
        http("400 Bad Request", {"code": 21655, "message": "ContentSid"}),
        http("307 Temporary Redirect", None, "location: https://example.com/"),
    ],
)
async def test_what_is_wrong_with_our_account_stops_the_channel_and_blames_no_row(answer: bytes) -> None:
    outcome = await outcome_of(answer)
    assert isinstance(outcome, NotSent)
    assert outcome.account


async def test_a_refusal_keeps_the_code_and_words_of_twilio(provider: RunningProvider, twilio: Twilio) -> None:
    await provider.turn(rejected_phones=[PHONE])
    outcome = await twilio.send(a_message())
    assert outcome == Rejected("21211", f"The 'To' number whatsapp:{PHONE} is not a valid phone number.")


async def test_a_rate_limit_says_when_to_come_back(provider: RunningProvider, twilio: Twilio) -> None:
    await provider.turn(too_many_rate=1.0, retry_after_seconds=3)
    assert await twilio.send(a_message()) == NotSent("rate limited", retry_after=3.0)


async def test_a_refused_connection_is_certainly_not_sent() -> None:
    client = an_account(unused_url())
    assert await client.send(a_message()) == NotSent("ConnectError")
    await client.close()


async def test_a_dropped_connection_is_unknown_and_then_found_by_the_token_in_the_text(
    provider: RunningProvider, twilio: Twilio
) -> None:
    await provider.turn(accept_then_drop_rate=1.0)
    message = a_message()
    assert isinstance(await twilio.send(message), Unknown)
    (sent,) = await provider.messages()
    found = await twilio.look_up(message.delivery_id, None, clue=a_clue())
    assert isinstance(found, Found)
    assert found.provider_id == sent["provider_id"]
    assert await twilio.look_up(message.delivery_id, None, clue=a_clue("f" * 16)) == NotFound(authoritative=False)


async def test_an_older_message_with_another_time_is_not_taken_for_ours(twilio: Twilio) -> None:
    await twilio.send(a_message())
    late = Clue(PHONE, TOKEN, datetime.now(UTC) + timedelta(minutes=3))
    assert await twilio.look_up(uuid4(), None, clue=late) == NotFound(authoritative=False)
    assert isinstance(await twilio.look_up(uuid4(), None, clue=a_clue()), Found)


async def test_a_look_up_by_twilios_id_tells_the_status(provider: RunningProvider, twilio: Twilio) -> None:
    outcome = await twilio.send(a_message())
    assert isinstance(outcome, Accepted)

    async def read() -> bool:
        found = await twilio.look_up(uuid4(), outcome.provider_id)
        return found == Found(str(outcome.provider_id), DeliveryStatus.READ)

    await eventually(read, what="reading")
    assert await twilio.look_up(uuid4(), "SM" + "0" * 32) == NotFound(authoritative=False)
    await provider.turn(account_refused=True)
    assert await twilio.look_up(uuid4(), outcome.provider_id) == LookUpFailed("HTTP 401")


async def test_without_any_clue_nothing_is_said() -> None:
    client = an_account(unused_url())
    assert isinstance(await client.look_up(uuid4(), None), LookUpFailed)
    assert await client.look_up(uuid4(), None, clue=a_clue()) == LookUpFailed("ConnectError")
    await client.close()


async def test_no_answer_in_time_is_unknown() -> None:
    async with silent_server() as (url, requests):
        client = an_account(url, answer_seconds=0.3)
        assert await client.send(a_message()) == Unknown("ReadTimeout")
        await client.close()
        await eventually(lambda: len(requests) == 1, what="the request")


class Callbacks:
    """The callbacks of one message, as the stand-in signs them."""

    def __init__(self, client: Twilio, message: OutgoingMessage, requests: list[bytes]) -> None:
        self.client = client
        self.message = message
        self.requests = requests

    def parts(self, index: int = 0) -> tuple[str, bytes, str]:
        head, _, body = self.requests[index].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        signature = next(line.partition(": ")[2] for line in lines if line.lower().startswith("x-twilio-signature"))
        return lines[0].split(" ")[1].partition("?")[2], body, signature


@pytest.fixture
async def callbacks(provider: RunningProvider) -> AsyncIterator[Callbacks]:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with raw_server(serve) as url:
        client = an_account(provider.url, callback_url=f"{url}/callbacks/twilio")
        message = a_message()
        await client.send(message)
        await eventually(lambda: len(requests) == 3, what="three callbacks")
        yield Callbacks(client, message, requests)
        await client.close()


async def test_a_signed_callback_leads_to_the_delivery_even_if_the_answer_was_lost(callbacks: Callbacks) -> None:
    reports = []
    for index in range(3):
        query, body, signature = callbacks.parts(index)
        reports.append(callbacks.client.read_callback(query=query, body=body, signature=signature))
    assert {report.delivery_id for report in reports} == {callbacks.message.delivery_id}
    assert {report.status for report in reports} == {DeliveryStatus.SENT, DeliveryStatus.DELIVERED, DeliveryStatus.READ}


async def test_a_forged_callback_is_refused(callbacks: Callbacks) -> None:
    query, body, signature = callbacks.parts()
    other = parse_qs(callbacks.parts(1)[1].decode())["MessageStatus"][0].encode()
    mine = parse_qs(body.decode())["MessageStatus"][0].encode()
    forgeries = [
        (query, body, ""),
        (query, body, "ğ"),
        (query, body, signature.swapcase()),
        (f"d={UUID(int=1)}", body, signature),
        (f"{query}&x=1", body, signature),
        ("", body, signature),
        (query, body.replace(mine, other), signature),
        (query, body + b"&MessageStatus=" + other, signature),
        (query, body + b"&Extra=1", signature),
    ]
    for one_query, one_body, one_signature in forgeries:
        with pytest.raises(CallbackForged):
            callbacks.client.read_callback(query=one_query, body=one_body, signature=one_signature)
    stranger = an_account("http://x", callback_url="https://elsewhere.example/callbacks/twilio")
    with pytest.raises(CallbackForged):
        stranger.read_callback(query=query, body=body, signature=signature)


def signed(client: Twilio, url: str, form: dict[str, list[str]]) -> str:
    return client_module._signature(client._auth_token, url, form).decode()


@pytest.mark.parametrize("spelling", [ON_DEFAULT_PORT, ON_DEFAULT_PORT.replace(".example", ".example:443")])
def test_the_default_port_may_stand_in_the_signed_address_or_not(spelling: str) -> None:
    client = an_account("http://x", callback_url=ON_DEFAULT_PORT)
    form = {"MessageSid": ["SM" + "a" * 32], "MessageStatus": ["failed"], "ErrorCode": ["63016"]}
    body = f"MessageSid=SM{'a' * 32}&MessageStatus=failed&ErrorCode=63016".encode()
    report = client.read_callback(query="d=x", body=body, signature=signed(client, f"{spelling}?d=x", form))
    assert (report.status, report.error_code, report.delivery_id) == (DeliveryStatus.FAILED, "63016", None)


def test_the_signature_is_the_one_that_twilio_documents() -> None:
    # The worked example of Twilio's page on request validation.
    url = "https://example.com/myapp.php?foo=1&bar=2"
    form = {"CallSid": ["CA1234567890ABCDE"], "Caller": ["+14158675310"], "Digits": ["1234"]}
    form |= {"From": ["+14158675310"], "To": ["+18005551212"]}
    assert client_module._signature(b"12345", url, form) == b"L/OH5YylLD5NRKLltdqwSvS0BnU="


@pytest.mark.parametrize(
    "body", ["", "MessageSid=SM1&MessageStatus=sent", f"MessageSid=SM{'a' * 32}&MessageStatus=new"]
)
def test_a_signed_body_that_is_no_status_callback_is_refused(body: str) -> None:
    client = an_account("http://x")
    signature = signed(client, CALLBACK, parse_qs(body))
    with pytest.raises(CallbackUnreadable):
        client.read_callback(query="", body=body.encode(), signature=signature)


def test_a_status_only_moves_forward() -> None:
    assert DeliveryStatus.DELIVERED.replaces(DeliveryStatus.SENT)
    assert not DeliveryStatus.SENT.replaces(DeliveryStatus.DELIVERED)
    assert not DeliveryStatus.DELIVERED.replaces(DeliveryStatus.DELIVERED)
    assert not DeliveryStatus.UNDELIVERED.replaces(DeliveryStatus.READ)
    assert DeliveryStatus.FAILED.replaces(None)
