"""One description of all services: nothing lost, nothing mixed up, and it says what is public."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from pydantic import create_model

from services.gateway.domain.openapi import merge
from tests.gateway.raw import Line, raw_service
from tests.gateway.running import running_gateway

# Two services that call different things by one name.
Credentials = create_model("Item", email=(str, ...))
Range = create_model("Item", action=(str, ...))


def two_documents() -> dict[str, dict[str, Any]]:
    failures: dict[int | str, dict[str, Any]] = {413: {"description": "Too large"}, 503: {"description": "Away"}}
    auth, audit = (FastAPI(title=title, responses=failures) for title in ("auth", "audit"))

    @auth.post("/api/v1/auth/login")
    async def sign_in(body: Credentials) -> Credentials:
        return body

    @audit.post("/api/v1/audit/verification/{number}")
    async def verify(number: int, body: Range) -> Range:
        assert number
        return body

    return {"auth": auth.openapi(), "audit": audit.openapi()}


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in references(value)]
    if isinstance(part, list):
        return [found for value in part for found in references(value)]
    return []


def test_every_operation_of_every_service_is_there_and_every_reference_leads_somewhere() -> None:
    merged = merge(two_documents(), missing=[])
    assert set(merged["paths"]) == {"/api/v1/auth/login", "/api/v1/audit/verification/{number}"}
    found = references(merged)
    assert found
    for reference in found:
        at = merged
        for key in reference.removeprefix("#/").split("/"):
            at = at[key]


def test_every_operation_says_what_the_gateway_itself_may_answer() -> None:
    for path, item in merge(two_documents(), missing=[])["paths"].items():
        for method in item.keys() & {"get", "put", "post", "delete", "patch"}:
            assert item[method]["responses"].keys() >= {"408", "431", "502", "504"}, f"{method} {path}"


def test_things_that_share_a_name_stay_apart() -> None:
    merged = merge(two_documents(), missing=[])
    schemas = merged["components"]["schemas"]
    assert set(schemas["auth.Item"]["properties"]) == {"email"}
    assert set(schemas["audit.Item"]["properties"]) == {"action"}
    body = merged["paths"]["/api/v1/audit/verification/{number}"]["post"]["requestBody"]
    assert references(body) == ["#/components/schemas/audit.Item"]


def test_it_says_what_is_public() -> None:
    merged = merge(two_documents(), missing=[])
    assert merged["paths"]["/api/v1/auth/login"]["post"]["security"] == []
    assert "security" not in merged["paths"]["/api/v1/audit/verification/{number}"]["post"]
    assert merged["security"] == [{"accessToken": []}]


def test_operations_have_names_of_their_own() -> None:
    merged = merge(two_documents(), missing=[])
    names = [operation["operationId"] for item in merged["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names) == 2
    assert all(operation["tags"] for item in merged["paths"].values() for operation in item.values())


async def test_it_is_made_from_the_services_that_run_and_names_those_that_do_not() -> None:
    document = json.dumps(two_documents()["auth"]).encode()

    async def script(line: Line) -> None:
        while True:
            await line.head()
            await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(document), document))

    async with (
        raw_service(script) as service,
        running_gateway(auth_url=service.url) as running,
        running.client() as client,
    ):
        merged = (await client.get("/openapi.json")).json()
        assert set(merged["paths"]) == {"/api/v1/auth/login"}
        assert merged["x-missing-services"] == ["referrals", "invitations", "audit"]
