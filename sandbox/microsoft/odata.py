"""The part of OData that the referrals API speaks: filters, order, envelopes and `$skiptoken`."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sandbox.microsoft.referrals import Collection, Item, OrderField, Position, index_of, sortable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.microsoft.knobs import Knobs

_CLAUSE = re.compile(r"(?P<field>[A-Za-z/]+) (?P<operator>eq|ne|ge|gt|le|lt) (?P<value>'[^']*'|\S+)")
_TOKEN_LENGTH = 900  # about what Microsoft's tokens measure
_MALFORMED_FORMS = 7
_PAGES_OF_A_CIRCLE = 3


class QueryError(ValueError):
    """The query is one that this Microsoft does not take."""


@dataclass(frozen=True)
class Clause:
    """One comparison of a filter."""

    field: str
    operator: str
    value: str
    quoted: bool


@dataclass(frozen=True)
class Query:
    """What a client asked for, and how far it has come."""

    clauses: tuple[Clause, ...] = ()
    field: OrderField = "createdDateTime"
    descending: bool = False
    page: int = 1
    after: Position | None = None


def parse(parameters: Mapping[str, str], knobs: Knobs) -> Query:
    """Read `$skiptoken`, or `$filter` and `$orderby`."""
    if "$skiptoken" in parameters:
        return _from_token(parameters["$skiptoken"])
    clauses = tuple(_clauses(parameters.get("$filter", "")))
    field, _, direction = parameters.get("$orderby", "createdDateTime asc").partition(" ")
    if field not in {"createdDateTime", "updatedDateTime"} or direction not in {"", "asc", "desc"}:
        message = f"The $orderby '{field} {direction}' is not supported."
        raise QueryError(message)
    if knobs.order_by == "created_only" and field != "createdDateTime":
        message = "Only createdDateTime is supported in $orderby."
        raise QueryError(message)
    return Query(
        _allowed(clauses, knobs), "updatedDateTime" if field[0] == "u" else "createdDateTime", direction == "desc"
    )


def answer(collection: Collection, query: Query, knobs: Knobs, host: str) -> dict[str, Any]:
    """Make the envelope of one page."""
    since = [
        clause.value for clause in query.clauses if clause.field == query.field and clause.operator in {"ge", "gt"}
    ]
    candidates = collection.in_order(
        query.field,
        descending=query.descending,
        after=query.after,
        since=max(map(sortable, since), default=None),
    )
    matching = (item for item in candidates if all(_matches(item, clause) for clause in query.clauses))
    items = list(islice(matching, knobs.page_size + 1))
    page = items[: knobs.page_size]
    envelope: dict[str, Any] = {
        "@odata.context": "http://api.partner.microsoft.com/v1.0/$metadata#Referrals",
        "@odata.count": len(page),
        "value": [_as_served(item, knobs) for item in page],
    }
    if len(items) > len(page):
        last = page[-1]
        following = replace(query, page=query.page + 1, after=(sortable(last[query.field]), last["id"]))
        if knobs.next_link == "own_page" and query.after is not None:
            following = query
        elif knobs.next_link == "circle" and query.page == _PAGES_OF_A_CIRCLE:
            following = replace(query, page=1, after=("", ""))
        envelope["@odata.nextLink"] = _next_link(following, knobs, host)
    return envelope


def _clauses(text: str) -> list[Clause]:
    parts = [part.strip() for part in text.split(" and ")] if text else []
    matches = [_CLAUSE.fullmatch(part) for part in parts]
    if None in matches:
        message = f"The $filter '{text}' cannot be read."
        raise QueryError(message)
    return [
        Clause(found["field"], found["operator"], found["value"].strip("'"), found["value"].startswith("'"))
        for found in matches
        if found
    ]


def _allowed(clauses: tuple[Clause, ...], knobs: Knobs) -> tuple[Clause, ...]:
    """Apply the knob for the question that only a live tenant settles: how a time is written in a filter."""
    dated = [clause for clause in clauses if clause.field.endswith("DateTime")]
    if knobs.date_filter == "ignored":
        return tuple(clause for clause in clauses if clause not in dated)
    refused = {
        "refused": dated,
        "quoted": [c for c in dated if not c.quoted],
        "unquoted": [c for c in dated if c.quoted],
    }
    if refused.get(knobs.date_filter):
        message = "The $filter on a date is not supported in this form."
        raise QueryError(message)
    return clauses


def _matches(item: Item, clause: Clause) -> bool:
    found: Any = item
    for part in clause.field.split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, str):
        return False
    dated = clause.field.endswith("DateTime")
    left, right = (sortable(found), sortable(clause.value)) if dated else (found, clause.value)
    return {
        "eq": left == right,
        "ne": left != right,
        "ge": left >= right,
        "gt": left > right,
        "le": left <= right,
        "lt": left < right,
    }[clause.operator]


def _next_link(query: Query, knobs: Knobs, host: str) -> str:
    """As documented: http, without `/engagements`, and a long percent-encoded token."""
    token = quote(_to_token(query), safe="")
    if knobs.next_link == "complete":
        return f"https://{host}/v1.0/engagements/referrals?$skiptoken={token}"
    if knobs.next_link == "foreign_host":
        return f"https://{knobs.foreign_host}/v1.0/referrals?$skiptoken={token}"
    return f"http://{host}/v1.0/referrals?$skiptoken={token}"


def _to_token(query: Query) -> str:
    content = {
        "clauses": [[c.field, c.operator, c.value, c.quoted] for c in query.clauses],
        "field": query.field,
        "descending": query.descending,
        "page": query.page,
        "after": query.after,
    }
    text = json.dumps(content)
    return base64.b64encode(text.ljust(_TOKEN_LENGTH * 3 // 4 - 1).encode()).decode()


def _from_token(token: str) -> Query:
    try:
        content = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError) as error:
        message = "The $skiptoken is not one of ours: it was changed on the way."
        raise QueryError(message) from error
    return Query(
        tuple(Clause(*clause) for clause in content["clauses"]),
        content["field"],
        content["descending"],
        content["page"],
        (content["after"][0], content["after"][1]),
    )


def _as_served(item: Item, knobs: Knobs) -> Any:
    """Give the item the shapes and faults that the knobs ask for."""
    index = index_of(item["id"])
    if knobs.ids_shape != "mixed":
        identifiers: Any = {"list": [{"profileType": "Duns", "id": "000000000"}], "object": {}, "empty_list": []}
        item = item | {"customerProfile": item["customerProfile"] | {"ids": identifiers[knobs.ids_shape]}}
    if knobs.unknown_every and index % knobs.unknown_every == 0:
        new = {"futureField": {"a": [1]}, "status": "Paused", "substatus": "Engaged", "type": "Referred"}
        item = item | new
    if knobs.malformed_every and index % knobs.malformed_every == 0:
        return _malformed(item, index // knobs.malformed_every)
    return item


def _malformed(item: Item, number: int) -> Any:
    without_id = {key: value for key, value in item.items() if key != "id"}
    forms: tuple[Any, ...] = (
        None,
        "not a referral",
        without_id,
        item | {"id": 4711},
        item | {"updatedDateTime": "yesterday"},
        item | {"name": "a NUL \u0000 inside"},
        item | {"id": ""},
    )
    return forms[number % _MALFORMED_FORMS]
