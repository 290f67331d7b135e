"""The event map can't lie: names, publishers, bindings, handlers and the committed pages fit together."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from local import catalog as pages
from shared import topology
from shared.events import AuditRecorded, Event, catalog
from tests.architecture.tree import SERVICES, parsed

EVENTS = sorted(catalog().values(), key=lambda event: event.routing_key)
WITH_QUEUES = sorted({queue.service for queue in topology.QUEUES})
PARTICIPLE = re.compile(r"[a-z_]+ed|sent")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.routing_key)
def test_a_routing_key_says_publisher_entity_past_and_version(event: type[Event]) -> None:
    publisher, _entity, past, version = event.routing_key.split(".")

    assert publisher in SERVICES
    assert PARTICIPLE.fullmatch(past)
    assert re.fullmatch(r"v[1-9]\d*", version)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.routing_key)
def test_an_event_is_declared_by_its_publisher_under_the_name_of_its_routing_key(event: type[Event]) -> None:
    publisher, entity, past, version = event.routing_key.split(".")
    if issubclass(event, AuditRecorded):
        assert event.__name__ == f"{publisher.title()}Audit"
        return
    words = f"{entity}_{past}".title().replace("_", "") + ("" if version == "v1" else version.upper())

    assert event.__name__.endswith(words)
    assert event.__module__ == f"shared.events.{publisher}"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.routing_key)
def test_an_event_says_in_a_line_what_happened(event: type[Event]) -> None:
    assert "__doc__" in vars(event)
    assert pages.first_line(event).endswith((".", ";")), "the first line is a sentence"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.routing_key)
def test_only_the_publisher_of_an_event_makes_it_and_it_does_make_it(event: type[Event]) -> None:
    commands = [(path, tree) for path, tree in parsed("services") if "commands" in path.with_suffix("").parts]
    makers = {path.parts[1] for path, tree in commands if event.__name__ in _made(tree)}

    assert makers == {event.publisher()}


@pytest.mark.parametrize("service", WITH_QUEUES)
def test_a_service_handles_exactly_the_events_that_are_bound_to_its_queues(service: str) -> None:
    tables = list(_handler_tables(importlib.import_module(f"services.{service}.consumers")))  # noqa: TID251  each
    queues = [frozenset(queue.binds) for queue in topology.QUEUES if queue.service == service]

    assert frozenset().union(*tables) == frozenset().union(*queues)
    for bound in queues:  # several queues may share a table, but none needs two
        assert [bound <= table for table in tables].count(True) == 1


def test_the_gateway_handles_exactly_the_events_of_its_stream() -> None:
    consumers = importlib.import_module("services.gateway.consumers")  # noqa: TID251  as for the others

    assert list(_handler_tables(consumers)) == [frozenset(topology.GATEWAY_REVOCATIONS.binds)]


def test_a_service_with_no_queue_reacts_to_nothing() -> None:
    with_consumers = {path.parts[1] for path, _ in parsed("services") if "consumers" in path.with_suffix("").parts}

    assert with_consumers == {*WITH_QUEUES, *(stream.name.partition(".")[0] for stream in topology.STREAMS)}


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_the_committed_page_says_what_the_code_says(page: pages.Page) -> None:
    assert page.path.read_text() == page.text(), "run `make docs`"


def _handler_tables(consumers: ModuleType) -> Iterator[frozenset[type[Event]]]:
    """Find the tables event -> function of a consumers module."""
    for name, table in vars(consumers).items():
        if name == "HANDLERS" or name.endswith("_HANDLERS"):
            yield frozenset(table)


def _made(tree: ast.Module) -> Iterator[str]:
    """Name what a module calls, or hands over to be called (`kind=AuthAudit`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for part in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(part, (ast.Name, ast.Attribute)):
                    yield part.id if isinstance(part, ast.Name) else part.attr
