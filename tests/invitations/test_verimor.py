"""What Verimor's answers, and its silences, mean."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import orjson
import pytest

from services.invitations.domain.messages import (
    Accepted,
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
from services.invitations.verimor import Verimor, VerimorReportUnreadable, parse_reports
from shared.telemetry import configure_logging
from tests.support.eventually import eventually
from tests.support.messaging import RunningProvider, raw_server, request_of, running_provider, silent_server, unused_url

PHONE = "+905421396386"


@pytest.fixture
async def provider() -> AsyncIterator[RunningProvider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
async def verimor(provider: RunningProvider) -> AsyncIterator[Verimor]:
    client = an_account(provider.url)
    yield client
    await client.close()


def an_account(url: str, *, answer_seconds: float = 30.0) -> Verimor:
    return Verimor(
        url=url,
        username="908501234567",
        password="verimor-password",
        sender="ZIRAAI",
        answer_seconds=answer_seconds,
    )


def a_message(text: str = "Şükrü Bey, davetiniz: https://example.com/ref/1", phone: str = PHONE) -> OutgoingMessage:
    return OutgoingMessage(uuid4(), phone, text)


async def outcome_of(answer: bytes) -> Outcome:
    """Send to a server that reads the request and answers this, then closes."""

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


def http(status: str, body: str = "", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body.encode())}", *headers, "", body]
    return "\r\n".join(lines).encode()


async def test_a_message_goes_out_once_with_our_id_and_a_short_life(
    provider: RunningProvider, verimor: Verimor
) -> None:
    message = a_message()
    outcome = await verimor.send(message)
    sent = await provider.messages()
    assert outcome == Accepted(sent[0]["provider_id"])
    assert [(one["phone"], one["text"], one["custom_id"]) for one in sent] == [
        (PHONE, message.text, str(message.delivery_id))
    ]
    assert sent[0]["sender"] == "ZIRAAI"


async def test_the_request_carries_what_the_law_and_the_guide_ask_for() -> None:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(http("200 OK", "20210"))
        writer.close()

    async with raw_server(serve) as url:
        client = an_account(url)
        message = a_message()
        assert await client.send(message) == Accepted("20210")
        await client.close()
    order = orjson.loads(requests[0].partition(b"\r\n\r\n")[2])
    assert order["custom_id"] == order["messages"][0]["id"] == str(message.delivery_id)
    assert (order["valid_for"], order["is_commercial"], order["iys_recipient_type"]) == ("04:00", True, "BIREYSEL")
    assert order["messages"][0]["dest"] == "905421396386"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (http("400 Bad Request", "INVALID_DESTINATION_ADDRESS"), Rejected),
        (http("400 Bad Request", "FORBIDDEN_MESSAGE"), Rejected),
        (http("413 Payload Too Large"), Rejected),
        (http("429 Too Many Requests"), NotSent),
        (http("500 Internal Server Error"), Unknown),
        (http("502 Bad Gateway"), Unknown),
        (http("503 Service Unavailable", "", "retry-after: 1"), Unknown),
        (http("504 Gateway Timeout"), Unknown),
        (http("408 Request Timeout"), Unknown),
        (http("200 OK", "<html>welcome</html>"), Unknown),
        (http("200 OK"), Unknown),
        (b"", Unknown),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n20", Unknown),
        (b"\x16\x03\x01 no http at all\r\n\r\n", Unknown),
        (http("200 OK", "xxxxx", "content-encoding: gzip"), Unknown),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value[:20].decode("latin-1"),
)
async def test_every_answer_is_one_of_four_facts(answer: bytes, outcome: type[Outcome]) -> None:
    assert isinstance(await outcome_of(answer), outcome)


@pytest.mark.parametrize("code", ["MUKERRER_RAPORLAMA", "DOUBLE_SEND_ERROR"])
async def test_a_duplicate_answer_means_that_the_message_is_there_already(code: str) -> None:
    assert await outcome_of(http("400 Bad Request", code)) == Accepted(None, duplicate=True)


@pytest.mark.parametrize(
    "answer",
    [
        http("401 Unauthorized", "Geçersiz kullanıcı adı/şifre"),
        http("403 Forbidden"),
        http("404 Not Found"),
        http("301 Moved Permanently", "", "location: https://example.com/"),
        http("400 Bad Request", "INSUFFICIENT_CREDITS"),
        http("400 Bad Request", "INVALID_SOURCE_ADDRESS"),
    ],
)
async def test_what_is_wrong_with_our_account_stops_the_channel_and_blames_no_row(answer: bytes) -> None:
    outcome = await outcome_of(answer)
    assert isinstance(outcome, NotSent)
    assert outcome.account


async def test_a_rate_limit_says_when_to_come_back(provider: RunningProvider, verimor: Verimor) -> None:
    await provider.turn(too_many_rate=1.0, retry_after_seconds=9)
    assert await verimor.send(a_message()) == NotSent("rate limited", retry_after=9.0)
    await provider.turn(retry_after_seconds=None)
    assert await verimor.send(a_message()) == NotSent("rate limited")


async def test_a_refused_connection_is_certainly_not_sent() -> None:
    client = an_account(unused_url())
    assert await client.send(a_message()) == NotSent("ConnectError")
    await client.close()


async def test_a_name_that_does_not_resolve_is_certainly_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_knows(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # The machine's own resolver may take longer to say so than a connection is waited for.
    monkeypatch.setattr(socket, "getaddrinfo", nobody_knows)
    client = an_account("http://no-such-host.invalid")
    assert await client.send(a_message()) == NotSent("ConnectError")
    await client.close()


async def test_a_connection_dropped_after_the_request_is_unknown_and_then_found(
    provider: RunningProvider, verimor: Verimor
) -> None:
    await provider.turn(accept_then_drop_rate=1.0)
    message = a_message()
    assert isinstance(await verimor.send(message), Unknown)
    sent = await provider.messages()
    assert len(sent) == 1  # No client of ours sends again by itself.
    found = await verimor.look_up(message.delivery_id, None)
    assert isinstance(found, Found)
    assert found.provider_id == sent[0]["provider_id"]


async def test_a_dropped_request_is_unknown_and_then_proven_never_to_have_arrived(
    provider: RunningProvider, verimor: Verimor
) -> None:
    await provider.turn(drop_rate=1.0)
    message = a_message()
    assert isinstance(await verimor.send(message), Unknown)
    assert await verimor.look_up(message.delivery_id, None) == NotFound(authoritative=True)
    assert await provider.messages() == []


async def test_no_answer_in_time_is_unknown() -> None:
    async with silent_server() as (url, requests):
        client = an_account(url, answer_seconds=0.3)
        assert await client.send(a_message()) == Unknown("ReadTimeout")
        await client.close()
        await eventually(lambda: len(requests) == 1, what="the request")


async def test_a_delivered_message_is_found_as_delivered(provider: RunningProvider, verimor: Verimor) -> None:
    message = a_message()
    await verimor.send(message)

    async def delivered() -> bool:
        found = await verimor.look_up(message.delivery_id, None)
        return isinstance(found, Found) and found.status is DeliveryStatus.DELIVERED

    await eventually(delivered, what="delivery")
    await provider.turn(look_up_error_rate=1.0)
    assert await verimor.look_up(message.delivery_id, None) == LookUpFailed("HTTP 500")
    await provider.turn(look_up_error_rate=0.0, account_refused=True)
    assert await verimor.look_up(message.delivery_id, None) == LookUpFailed("HTTP 401")


async def test_a_look_up_without_a_connection_says_nothing_about_the_message() -> None:
    client = an_account(unused_url())
    assert await client.look_up(uuid4(), None) == LookUpFailed("ConnectError")
    await client.close()


@pytest.mark.parametrize("answer", [http("200 OK", "nonsense"), http("200 OK", "[]"), http("200 OK", "[{}]")])
async def test_an_unreadable_status_says_nothing_about_the_message(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(answer)
        writer.close()

    async with raw_server(serve) as url:
        client = an_account(url)
        assert isinstance(await client.look_up(uuid4(), None), LookUpFailed)
        await client.close()


async def test_a_pushed_report_leads_to_the_delivery_and_its_status(
    provider: RunningProvider, verimor: Verimor
) -> None:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        writer.write(http("200 OK", "", "connection: close"))
        writer.close()

    async with raw_server(serve) as url:
        await provider.turn(verimor_report_url=f"{url}/?key={verimor.report_key}", undelivered_rate=1.0)
        message = a_message()
        await verimor.send(message)
        await eventually(lambda: requests, what="the report")
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert verimor.report_key.encode() in head.split(b"\r\n")[0]
    (report,) = parse_reports(body)
    assert report.delivery_id == message.delivery_id
    assert report.provider_id == (await provider.messages())[0]["provider_id"]
    assert (report.status, report.error_code) == (DeliveryStatus.UNDELIVERED, "NOT_DELIVERED:27")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("SENDING", DeliveryStatus.ACCEPTED),
        ("WAITING", DeliveryStatus.SENT),
        ("DELIVERED", DeliveryStatus.DELIVERED),
        ("EXPIRED", DeliveryStatus.UNDELIVERED),
        ("BLACKLISTED_DESTINATION_ADDRESS", DeliveryStatus.FAILED),
        ("DOUBLE_SEND_ERROR", DeliveryStatus.SENT),
        ("SOMETHING_NEW", DeliveryStatus.ACCEPTED),
    ],
)
def test_a_reported_status_has_one_meaning(status: str, expected: DeliveryStatus) -> None:
    (report,) = parse_reports(orjson.dumps([{"campaign_id": 1, "message_custom_id": "x", "status": status}]))
    assert report.status is expected
    assert report.delivery_id is None


def test_messages_from_farmers_are_no_reports_and_campaign_ids_do_as_delivery_ids() -> None:
    delivery_id = UUID(int=5)
    reports = parse_reports(
        orjson.dumps(
            [
                {"type": "inbound", "content": "merhaba"},
                {"type": "outbound", "campaign_id": 7, "campaign_custom_id": str(delivery_id), "status": "DELIVERED"},
            ]
        )
    )
    assert [(report.delivery_id, report.provider_id) for report in reports] == [(delivery_id, "7")]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"null", b"\xff"])
def test_a_body_that_is_no_list_of_reports_is_refused(body: bytes) -> None:
    with pytest.raises(VerimorReportUnreadable):
        parse_reports(body)


def test_only_the_address_that_verimor_was_told_is_believed() -> None:
    account, other = an_account("http://x"), Verimor(url="http://x", username="u", password="other", sender="S")
    assert account.is_report_key(account.report_key)
    for forged in ("", other.report_key, account.report_key[:-1], "ğ"):
        assert not account.is_report_key(forged)


async def test_the_password_reaches_no_log_line(verimor: Verimor, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure_logging("invitations", "worker", "DEBUG")
        await verimor.send(a_message())
        await verimor.look_up(uuid4(), None)
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])
    assert "verimor-password" not in capsys.readouterr().out
    assert "verimor-password" not in repr(verimor) + repr(vars(verimor)["_client"])
