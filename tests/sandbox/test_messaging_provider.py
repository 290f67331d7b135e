"""The stand-in is what other tests count by, so it must count right and fail exactly as it is told to."""

from __future__ import annotations

import asyncio
import base64
import hmac
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from local.processes import free_port
from tests.support.eventually import eventually
from tests.support.messaging import RunningProvider, raw_server, request_of, running_provider

ACCOUNT, TOKEN = "AC" + "1" * 32, "twilio-token"
TWILIO = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"


@pytest.fixture
async def provider() -> AsyncIterator[RunningProvider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
async def client(provider: RunningProvider) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=provider.url, trust_env=False, timeout=60) as one:
        yield one


def sms(text: str = "Merhaba", dest: str = "905421396386", **changes: Any) -> dict[str, Any]:
    message = {"msg": text, "dest": dest, "id": "m-1"}
    return {
        "username": "u",
        "password": "p",
        "source_addr": "ZIRAAI",
        "custom_id": "c-1",
        "messages": [message],
    } | changes


def whatsapp(**changes: str) -> dict[str, str]:
    form = {"To": "whatsapp:+905421396386", "From": "whatsapp:+15005550006", "ContentSid": "HX" + "0" * 32}
    return form | {"ContentVariables": '{"1":"Ahmet"}'} | changes


async def send_twilio(client: httpx.AsyncClient, **changes: str) -> httpx.Response:
    return await client.post(TWILIO, data=whatsapp(**changes), auth=(ACCOUNT, TOKEN))


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answers 200 and keeps the requests."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                requests.append(await request_of(reader))
            except asyncio.IncompleteReadError:
                break
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with raw_server(answer) as url:
        yield url, requests


async def test_verimor_takes_a_message_and_finds_it_by_the_clients_id(client: httpx.AsyncClient) -> None:
    sent = await client.post("/v2/send.json", json=sms())
    assert (sent.status_code, sent.text.isdecimal()) == (200, True)
    account = {"username": "u", "password": "p"}
    found = await client.get("/v2/status", params=account | {"custom_id": "c-1"})
    assert found.json()[0]["campaign_id"] == int(sent.text)
    assert (await client.get("/v2/status", params=account | {"custom_id": "never"})).status_code == 404


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (sms(text=""), "MISSING_MESSAGE"),
        (sms(text="x" * 1072), "MESSAGE_TOO_LONG"),
        (sms(dest=""), "MISSING_DESTINATION_ADDRESS"),
        (sms(dest="05421396386"), "INVALID_DESTINATION_ADDRESS"),
        (sms(messages=[]), "MISSING_MESSAGE"),
        ([], "INVALID_JSON"),
    ],
)
async def test_verimor_refuses_in_one_word(client: httpx.AsyncClient, order: Any, code: str) -> None:
    refused = await client.post("/v2/send.json", json=order)
    assert (refused.status_code, refused.text) == (400, code)


async def test_twilio_takes_lists_and_fetches_a_message(client: httpx.AsyncClient) -> None:
    sent = await send_twilio(client)
    assert (sent.status_code, sent.json()["status"]) == (201, "queued")
    query = {"To": "whatsapp:+905421396386", "DateSent>": "2026-01-01T00:00:00Z"}
    listed = (await client.get(TWILIO, params=query, auth=(ACCOUNT, TOKEN))).json()["messages"]
    assert [message["sid"] for message in listed] == [sent.json()["sid"]]
    one = await client.get(TWILIO.replace(".json", f"/{sent.json()['sid']}.json"), auth=(ACCOUNT, TOKEN))
    assert one.json()["sid"] == sent.json()["sid"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"To": ""}, 21604),
        ({"To": "whatsapp:05421396386"}, 21211),
        ({"From": ""}, 21603),
        ({"ContentSid": ""}, 21619),
        ({"Body": "x" * 1601}, 21617),
    ],
)
async def test_twilio_refuses_by_its_error_codes(client: httpx.AsyncClient, changes: dict[str, str], code: int) -> None:
    refused = await send_twilio(client, **changes)
    assert (refused.status_code, refused.json()["code"]) == (400, code)


async def test_a_wrong_account_is_refused_by_both(provider: RunningProvider, client: httpx.AsyncClient) -> None:
    assert (await client.post(TWILIO, data=whatsapp())).status_code == 401
    assert (await client.post("/v2/send.json", json=sms(password=""))).status_code == 401
    await provider.turn(account_refused=True)
    assert (await send_twilio(client)).json()["code"] == 20003
    assert (await client.post("/v2/send.json", json=sms())).status_code == 401


async def test_duplicates_are_counted_unless_they_are_refused(
    provider: RunningProvider, client: httpx.AsyncClient
) -> None:
    for _ in range(3):
        await client.post("/v2/send.json", json=sms())
    await client.post("/v2/send.json", json=sms(text="anders"))
    counted = await provider.count()
    assert (counted["messages"], counted["duplicates"], counted["phones"]) == (4, 2, 1)
    await provider.turn(refuse_duplicates=True)
    assert (await client.post("/v2/send.json", json=sms())).text == "MUKERRER_RAPORLAMA"
    assert (await provider.count())["messages"] == 4


@pytest.mark.parametrize(
    ("knob", "status", "taken"),
    [("too_many_rate", 429, 0), ("server_error_rate", 500, 0), ("accept_then_error_rate", 500, 1)],
)
async def test_a_fault_answers_as_told_and_takes_the_message_or_not(
    provider: RunningProvider, client: httpx.AsyncClient, knob: str, status: int, taken: int
) -> None:
    await provider.turn(**{knob: 1.0}, retry_after_seconds=7)
    for answer in (await client.post("/v2/send.json", json=sms()), await send_twilio(client)):
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    assert (await provider.count())["messages"] == 2 * taken


@pytest.mark.parametrize(("knob", "taken"), [("drop_rate", 0), ("accept_then_drop_rate", 1)])
async def test_a_dropped_connection_carries_no_byte_of_an_answer(
    provider: RunningProvider, client: httpx.AsyncClient, knob: str, taken: int
) -> None:
    await provider.turn(**{knob: 1.0})
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await client.post("/v2/send.json", json=sms())
    assert (await provider.count())["messages"] == taken


async def test_a_seed_repeats_the_same_faults(provider: RunningProvider, client: httpx.AsyncClient) -> None:
    runs = []
    for _ in range(2):
        await provider.turn(seed=7, too_many_rate=0.5)
        runs.append([(await client.post("/v2/send.json", json=sms())).status_code for _ in range(20)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 429}


async def test_a_knob_that_does_not_exist_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/_sandbox/knobs", json={"latency": 1})).status_code == 422
    assert (await client.post("/_sandbox/knobs", json={"drop_rate": 2})).status_code == 422
    assert (await client.post("/_sandbox/knobs", json=[1])).status_code == 422


async def test_a_slow_answer_comes_after_the_message_was_taken(
    provider: RunningProvider, client: httpx.AsyncClient
) -> None:
    await provider.turn(latency_seconds=1.0)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v2/send.json", json=sms(), timeout=httpx.Timeout(60, read=0.2))
    await eventually(lambda: provider.application.ledger.messages, what="the message")


async def test_twilio_signs_its_callbacks_as_documented(
    client: httpx.AsyncClient, receiver: tuple[str, list[bytes]]
) -> None:
    url, requests = receiver
    await send_twilio(client, StatusCallback=f"{url}/callback?d=42")
    await eventually(lambda: len(requests) == 3, what="three reports")
    statuses = []
    for request in requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /callback?d=42 ")
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        signed = f"{url}/callback?d=42" + "".join(name + form[name] for name in sorted(form))
        signature = base64.b64encode(hmac.digest(TOKEN.encode(), signed.encode(), "sha1"))
        assert b"x-twilio-signature: " + signature in head.lower().replace(signature.lower(), signature)
        statuses.append(form["MessageStatus"])
    assert sorted(statuses) == ["delivered", "read", "sent"]


async def test_reports_come_late_twice_and_out_of_order_when_told(
    provider: RunningProvider, client: httpx.AsyncClient, receiver: tuple[str, list[bytes]]
) -> None:
    url, requests = receiver
    await provider.turn(reports_out_of_order=True, report_duplicate_rate=1.0, report_delay_seconds=0.3)
    asked_at = time.monotonic()
    await send_twilio(client, StatusCallback=url)
    await eventually(lambda: requests, what="a report")
    assert time.monotonic() - asked_at >= 0.3
    await eventually(lambda: len(requests) == 6, what="six reports")
    order = [parse_qs(request.partition(b"\r\n\r\n")[2].decode())["MessageStatus"][0] for request in requests]
    assert list(dict.fromkeys(order)) == ["read", "delivered", "sent"]
    assert sorted(order) == sorted(2 * ["read", "delivered", "sent"])


async def test_verimor_pushes_its_report_again_until_it_is_taken(
    provider: RunningProvider, client: httpx.AsyncClient
) -> None:
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await request_of(reader))
        status = b"503 Service Unavailable" if len(requests) == 1 else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with raw_server(answer) as url:
        await provider.turn(verimor_report_url=url, report_retry_seconds=0.05)
        await client.post("/v2/send.json", json=sms())
        await eventually(lambda: provider.application.reports.delivered == 1, what="the report")
    assert len(requests) == 2
    assert b'"status":"DELIVERED"' in requests[1]


async def test_a_reset_forgets_messages_and_knobs(provider: RunningProvider, client: httpx.AsyncClient) -> None:
    await provider.turn(server_error_rate=1.0)
    await client.post("/_sandbox/reset")
    assert (await client.post("/v2/send.json", json=sms())).status_code == 200
    assert (await provider.count())["messages"] == 1


async def test_it_runs_as_a_process_of_its_own() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "sandbox", "provider", "--port", str(port)])  # noqa: ASYNC220
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, what="the provider")
    finally:
        process.terminate()
        assert process.wait(timeout=60) in {0, -15}
