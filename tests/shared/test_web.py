"""Every answer that is an error has one shape, names its request and tells nobody what they must not know."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, Field, SecretStr

from local.processes import free_port
from shared import errors, telemetry, web
from shared.db import Database
from shared.errors import Failure, FieldError
from shared.health import Health
from shared.identity import KeySource, Principal, TokenVerifier, keys_from
from shared.settings import StoreSettings
from tests.support.asgi import calling
from tests.support.databases import Databases
from tests.support.eventually import eventually
from tests.support.tokens import AUDIENCE, ISSUER, Issuer


class PostOfficeSettings(StoreSettings):
    service: ClassVar[str] = "postoffice"


class Parcel(BaseModel):
    weight_grams: int = Field(gt=0, le=20_000)
    name: str = Field(min_length=1)
    tags: list[str] = []


class ParcelLost(errors.NotFound):
    code = "TEST_PARCEL_LOST"
    message = "There is no such parcel."


KINDS: dict[str, Failure] = {
    "bad-request": errors.BadRequest(),
    "unauthenticated": errors.Unauthenticated(),
    "forbidden": errors.Forbidden(),
    "not-found": ParcelLost(),
    "conflict": errors.Conflict(),
    "too-large": errors.TooLarge(),
    "unsupported": errors.UnsupportedMedia(),
    "invalid": errors.Invalid(fields=[FieldError("weight", "Give grams.", "TOO_HEAVY")]),
    "too-many": errors.TooMany(retry_after=30),
    "unavailable": errors.Unavailable(),
    "failure": Failure(),
}

router = APIRouter()


@router.get("/raise/{kind}")
async def fail(kind: str) -> None:
    raise KINDS[kind]


@router.get("/unforeseen")
async def unforeseen() -> None:
    raise RuntimeError("password=hunter2 at 10.1.2.3")


@router.get("/parcels")
async def parcels() -> list[str]:
    return []


@router.post("/parcels")
async def post_parcel(parcel: Parcel, express: Annotated[bool, Query()] = False) -> dict[str, Any]:  # noqa: FBT002
    return {"name": parcel.name, "express": express}


@router.post("/forms")
async def post_form(request: Request) -> dict[str, Any]:
    async with request.form() as form:
        return {"fields": len(form)}


@router.get("/me")
async def me(caller: web.Caller) -> dict[str, Any]:
    return {"id": caller.id}


@router.get("/admin")
async def admin(caller: Annotated[Principal, web.require_role("Admin", "Auditor")]) -> dict[str, Any]:
    return {"id": caller.id}


@router.get("/trace")
async def trace() -> dict[str, Any]:
    found = telemetry.current()
    return {"ip": found.ip, "user_agent": found.user_agent, "path": found.path, "traceparent": found.traceparent}


def an_app(keys: KeySource, database: Database | None = None) -> FastAPI:
    settings = PostOfficeSettings(
        amqp_url=SecretStr("amqp://127.0.0.1:1"), database_url=SecretStr("postgresql://x@127.0.0.1:1/x")
    )

    @asynccontextmanager
    async def open_context() -> AsyncIterator[Any]:
        yield SimpleNamespace(database=database)

    verifier = TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE)
    return web.create_app(settings, title="Post office", routers=[router], open_context=open_context, verifier=verifier)


@pytest.fixture
async def client(issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(an_app(issuer.keys)) as opened:
        yield opened


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """Check what every problem has in common, and give it."""
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:partner-hub:problem:{body['code'].lower()}"
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+", body["code"])
    assert body["title"]
    assert body["success"] is False
    assert body["message"] == body["detail"] != ""
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failure_of_each_kind_is_a_problem_with_its_status_and_code(
    client: httpx.AsyncClient, kind: str
) -> None:
    answer = await client.get(f"/raise/{kind}")

    body = problem_of(answer)
    assert (body["status"], body["code"], body["detail"]) == (KINDS[kind].status, KINDS[kind].code, KINDS[kind].message)
    assert body["title"] == KINDS[kind].title


async def test_an_address_that_does_not_exist_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere")

    assert (answer.status_code, problem_of(answer)["code"]) == (404, "NOT_FOUND")


async def test_a_method_that_does_not_exist_is_a_problem_that_says_which_do(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/parcels")

    assert (answer.status_code, problem_of(answer)["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "GET, POST"


async def test_what_nobody_foresaw_tells_the_client_nothing_but_the_request_id(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/unforeseen", headers={"x-request-id": "the-clients-own"})

    body = problem_of(answer)
    assert (answer.status_code, body["code"], body["request_id"]) == (500, "INTERNAL_ERROR", "the-clients-own")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert "hunter2" in caplog.text


async def test_what_nobody_foresaw_is_logged_under_its_request(client: httpx.AsyncClient) -> None:
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                seen.append(telemetry.current().request_id)

    listener = Listener()
    logging.getLogger("shared.web").addHandler(listener)
    try:
        await client.get("/unforeseen", headers={"x-request-id": "the-clients-own"})
    finally:
        logging.getLogger("shared.web").removeHandler(listener)

    assert seen == ["the-clients-own"]


async def test_invalid_input_names_each_field_and_what_is_wrong(client: httpx.AsyncClient) -> None:
    answer = await client.post("/parcels?express=perhaps", json={"weight_grams": 0, "tags": ["a", 7]})

    body = problem_of(answer)
    assert (answer.status_code, body["code"]) == (422, "VALIDATION_FAILED")
    assert sorted(error["field"] for error in body["errors"]) == ["express", "name", "tags.1", "weight_grams"]
    assert "greater than 0" in next(error["message"] for error in body["errors"] if error["field"] == "weight_grams")
    assert all(re.fullmatch(r"[A-Z_]+", error["code"]) for error in body["errors"])


async def test_invalid_input_is_not_repeated_in_the_answer(client: httpx.AsyncClient) -> None:
    answer = await client.post("/parcels", json={"weight_grams": "hunter2", "name": "x"})

    assert answer.status_code == 422
    assert "hunter2" not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1, 2]", b"null", b'"text"', b"\xff\xfe", b'{"weight_grams": 1e400, "name": "x"}', b"[" * 100_000],
)
async def test_a_body_that_is_not_what_was_asked_for_is_a_problem(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/parcels", content=body, headers={"content-type": "application/json"})

    assert answer.status_code in {400, 422}
    problem_of(answer)


async def test_a_refusal_of_the_framework_has_the_shape_of_its_kind(client: httpx.AsyncClient) -> None:
    """What the framework says by itself, here about a form without a boundary."""
    answer = await client.post("/forms", content=b"--x", headers={"content-type": "multipart/form-data"})

    body = problem_of(answer)
    assert (answer.status_code, body["code"], body["title"]) == (400, "BAD_REQUEST", "Bad Request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_that_does_not_say_that_it_is_json_is_told_what_to_say(
    client: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await client.post("/parcels", content=b'{"name": "a", "weight": 1}', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"].startswith("Send a JSON object, with the header 'content-type")


async def test_half_of_a_surrogate_pair_is_invalid_input(client: httpx.AsyncClient) -> None:
    body = b'{"weight_grams": 1, "name": "\\ud83c"}'

    answer = await client.post("/parcels", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    problem_of(answer)


def test_a_refusal_that_repeats_half_of_a_surrogate_pair_is_json_all_the_same() -> None:
    body = bytes(web.problem(errors.Invalid("\ud83c is no unit.")).body)

    assert json.loads(body.decode("ascii"))["detail"] == "\ud83c is no unit."


async def test_the_clients_own_request_id_is_echoed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/trace", headers={"x-request-id": "order-4711"})

    assert answer.headers.get_list("x-request-id") == ["order-4711"]


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "<script>", "a,b"])
async def test_a_request_id_that_could_do_harm_is_replaced(client: httpx.AsyncClient, bad: str) -> None:
    answer = await client.get("/raise/not-found", headers={"x-request-id": bad})

    assert re.fullmatch(r"[0-9a-f]{32}", problem_of(answer)["request_id"])


async def test_a_request_without_an_id_gets_one_of_its_own(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get("/trace")).headers["x-request-id"] for _ in range(2)]

    assert first != second


async def test_where_a_request_comes_from_is_what_the_gateway_says(client: httpx.AsyncClient) -> None:
    headers = {
        "x-forwarded-for": "203.0.113.9, 10.0.0.1",
        "user-agent": "curl/8 ığüş".encode(),
        "traceparent": "nonsense",
    }

    found = (await client.get("/trace", headers=headers)).json()  # type: ignore[arg-type]

    assert (found["ip"], found["path"]) == ("203.0.113.9", "/trace")
    assert found["user_agent"].startswith("curl/8")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", found["traceparent"])


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "bearer nonsense", "Bearer a.b.c"])
async def test_without_a_good_token_nobody_knows_who_is_asking(client: httpx.AsyncClient, header: str | None) -> None:
    answer = await client.get("/me", headers={"authorization": header} if header is not None else {})

    assert answer.status_code == 401
    assert problem_of(answer)["detail"] == "Unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_with_a_good_token_the_caller_is_known(client: httpx.AsyncClient, issuer: Issuer) -> None:
    assert (await client.get("/me", headers=issuer.headers(6, "Sponsor"))).json() == {"id": 6}


async def test_without_the_role_the_answer_says_which_would_be_right(client: httpx.AsyncClient, issuer: Issuer) -> None:
    answer = await client.get("/admin", headers=issuer.headers(6, "Sponsor"))

    assert answer.status_code == 403
    assert problem_of(answer)["detail"] == "This needs the role Admin or Auditor."


async def test_one_of_the_roles_is_enough(client: httpx.AsyncClient, issuer: Issuer) -> None:
    assert (await client.get("/admin", headers=issuer.headers(8, "Auditor"))).status_code == 200


async def test_while_the_keys_are_away_the_answer_is_503_and_when_to_come_back(issuer: Issuer) -> None:
    async with calling(an_app(keys_from("http://127.0.0.1:1/jwks.json"))) as client:
        answer = await client.get("/me", headers=issuer.headers(6))

    assert (answer.status_code, problem_of(answer)["code"]) == (503, "TOKEN_KEYS_UNAVAILABLE")
    assert int(answer.headers["retry-after"]) >= 1


async def test_too_many_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    assert (await client.get("/raise/too-many")).headers["retry-after"] == "30"


async def test_a_service_is_alive_whatever_its_servers_do(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok", "service": "postoffice"}


async def test_a_service_is_ready_when_its_own_tables_answer(databases: Databases, issuer: Issuer) -> None:
    fresh = await databases.make("auth")
    async with calling(an_app(issuer.keys, fresh.database)) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_a_service_is_not_ready_without_its_database_and_says_so(issuer: Issuer) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing", schema="auth")
    async with calling(an_app(issuer.keys, database)) as client:
        answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert "database" in answer.json()["parts"]
    assert "nobody" not in answer.text


async def test_metrics_count_answers_by_route_not_by_address(client: httpx.AsyncClient) -> None:
    await client.get("/raise/conflict")
    await client.get("/no-such-address-1234")

    text = (await client.get("/metrics")).text

    assert 'route="/raise/{kind}",status="409"' in text
    assert "no-such-address-1234" not in text


async def test_the_description_of_the_api_is_complete_json(client: httpx.AsyncClient) -> None:
    described = json.loads((await client.get("/openapi.json")).text)

    assert "/parcels" in described["paths"]
    assert "/metrics" not in described["paths"]


async def _look_at_a_workers_page() -> tuple[httpx.Response, httpx.Response]:
    health, port = Health(), free_port()
    settings = PostOfficeSettings(amqp_url=SecretStr(""), database_url=SecretStr(""))
    health.expect("relay")
    page = asyncio.create_task(web.serve_health(settings, health, port=port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:

        async def is_up() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        assert await eventually(is_up)
        before = await client.get("/readyz")
        health.ok("relay", "leading")
        after = await client.get("/readyz")
        assert "part_healthy" in (await client.get("/metrics")).text
    page.cancel()
    await asyncio.gather(page, return_exceptions=True)
    return before, after


def test_the_health_page_of_a_worker_tells_of_its_parts_and_ends_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # In a loop of its own: what the page leaves behind shows when the loop ends, as at the end of a worker.
    before, after = asyncio.run(_look_at_a_workers_page())

    assert (before.status_code, before.json()["parts"]) == (503, {"relay": "starting"})
    assert (after.status_code, after.json()["parts"]) == (200, {"relay": "leading"})
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
