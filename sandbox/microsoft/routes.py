"""The HTTP of Microsoft: sign-in endpoints, the page for the person, and the referrals API."""

from __future__ import annotations

import asyncio
import html
import json
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from sandbox.microsoft import odata
from sandbox.microsoft.identity import Answer
from sandbox.microsoft.knobs import ApiFault
from sandbox.microsoft.state import Sandbox

router = APIRouter()

_CLAIMS = "eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzAwMDAwMDAwIn19fQ=="
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox sign-in</title>
<body style="font-family:sans-serif;max-width:28rem;margin:4rem auto"><h1>Sandbox sign-in</h1><p>{text}</p>
<form method="post"><p><label>Code <input name="user_code" value="{code}" autofocus></label></p>
<button name="decision" value="approve">Approve</button> <button name="decision" value="decline">Decline</button>
</form></body></html>"""


class ConnectionDropped(Exception):
    """Raised in the middle of a body so that the server breaks the connection."""


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


@router.get("/{tenant}/v2.0/.well-known/openid-configuration")
async def discover(tenant: str, request: Request) -> Response:
    """OIDC discovery, every address on the host that the client used."""
    if fault := _sandbox(request).identity.fault("discovery"):
        return _json(fault)
    base = f"https://{request.headers['host']}/{tenant}"
    metadata = {
        "issuer": f"{base}/v2.0",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
    return JSONResponse(metadata)


@router.post("/{tenant}/oauth2/v2.0/devicecode")
async def begin_device_flow(
    tenant: str, request: Request, client_id: Annotated[str, Form()], scope: Annotated[str, Form()]
) -> Response:
    """RFC 8628, 3.1 and 3.2."""
    return _json(_sandbox(request).identity.begin(client_id, scope, tenant, request.headers["host"]))


@router.post("/{tenant}/oauth2/v2.0/token")
async def exchange_token(tenant: str, request: Request) -> Response:
    """Device grant and refresh grant."""
    sandbox = _sandbox(request)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    answer = sandbox.identity.exchange(form, tenant)
    grant = form.get("grant_type", "").rpartition(":")[2]
    outcome = answer[2].get("error", "issued") if isinstance(answer[2], dict) else "garbled"
    sandbox.counters.token_calls[f"{grant}:{outcome}"] += 1
    await asyncio.sleep(sandbox.knobs.token_delay_seconds)
    return _json(answer)


@router.get("/devicelogin")
async def show_device_page(user_code: str = "") -> HTMLResponse:
    """Show the page that the verification address opens."""
    return HTMLResponse(_PAGE.format(text="Enter the code that the application shows.", code=html.escape(user_code)))


@router.post("/devicelogin")
async def decide_on_device(
    request: Request, user_code: Annotated[str, Form()], decision: Annotated[str, Form()] = "approve"
) -> HTMLResponse:
    """Take a person's decision."""
    text = _sandbox(request).identity.decide(user_code, approve=decision == "approve")
    return HTMLResponse(_PAGE.format(text=text, code=""))


@router.get("/v1.0/engagements/referrals")
@router.get("/v1.0/referrals")
async def list_referrals(request: Request) -> Response:
    """One page of referrals; nextLinks come without `/engagements`, so both paths answer."""
    sandbox = _sandbox(request)
    knobs = sandbox.knobs
    await asyncio.sleep(knobs.page_delay_seconds)
    if refusal := _refused(request):
        return refusal
    known_path = "/engagements/" in request.url.path
    continued = "$skiptoken" in request.query_params
    allowed = knobs.skip_token_honoured_on in {"both", "known_path" if known_path else "given_path"}
    if (continued and not allowed) or (not continued and not known_path):
        return _error(404, "itemNotFound", "The requested resource was not found.")
    sandbox.counters.queries.append(str(request.query_params))
    try:
        query = odata.parse(request.query_params, knobs)
    except odata.QueryError as error:
        return _error(400, "invalidRequest", str(error))
    fault = _next_fault(knobs.api_faults, query.page)
    if fault and fault.kind == "silence":
        await _until_gone(request)
    if fault and fault.kind != "dropped_connection":
        return _faulty(fault)
    body = json.dumps(odata.answer(sandbox.collection, query, knobs, request.headers["host"])).encode()
    if fault:
        return StreamingResponse(_half(body), headers=_headers() | {"Content-Length": str(len(body))})
    sandbox.counters.pages.append(query.page)
    return Response(body, media_type="application/json", headers=_headers())


@router.get("/v1.0/engagements/referrals/{referral_id}")
async def get_referral(referral_id: str, request: Request) -> Response:
    """One referral."""
    if refusal := _refused(request):
        return refusal
    item = _sandbox(request).collection.get(referral_id)
    if item is None:
        return _error(404, "itemNotFound", "The requested resource was not found.")
    return JSONResponse(item, headers=_headers() | {"ETag": item["eTag"]})


def _refused(request: Request) -> Response | None:
    """401 unless the bearer token is one of ours, alive, and was issued after a second factor."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    grant = _sandbox(request).identity.grant_of(token) if scheme == "Bearer" else None
    if grant is None:
        return _faulty(ApiFault(kind="unauthenticated"))
    if not grant.with_mfa:
        return _faulty(ApiFault(kind="mfa_required"))
    if not request.headers.get("client-request-id"):
        return _error(400, "invalidRequest", "The header client-request-id is required.")
    return None


def _next_fault(faults: list[ApiFault], page: int) -> ApiFault | None:
    for fault in faults:
        if fault.times > 0 and fault.page in {None, page}:
            fault.times -= 1
            return fault
    return None


def _faulty(fault: ApiFault) -> Response:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    if fault.kind == "throttled_sister_host":
        text = f"Rate limit is exceeded. Try again in {fault.retry_after or 'some'} seconds."
        return JSONResponse({"statusCode": 429, "message": text}, 429, headers=_headers() | headers)
    if fault.kind == "claims_challenge":
        challenge = f'Bearer realm="", error="insufficient_claims", claims="{_CLAIMS}"'
        return _error(401, "unauthenticated", "Continuous access evaluation.", {"WWW-Authenticate": challenge})
    status, code, text, more = {
        "throttled": (429, "tooManyRequests", "Wait until an amount of time has elapsed.", {}),
        "server_error": (fault.status, "serviceNotAvailable", "The service is not available.", {}),
        "silence": (504, "serviceNotAvailable", "Nobody is there any more to hear this.", {}),
        "unauthenticated": (401, "unauthenticated", "The caller is not authenticated.", _invalid_token()),
        "mfa_required": (401, "900421", "MFA is required for this call.", _invalid_token()),
        "insufficient_claims": (403, "insufficient_claims", "Conditional Access asks for more.", {}),
        "forbidden": (403, "accessDenied", "The caller lacks the role Referral Admin or Referral User.", {}),
    }[fault.kind]
    return _error(status, code, text, headers | more)


def _invalid_token() -> dict[str, str]:
    return {"WWW-Authenticate": 'Bearer error="invalid_token"'}


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    body = {"error": {"code": code, "message": message, "target": None, "innerError": {"code": code, "message": ""}}}
    return JSONResponse(body, status, headers=_headers() | (headers or {}))


def _headers() -> dict[str, str]:
    return {"request-id": str(uuid.uuid4())}


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _half(body: bytes) -> AsyncIterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionDropped


def _json(answer: Answer) -> Response:
    status, headers, body = answer
    if isinstance(body, str):
        return Response(body, status, headers=headers, media_type="text/html")
    return JSONResponse(body, status, headers=headers)
