"""`dead list|show|redrive|drop` as an operator types it."""

from __future__ import annotations

import asyncio
import secrets

import aio_pika
import pytest
from typer.testing import CliRunner

from shared import dead_letters, topology
from shared.bus.publisher import Outgoing
from tests.support.builders import an_envelope
from tests.support.messages import depth, publishing


def never() -> str:
    raise AssertionError("the address of the broker is in the environment")


COMMANDS = dead_letters.commands("auth", never)


def dead(*arguments: str) -> str:
    answer = CliRunner().invoke(COMMANDS, arguments)
    return answer.output if answer.exit_code == 0 else f"{answer.exit_code}: {answer.output}"


@pytest.fixture
async def letter_id(broker: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AMQP_URL", broker)
    envelope, body = an_envelope(1)
    async with publishing(broker) as publisher:
        exchange = topology.dead_letter_exchange_of("auth")
        await publisher.publish_one(Outgoing(exchange, "auth.events", body, message_id="1"))
    return str(envelope.id)


async def test_a_dead_letter_is_listed_shown_redriven_and_dropped_with_nothing_but_the_address_of_the_broker(
    broker: str, letter_id: str
) -> None:
    listed = await asyncio.to_thread(dead, "list")
    assert letter_id in listed
    assert "auth.events" in listed
    assert "1 dead letters" in listed
    assert "auth.user.registered.v1" in await asyncio.to_thread(dead, "show", letter_id)
    assert await asyncio.to_thread(dead, "redrive", letter_id) == "redriven: 1\n"
    assert await depth(broker, "auth.events") == 1
    assert await asyncio.to_thread(dead, "drop", letter_id) == "dropped: 0\n"


async def test_all_or_one_must_be_said(letter_id: str) -> None:
    assert await asyncio.to_thread(dead, "drop") == "1: Name one dead letter, or say --all.\n"
    assert await asyncio.to_thread(dead, "drop", letter_id, "--all") == "1: Name one dead letter, or say --all.\n"
    assert await asyncio.to_thread(dead, "drop", "--all") == "dropped: 1\n"


@pytest.mark.slow
async def test_all_means_all_however_many(broker: str, letter_id: str) -> None:
    del letter_id
    _, body = an_envelope(2)
    exchange = topology.dead_letter_exchange_of("auth")
    async with publishing(broker) as publisher:
        for _ in range(21):
            letters = [Outgoing(exchange, "auth.events", body, message_id=secrets.token_hex(8)) for _ in range(500)]
            await publisher.publish(letters)
    assert await asyncio.to_thread(dead, "drop", "--all") == "dropped: 10501\n"
    assert await depth(broker, "auth.dead") == 0


async def test_letters_that_fail_again_while_all_are_redriven_are_redriven_once(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_URL", broker)
    exchange = topology.dead_letter_exchange_of("auth")
    connection = await aio_pika.connect(broker)
    async with publishing(broker) as publisher, connection:

        async def fail(body: bytes) -> None:
            await publisher.publish_one(Outgoing(exchange, "auth.events", body, message_id=secrets.token_hex(8)))

        async def fail_again(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            await fail(message.body)

        for number in range(50):
            await fail(an_envelope(number)[1])
        channel = await connection.channel()
        queue = await channel.declare_queue("auth.events", passive=True)
        await queue.consume(fail_again, no_ack=True)
        assert await asyncio.wait_for(asyncio.to_thread(dead, "redrive", "--all"), 60) == "redriven: 50\n"
    assert await depth(broker, "auth.dead") == 50


def test_without_a_broker_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_AMQP_URL", "amqp://nobody:none@127.0.0.1:1/")
    assert dead("list").startswith("1: The message broker is not available (")
