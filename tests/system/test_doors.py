"""Every door of the system from outside: what opens without a token, what a forged identity opens, which methods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.system.conftest import ALSO_AN_ID, People

FORGED: Final = {
    "x-user-id": "166",
    "x-account-id": "166",
    "x-roles": "Admin",
    "x-user-roles": "Admin",
    "x-user-email": "admin@example.com",
    "x-forwarded-user": "admin@example.com",
    "x-remote-user": "admin@example.com",
    "x-authenticated-userid": "166",
    "x-forwarded-for": "127.0.0.1",
    "x-original-url": "/api/v1/auth/login",
}
# What people and providers must reach without an account. A route that is not here needs a token.
PUBLIC: Final = frozenset(
    {
        ("get", "/.well-known/jwks.json"),
        ("post", "/api/v1/auth/login"),
        ("post", "/api/v1/auth/refresh"),
        ("post", "/api/v1/auth/request-password-reset"),
        ("post", "/api/v1/auth/reset-password"),
        ("post", "/api/v1/auth/cancel-password-reset"),
        ("get", "/ref/{token}"),
        ("post", "/ref/{token}/accept"),
        ("get", "/ref/{token}/opt-out"),
        ("post", "/ref/{token}/opt-out"),
        ("post", "/callbacks/verimor"),
        ("post", "/callbacks/twilio"),
    }
)
# One address of each service that an admin may read.
READABLE: Final = {
    "auth": "/api/v1/auth/me",
    "referrals": "/api/referrals",
    "invitations": "/api/Sponsorship/codes",
    "audit": "/api/v1/audit/events",
}
METHODS: Final = ("get", "post", "put", "patch", "delete", "trace")
AN_ID: Final = "0199d6f2-7c1b-7c44-9f0e-3f6a5f2b8c11"

Operation = dict[str, Any]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def description(system: dict[str, Any], client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"{system['gateway_url']}/openapi.json").raise_for_status().json()
    return document


def _own_address(system: dict[str, Any], service: str) -> str:
    return str(system["health_urls"][f"{service}-api"]).removesuffix("/readyz")


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def _call(client: httpx.Client, address: str, method: str, path: str, operation: Operation) -> httpx.Response:
    """Call without a token, in the media type that the route takes, with forged headers besides."""
    kinds = list(operation.get("requestBody", {}).get("content", {}))
    headers = {**FORGED, "content-type": f"{kinds[0]}; boundary=b"} if kinds else FORGED
    return client.request(method, address + _filled(path), headers=headers, content=b"{}" if kinds else None)


def _filled(path: str) -> str:
    return "/".join(AN_ID if part.startswith("{") else part for part in path.split("/"))


@pytest.mark.parametrize("service", READABLE)
def test_a_services_own_door_wants_a_token_and_believes_no_header(
    service: str, system: dict[str, Any], client: httpx.Client, people: People
) -> None:
    address = _own_address(system, service) + READABLE[service]

    assert client.get(address).status_code == 401
    assert client.get(address, headers=FORGED).status_code == 401
    assert client.get(address, headers={**FORGED, "authorization": "Bearer e30.e30.e30"}).status_code == 401
    assert client.get(address, headers={"authorization": f"Bearer {people.token('admin')}"}).status_code == 200


@pytest.mark.parametrize("service", READABLE)
def test_no_route_of_a_service_opens_to_forged_headers(
    service: str, system: dict[str, Any], client: httpx.Client
) -> None:
    address = _own_address(system, service)
    document = client.get(f"{address}/openapi.json").raise_for_status().json()

    opened = {
        (method, path): answer.status_code
        for method, path, operation in _operations(document)
        if (method, path) not in PUBLIC
        and (answer := _call(client, address, method, path, operation)).status_code != 401
    }

    assert opened == {}


def test_every_route_of_the_gateway_wants_a_token_unless_it_is_on_the_list(
    system: dict[str, Any], client: httpx.Client, description: dict[str, Any]
) -> None:
    opened = {
        (method, path): answer.status_code
        for method, path, operation in _operations(description)
        if (method, path) not in PUBLIC
        and (answer := _call(client, system["gateway_url"], method, path, operation)).status_code != 401
    }

    assert opened == {}


def test_the_description_names_the_same_public_routes(description: dict[str, Any]) -> None:
    operations = _operations(description)
    described = {(method, path) for method, path, operation in operations if operation.get("security") == []}

    assert described == PUBLIC


def test_every_route_refuses_the_methods_that_it_does_not_describe(
    system: dict[str, Any], client: httpx.Client, description: dict[str, Any], people: People
) -> None:
    headers = {"authorization": f"Bearer {people.token('admin')}"}
    taken = {}
    for path, item in description["paths"].items():
        for method in set(METHODS) - set(item):
            answer = client.request(method, system["gateway_url"] + _filled(path), headers=headers)
            if method == "get" and path in ALSO_AN_ID:
                assert answer.status_code in {404, 422}
            elif answer.status_code != 405 or "allow" not in answer.headers:
                taken[method, path] = answer.status_code

    assert taken == {}


@pytest.mark.parametrize("service", READABLE)
def test_a_service_refuses_trace(service: str, system: dict[str, Any], client: httpx.Client, people: People) -> None:
    headers = {"authorization": f"Bearer {people.token('admin')}", "x-secret": "echo-me"}

    answer = client.request("TRACE", _own_address(system, service) + READABLE[service], headers=headers)

    assert answer.status_code == 405
    assert "echo-me" not in answer.text


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/api/Sponsorship/admin/farmer/invitations/bulk", "sponsorId", 6),
        ("/api/v1/auth/login", "email", "admin@example.com"),
        ("/api/v1/auth/request-password-reset", "email", "admin@example.com"),
        ("/api/v1/auth/reset-password", "token", "the token from the message"),
    ],
)
def test_the_main_calls_are_described_with_an_example(
    path: str, field: str, value: object, description: dict[str, Any]
) -> None:
    body = description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert _example(description, body)[field] == value


def test_the_answer_of_a_sync_is_described_with_the_runbooks_example(description: dict[str, Any]) -> None:
    answer = description["paths"]["/api/referrals/sync"]["post"]["responses"]["200"]

    example = _example(description, answer["content"]["application/json"]["schema"])
    assert (example["success"], example["enqueued"], example["errors"]) == (True, True, [])


def test_every_failure_is_described_as_a_problem(description: dict[str, Any]) -> None:
    told = {
        (method, path, status): list(answer.get("content", {}))
        for method, path, operation in _operations(description)
        for status, answer in operation["responses"].items()
        if status >= "400"
    }

    of_services = {"400", "401", "403", "404", "409", "413", "415", "422", "429", "503"}
    assert {status for _, _, status in told} == of_services | {"408", "431", "502", "504"}
    assert all("application/problem+json" in kinds for kinds in told.values())


def _example(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema["$ref"].rpartition("/")[2]
    example: dict[str, Any] = document["components"]["schemas"][name]["examples"][0]
    return example
