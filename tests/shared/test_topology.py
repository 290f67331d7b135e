"""The topology as data keeps the promises of the messaging facts, and the broker has exactly that."""

from __future__ import annotations

import ast

import aio_pika
import pytest

from shared import topology
from shared.bus.declare import TopologyRefused, declare
from shared.topology import CONSUMERS, LADDER, QUEUES, STREAMS, DeclaredQueue
from tests.architecture.tree import SERVICES, parsed

PLAN = topology.topology()
BY_NAME = {queue.name: queue for queue in PLAN.queues}
WAITING = [
    queue for queue in PLAN.queues if not queue.name.endswith(".dead") and queue.name not in {s.name for s in STREAMS}
]


def test_nothing_is_declared_twice() -> None:
    assert len(BY_NAME) == len(PLAN.queues)
    assert len({exchange.name for exchange in PLAN.exchanges}) == len(PLAN.exchanges)
    assert len(set(PLAN.bindings)) == len(PLAN.bindings)


def test_every_consumer_is_a_service_and_owns_what_bears_its_name() -> None:
    assert set(CONSUMERS) <= set(SERVICES)
    assert {queue.name.partition(".")[0] for queue in PLAN.queues} <= set(SERVICES)


@pytest.mark.parametrize("queue", WAITING, ids=lambda queue: queue.name)
def test_a_message_can_not_get_lost_between_two_queues(queue: DeclaredQueue) -> None:
    """Without all four, dead-lettering silently becomes at-most-once (docs/messaging.md M1.2)."""
    arguments = queue.arguments

    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"
    assert arguments["x-dead-letter-exchange"] in {exchange.name for exchange in PLAN.exchanges}


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_a_work_queue_says_its_delivery_limit_itself(queue: topology.Queue) -> None:
    """RabbitMQ 3.x has none and 4.x drops after 20: neither is ours."""
    assert BY_NAME[queue.name].arguments["x-delivery-limit"] == 100
    assert queue.prefetch > 0


@pytest.mark.parametrize("service", CONSUMERS)
def test_every_consumer_has_four_rungs_and_a_queue_for_dead_letters(service: str) -> None:
    rungs = {rung.name: BY_NAME[f"{service}.retry.{rung.name}"].arguments["x-message-ttl"] for rung in LADDER}

    assert rungs == {"5s": 5_000, "30s": 30_000, "5m": 300_000, "1h": 3_600_000}
    # Looking at a dead letter counts as a delivery: however often somebody looks, it stays.
    assert BY_NAME[f"{service}.dead"].arguments == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_a_message_that_falls_off_a_rung_comes_back_to_its_own_queue(queue: topology.Queue) -> None:
    back = [
        b.queue for b in PLAN.bindings if b.exchange == f"{queue.service}.return" and b.routing_key == f"*.{queue.name}"
    ]

    assert back == [queue.name]


def test_a_service_binds_only_its_own_queues() -> None:
    for binding in PLAN.bindings:
        if binding.exchange != topology.EVENTS:
            assert binding.exchange.partition(".")[0] == binding.queue.partition(".")[0]


def test_an_event_is_mandatory_exactly_when_somebody_consumes_it() -> None:
    bound = {binding.routing_key for binding in PLAN.bindings if binding.exchange == topology.EVENTS}

    assert all(topology.is_consumed(key) for key in bound)
    assert not topology.is_consumed("referrals.referral.received.v1")


def test_no_setting_of_the_broker_is_only_in_the_code_of_a_service() -> None:
    """Queues are made by the topology step alone; a service looks whether they are there."""
    declaring = [
        path
        for path, tree in parsed("services", "shared")
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("declare_queue", "queue_declare"))
        if not any(each.arg == "passive" and ast.unparse(each.value) == "True" for each in call.keywords)
    ]

    assert [str(path) for path in declaring] == ["shared/bus/declare.py"]


async def test_declaring_twice_changes_nothing(broker: str) -> None:
    before = await _depths(broker)

    await declare(broker)

    after = await _depths(broker)
    # A stream keeps what earlier tests published, and counts it a moment late.
    streams = {stream.name for stream in topology.STREAMS}
    assert {name: depth for name, depth in after.items() if name not in streams} == {
        name: depth for name, depth in before.items() if name not in streams
    }
    assert set(after) == set(before) == set(BY_NAME)


async def _depths(amqp_url: str) -> dict[str, int | None]:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        return {
            name: (await channel.declare_queue(name, passive=True)).declaration_result.message_count for name in BY_NAME
        }


async def test_a_queue_with_other_arguments_is_refused_with_what_to_do(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "DELIVERY_LIMIT", 7)

    with pytest.raises(TopologyRefused, match="let it run empty, delete it, and run this step again"):
        await declare(broker)
