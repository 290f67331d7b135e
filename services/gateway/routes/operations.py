"""How the gateway is, its figures, and what the interface offers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from services.gateway.context import Gateway
from services.gateway.domain.openapi import merge
from services.gateway.proxy import look_at

_LOOK_SECONDS: Final = 1.0
_DESCRIBE_SECONDS: Final = 5.0
_RECENT_SECONDS: Final = 1.0

CONNECTIONS: Final = Gauge("gateway_service_connections", "Connections to a service", ["service", "state"])
WAITING: Final = Gauge("gateway_service_waiting", "Requests that wait for a connection to a service", ["service"])
CIRCUIT_OPEN: Final = Gauge("gateway_service_circuit_open", "1 while a failing service is left alone", ["service"])
REVOKED: Final = Gauge("gateway_revocations", "Sessions and accounts whose older tokens are refused")

router = APIRouter(include_in_schema=False)


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.state.context
    return gateway


CurrentGateway = Annotated[Gateway, Depends(_gateway)]


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "ok", "service": "gateway"}


@router.get("/readyz")
async def readyz(gateway: CurrentGateway) -> Response:
    """Tell how the gateway and each service are.

    503 only when nothing can be served: a gateway that goes down with the first of its services takes the others along.
    """
    body = await report(gateway)
    return JSONResponse(body, status_code=503 if body["status"] == "not ready" else 200)


async def report(gateway: Gateway) -> dict[str, Any]:
    """Ask each service how it is, all at once."""
    names = list(gateway.upstreams)
    states = dict(zip(names, await asyncio.gather(*(_state(gateway, name) for name in names)), strict=True))
    draining = "draining" in gateway.health.report()
    serving = not draining and any(state["status"] == "ready" for state in states.values())
    well = serving and gateway.health.is_ready and all(state["status"] == "ready" for state in states.values())
    return {
        "status": "ready" if well else "degraded" if serving else "not ready",
        "parts": gateway.health.report(),
        "upstreams": states,
        "partner_center_enabled": states["referrals"].get("partner_center_enabled"),
    }


async def _state(gateway: Gateway, name: str) -> dict[str, Any]:
    """Ask a service at most once a second, whoever asks us how often."""
    return await gateway.recently.get(f"state of {name}", lambda: _look(gateway, name), seconds=_RECENT_SECONDS)


async def _look(gateway: Gateway, name: str) -> dict[str, Any]:
    upstream = gateway.upstreams[name]
    ready, health = await asyncio.gather(
        look_at(upstream, "/readyz", seconds=_LOOK_SECONDS), look_at(upstream, "/healthz", seconds=_LOOK_SECONDS)
    )
    if ready is None or health is None:
        return {"status": "away", "circuit_open": upstream.breaker.is_open}
    facts = {key: value for key, value in health[1].items() if key not in {"status", "service"}}
    return {"status": str(ready[1].get("status", "not ready")), "parts": ready[1].get("parts", {}), **facts}


@router.get("/metrics")
async def metrics(gateway: CurrentGateway) -> Response:
    """Give the figures for Prometheus."""
    for name, upstream in gateway.upstreams.items():
        CONNECTIONS.labels(name, "busy").set(upstream.pool.in_use)
        CONNECTIONS.labels(name, "idle").set(upstream.pool.idle)
        WAITING.labels(name).set(upstream.pool.waiting)
        CIRCUIT_OPEN.labels(name).set(upstream.breaker.is_open)
    REVOKED.set(len(gateway.revocations))
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json")
async def openapi(gateway: CurrentGateway) -> Response:
    """Describe the whole interface, as the services that run describe themselves."""
    described = await gateway.recently.get("description", lambda: _describe(gateway), seconds=_RECENT_SECONDS)
    return Response(described, media_type="application/json")


async def _describe(gateway: Gateway) -> bytes:
    names = list(gateway.upstreams)
    found = await asyncio.gather(
        *(look_at(gateway.upstreams[name], "/openapi.json", seconds=_DESCRIBE_SECONDS) for name in names)
    )
    documents: dict[str, Mapping[str, Any]] = {
        name: answer[1]
        for name, answer in zip(names, found, strict=True)
        if answer is not None and answer[0] == HTTPStatus.OK
    }
    return orjson.dumps(merge(documents, missing=[name for name in names if name not in documents]))
