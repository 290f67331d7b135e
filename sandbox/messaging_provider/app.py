"""The ASGI application: both providers' paths and the control paths; no framework, so that it is never the limit."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError

from sandbox.messaging_provider.faults import Fault, Faults, Knobs
from sandbox.messaging_provider.http import Receive, Request, Response, Scope, Send
from sandbox.messaging_provider.ledger import Ledger
from sandbox.messaging_provider.reports import Reports
from sandbox.messaging_provider.twilio import TwilioDoor
from sandbox.messaging_provider.verimor import VerimorDoor

TWILIO_PREFIX = "/2010-04-01/Accounts/"
LARGEST_PAGE = 200_000
Door = VerimorDoor | TwilioDoor


class MessagingProvider:
    """Verimor and Twilio at one address, with one ledger and one set of knobs."""

    def __init__(self, *, verimor_report_url: str | None = None) -> None:
        self._first_knobs = Knobs(verimor_report_url=verimor_report_url)
        self.reports = Reports()
        self._reset()

    def _reset(self) -> None:
        self.faults = Faults(self._first_knobs)
        self.ledger = Ledger()
        self.reports.forget()
        self._verimor = VerimorDoor(self.ledger, self.reports)
        self._twilio = TwilioDoor(self.ledger, self.reports)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        response = await self._answer(await Request.read(scope, receive))
        await response.write(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.reports.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.reports.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request) -> Response:
        method, path = request.method, request.path
        if method == "POST" and path == "/v2/send.json":
            return await self._send(self._verimor, request)
        if method == "GET" and path == "/v2/status":
            return await self._look_up(self._verimor, request)
        if path.startswith(TWILIO_PREFIX):
            if path.endswith("/Messages.json") and method in {"GET", "POST"}:
                return await (self._send if method == "POST" else self._look_up)(self._twilio, request)
            if "/Messages/" in path and method == "GET":
                return await self._look_up(self._twilio, request)
        if path.startswith("/_sandbox/"):
            return self._control(method, path.removeprefix("/_sandbox/"), request)
        return Response.text(200, "ok") if path == "/healthz" else Response.text(404, "Not Found")

    async def _send(self, door: Door, request: Request) -> Response:
        faults, ledger = self.faults, self.ledger
        fault = faults.draw()
        if fault in {Fault.TOO_MANY, Fault.SERVER_ERROR, Fault.DROP}:
            response = _failure(door, fault, faults.knobs)
        else:
            response = door.send(request, faults)
            if fault is not None and response.status < 300:  # noqa: PLR2004 - HTTP's border of success
                response = _failure(door, fault, faults.knobs)
        ledger.answers[f"{door.name} {'cut' if response.cut else response.status}"] += 1
        if faults.knobs.latency_seconds:
            await asyncio.sleep(faults.knobs.latency_seconds)
        return response

    async def _look_up(self, door: Door, request: Request) -> Response:
        self.ledger.answers[f"{door.name} look-up"] += 1
        if self.faults.happens(self.faults.knobs.look_up_error_rate):
            return door.server_error()
        if isinstance(door, VerimorDoor):
            return door.status(request, self.faults)
        if request.path.endswith("/Messages.json"):
            return door.list_messages(request, self.faults)
        return door.fetch(request, self.faults)

    def _control(self, method: str, name: str, request: Request) -> Response:
        if (method, name) == ("POST", "knobs"):
            return self._turn_knobs(request.body)
        if (method, name) == ("POST", "reset"):
            self._reset()
        shown: dict[str, Callable[[], Any]] = {
            "count": lambda: self.ledger.count() | {"reports_delivered": self.reports.delivered},
            "messages": lambda: self._list_messages(request.query),
            "phones": lambda: dict(self.ledger.phones),
            "knobs": lambda: self.faults.knobs.model_dump(mode="json"),
            "reset": self.ledger.count,
        }
        return Response.json(200, shown[name]()) if name in shown else Response.text(404, "Not Found")

    def _list_messages(self, query: dict[str, str]) -> dict[str, Any]:
        phone, provider = query.get("phone"), query.get("provider")
        after, limit = int(query.get("after", "0")), int(query.get("limit", str(LARGEST_PAGE)))
        chosen = [
            message.as_json()
            for message in (self.ledger.list_by_phone(phone) if phone else self.ledger.messages)
            if message.number > after and provider in {None, message.provider}
        ]
        return {"total": len(chosen), "messages": chosen[:limit]}

    def _turn_knobs(self, body: bytes) -> Response:
        try:
            knobs = Knobs.model_validate(self.faults.knobs.model_dump() | orjson.loads(body))
        except (ValidationError, ValueError, TypeError) as error:
            return Response.text(422, str(error))
        self.faults = Faults(knobs)
        return Response.json(200, knobs.model_dump(mode="json"))


def _failure(door: Door, fault: Fault, knobs: Knobs) -> Response:
    if fault is Fault.TOO_MANY:
        return door.too_many(knobs)
    if fault in {Fault.DROP, Fault.ACCEPT_THEN_DROP}:
        return door.drop()
    return door.server_error()
