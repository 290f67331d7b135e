"""HTTP: problem+json, request ids, health and metrics, who is asking, and how a process serves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import orjson
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import telemetry
from shared.draining import DrainingServer, Farewell
from shared.errors import (
    BadRequest,
    Failure,
    FieldError,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from shared.health import Health
from shared.identity import Principal, TokenVerifier
from shared.openapi import PROBLEM_TYPE, add_problem_schema, failures
from shared.settings import ServiceSettings

log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = Histogram(
    "http_request_seconds", "Time to the end of the answer", ["method", "route", "status"]
)

# How long the gateway is told, with each answer, to take another connection before this process closes the one at hand.
_FAREWELL_SECONDS: Final = 1.0
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

Check = Callable[[], Awaitable[None]]


class JsonResponse(Response):
    """An answer that is JSON already when it is made."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write the body."""
        try:
            return orjson.dumps(content, default=str)
        except TypeError:  # half a character in words of the client's that we repeat: JSON can spell it, UTF-8 can't
            return json.dumps(content, default=str).encode()


class ServiceApp(FastAPI):
    """An app whose description of itself tells how it fails."""

    def openapi(self) -> dict[str, Any]:
        """Describe every route, once."""
        return self.openapi_schema or add_problem_schema(super().openapi())


def create_app(
    settings: ServiceSettings,
    *,
    title: str,
    routers: Sequence[APIRouter],
    open_context: Callable[[], AbstractAsyncContextManager[Any]],
    verifier: TokenVerifier,
    facts: Callable[[], dict[str, Any]] = dict,
) -> FastAPI:
    """Make a service's HTTP door.

    `open_context` opens what the service holds while it runs; handlers find it as `request.state.context`. The context
    has a `database`; readiness asks it. `facts` adds to what /healthz tells.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with open_context() as context:
            yield {"context": context, "verifier": verifier}

    app = ServiceApp(title=title, lifespan=lifespan, redoc_url=None, docs_url=None, responses=failures())
    for router in routers:
        app.include_router(router)
    app.include_router(_operations(settings, facts))
    add_problem_handlers(app)
    app.add_middleware(RequestThread)
    return app


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error as problem+json; what nobody foresaw, RequestThread answers."""
    app.add_exception_handler(Failure, _on_failure)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)


def problem(error: Failure) -> Response:
    """Describe a failure (RFC 9457), with what clients of the older APIs read besides."""
    body: dict[str, Any] = {
        "type": f"urn:partner-hub:problem:{error.code.lower()}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": telemetry.current().request_id,
        "success": False,
        "message": error.message,
    }
    if error.fields:
        body["errors"] = [field.as_dict() for field in error.fields]
    body.update(error.extra)
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return JsonResponse(body, status_code=error.status, headers=headers, media_type=PROBLEM_TYPE)


class RequestThread:
    """Ties a request to its id, its trace and its origin, and says the id in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request under its trace."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = trace_of(scope)
        started = time.perf_counter()
        status = 0

        async def with_request_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = trace.request_id
            await send(message)

        with telemetry.use(trace):
            try:
                await self._app(scope, receive, with_request_id)
            except Exception:
                # Here, not in a handler of the framework's: those answer after the trace has ended.
                log.exception("a request failed in a way that nobody foresaw")
                if status:
                    raise  # the answer has begun; the server cuts the connection
                await problem(Failure())(scope, receive, with_request_id)
            finally:
                route = getattr(scope.get("route"), "path", "none")
                REQUEST_SECONDS.labels(scope["method"], route, status).observe(time.perf_counter() - started)


def trace_of(scope: Scope) -> telemetry.Trace:
    """Read where a request comes from; the gateway has set these headers anew, whatever the client sent."""
    headers = Headers(scope=scope)
    peer = scope.get("client")
    forwarded = headers.get("x-forwarded-for", "").partition(",")[0].strip()
    agent = headers.get("user-agent", "")
    return telemetry.Trace(
        request_id=telemetry.sane_request_id(headers.get("x-request-id")),
        traceparent=telemetry.next_traceparent(headers.get("traceparent")),
        ip=forwarded or (peer[0] if peer else None),
        user_agent=agent[:512] or None,
        path=scope["path"],
    )


async def _caller(request: Request) -> Principal:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    verifier: TokenVerifier = request.state.verifier
    return await verifier.verify(token.strip())


Caller = Annotated[Principal, Depends(_caller)]


def require_role(*roles: str, refusal: Failure | None = None) -> Any:
    """Make a dependency that lets only people with one of these roles in; `refusal` words the 403 for this door."""

    async def check(caller: Caller) -> Principal:
        if not caller.has_role(*roles):
            raise refusal or Forbidden(f"This needs the role {' or '.join(roles)}.")
        return caller

    return Depends(check)


def _operations(settings: ServiceSettings, facts: Callable[[], dict[str, Any]]) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "service": settings.service, **facts()}

    @router.get("/readyz")
    async def readyz(request: Request) -> Response:
        try:
            await request.state.context.database.ping()
        except Unavailable as error:
            return JsonResponse({"status": "not ready", "parts": {"database": error.message}}, status_code=503)
        return JsonResponse({"status": "ready", "parts": {"database": "ok"}})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _on_failure(_: Request, error: Exception) -> Response:
    assert isinstance(error, Failure)  # noqa: S101  registered for this type only
    return problem(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this type only
    return problem(Invalid(fields=[_field_error(item) for item in error.errors()]))


def _field_error(item: dict[str, Any]) -> FieldError:
    """Name the field as the client knows it: without where in the request FastAPI found it."""
    location = [str(part) for part in item["loc"]]
    where = location[1:] if location and location[0] in {"body", "query", "path", "header", "cookie"} else location
    return FieldError(".".join(where) or location[0], _words(item), item["type"].upper())


def _words(item: dict[str, Any]) -> str:
    """Say what would be right, where the framework speaks of its own insides."""
    if item["type"] in {"model_attributes_type", "model_type"} and item["loc"] == ("body",):
        return "Send a JSON object, with the header 'content-type: application/json'."
    message: str = item["msg"]
    return message.removeprefix("Value error, ")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this type only
    kinds: dict[int, Failure] = {
        400: BadRequest(str(error.detail)),
        404: NotFound("There is nothing at this address."),
        405: MethodNotAllowed(),
        413: TooLarge(),
    }
    failure = kinds.get(error.status_code)
    if failure is None:
        failure = Failure(str(error.detail), code=f"HTTP_{error.status_code}")
        failure.status = error.status_code  # type: ignore[misc]  # the framework's own status
        failure.title = HTTPStatus(error.status_code).phrase  # type: ignore[misc]  # and its name
    answer = problem(failure)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    if isinstance(failure, MethodNotAllowed):
        answer.headers["allow"] = ", ".join(_methods_at(request))
    return answer


def _methods_at(request: Request) -> list[str]:
    """Find every method of an address: the framework names those of the first route only (RFC 9110, 15.5.6)."""
    found = []
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.append(method)
    return found


async def serve(app: ASGIApp, settings: ServiceSettings) -> None:
    """Serve HTTP until SIGTERM, then take leave of the gateway and finish the requests at hand."""
    farewell = Farewell(app)
    # Leave-taking is part of the time that the process has to stop.
    config = _config(farewell, settings.host, settings.port, settings.drain_seconds - _FAREWELL_SECONDS)
    await DrainingServer(config, _FAREWELL_SECONDS, on_farewell=farewell.say).serve()


async def serve_health(settings: ServiceSettings, health: Health, *, port: int) -> None:
    """Serve a worker's /healthz, /readyz and /metrics until cancelled."""
    app = FastAPI(openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "service": settings.service}

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = health.is_ready
        body = {"status": "ready" if ready else "not ready", "parts": health.report()}
        return JsonResponse(body, status_code=200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    # Without a lifespan, which would end in a stack trace when the worker cancels this.
    server = uvicorn.Server(_config(app, settings.host, port, 1.0, lifespan="off"))
    # The worker itself answers the signals; this server ends with it.
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    try:
        await server.serve()
    except asyncio.CancelledError:
        if server.started:
            await server.shutdown()
        raise


def _config(
    app: ASGIApp, host: str, port: int, drain_seconds: float, *, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan=lifespan,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
    )


class _NoSignals:
    def __enter__(self) -> None:
        """Leave the signals to the worker."""

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


def _no_signals() -> Any:
    return _NoSignals()
