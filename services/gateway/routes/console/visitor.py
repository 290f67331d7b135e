"""One request of a browser: who it is, in which language, what it may call in this person's name, and its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from services.gateway.context import Console
from services.gateway.domain.console.places import PLACES, menu_of
from services.gateway.domain.console.sessions import Person, Session, cookie_names, open_sealed, seal
from services.gateway.domain.console.texts import LANGUAGES, Language
from services.gateway.own_door import Answer, AnswerBroken, Call, Receive
from services.gateway.routes.console.forms import Form, number_or_text
from services.gateway.routes.console.refusals import ApiRefused, Reason, SignInNeeded
from services.gateway.routes.console.rendering import render
from shared import telemetry

# An access token that ends while a call is on its way would cost a second try.
_RENEW_BEFORE_SECONDS: Final = 15.0
_AUTH: Final = "/api/v1/auth"
_A_YEAR: Final = 365 * 24 * 3_600
# Not every 401 is about the token: a wrong code of a second factor is none.
_TOKEN_REFUSED: Final = frozenset(
    {"TOKEN_INVALID", "TOKEN_MISSING", "SESSION_REVOKED", "SESSION_ENDED", "UNAUTHENTICATED"}
)
THEMES: Final = ("auto", "light", "dark")
Query = Mapping[str, Any]


class Visitor:
    """A browser at the console."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.console = console
        names = cookie_names(secure=console.settings.cookies_secure)
        self._pieces = [request.cookies[name] for name in names if name in request.cookies]
        # The first piece alone, where those behind it are left over from a longer session that it took the place of.
        found = open_sealed(self._pieces, console.sealer) or open_sealed(self._pieces[:1], console.sealer)
        self.had_session = bool(self._pieces)
        self.session = found or Session.fresh()
        self._saved: Session | None = found
        self.language: Language = _chosen(request.cookies.get("language"), LANGUAGES, "tr")
        self.theme = _chosen(request.cookies.get("theme"), THEMES, "auto")
        self.form = Form()
        self._renewing = asyncio.Lock()

    # --- who it is

    @property
    def person(self) -> Person | None:
        """Who is signed in with this browser."""
        return self.session.person

    @property
    def is_fragment(self) -> bool:
        """Whether a script asks for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def here(self) -> str:
        """The address of this page, to come back to."""
        query = self.request.url.query
        return self.request.url.path + (f"?{query}" if query else "")

    # --- what it calls

    async def get(self, path: str, **query: Any) -> Any:
        """Read something of the interface in this person's name; raises ApiRefused, SignInNeeded."""
        return _content(await self._ask("GET", path, query))

    async def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, query: Query | None = None
    ) -> Any:
        """Change something in this person's name; `key` makes a repeated call one. Raises ApiRefused, SignInNeeded."""
        content = b"" if body is None else orjson.dumps(body)
        headers = {"content-type": "application/json"} if content else {}
        if key:
            headers["idempotency-key"] = key
        return _content(await self._ask(method, path, query or {}, headers, content))

    async def send_openly(self, path: str, body: Any) -> Any:
        """Send what needs no session, so that one that is over stops nobody; raises ApiRefused."""
        call = self._call("POST", path, {}, {"content-type": "application/json"})
        return _content(_good(await self._put(call, orjson.dumps(body))))

    async def pass_on(self, path: str, query: Query, receive: Receive, *, key: str | None = None) -> Any:
        """Send the body of this request on as it comes, a file; raises ApiRefused, SignInNeeded."""
        names = ("content-type", "content-length")
        headers = {name: self.request.headers[name] for name in names if name in self.request.headers}
        if "content-length" not in headers:
            headers["transfer-encoding"] = "chunked"
        if key:
            headers["idempotency-key"] = key
        await self._renew_if_needed()
        call = self._call("POST", path, query, headers)
        return _content(_good(await self._put(call, receive=receive)))

    @asynccontextmanager
    async def stream(self, path: str, **query: Any) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Read something long piece by piece; raises ApiRefused, SignInNeeded."""
        await self._renew_if_needed()
        async with self.console.own_door.stream(self._call("GET", path, query)) as (answer, pieces):
            if answer.status >= HTTPStatus.BAD_REQUEST:
                answer.body = b"".join([piece async for piece in pieces])
            yield _good(answer), pieces

    async def _ask(
        self, method: str, path: str, query: Query, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        await self._renew_if_needed()
        token = self.session.access_token
        answer = await self._put(self._call(method, path, query, headers or {}), body)
        if answer.status == HTTPStatus.UNAUTHORIZED and token and ApiRefused.of(answer).code in _TOKEN_REFUSED:
            # Roles or grants may have changed: a new token says how it is now, or that the session is over.
            await self._renew(token)
            answer = await self._put(self._call(method, path, query, headers or {}), body)
        return _good(answer)

    async def _put(self, call: Call, body: bytes = b"", *, receive: Receive | None = None) -> Answer:
        """Put a question; whoever breaks off an answer is away, as whoever gives none."""
        try:
            return await self.console.own_door.ask(call, body, receive=receive)
        except AnswerBroken as broken:
            raise ApiRefused(broken.status, broken.code, broken.message) from None

    def _call(self, method: str, path: str, query: Query, headers: Mapping[str, str] | None = None) -> Call:
        given = {name: value for name, value in query.items() if value not in (None, "")}
        trace = telemetry.current()
        sent = {"x-request-id": trace.request_id, "accept": "application/json", **(headers or {})}
        if trace.user_agent:
            sent["user-agent"] = trace.user_agent
        if trace.traceparent:
            sent["traceparent"] = trace.traceparent
        if self.session.access_token:
            sent["authorization"] = f"Bearer {self.session.access_token}"
        client = self.request.client
        return Call(
            method=method,
            path=path,
            query=urlencode(given, doseq=True).encode(),
            headers=tuple((name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()),
            address=client.host if client else "",
            scheme=self.request.url.scheme,
        )

    async def _renew_if_needed(self) -> None:
        if self.session.refresh_token and self.session.expires_at - time.time() < _RENEW_BEFORE_SECONDS:
            await self._renew(self.session.access_token)

    async def renew(self) -> None:
        """Get a token that says how it is now."""
        await self._renew(self.session.access_token)

    async def _renew(self, token: str) -> None:
        """Trade the refresh token; auth gives all who do so at once, on whatever replica, the same successor."""
        async with self._renewing:
            if self.session.access_token != token:
                return
            try:
                tokens = await self.send_openly(f"{_AUTH}/refresh", {"refresh_token": self.session.refresh_token})
            except ApiRefused as refused:
                if refused.status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.UNPROCESSABLE_ENTITY}:
                    raise
                self.forget()
                raise SignInNeeded(Reason.EXPIRED) from None
            self.session = self.session.refreshed(tokens, time.time())

    def forget(self) -> None:
        """Forget who was signed in."""
        self.session = Session.fresh()

    def remember(self, tokens: Mapping[str, Any]) -> None:
        """Remember who signed in."""
        self.session = self.session.signed_in(tokens, time.time())

    # --- what it gets

    def say(self, key: str, **values: Any) -> str:
        """Give a text in the visitor's language."""
        return self.console.texts.say(self.language, key, **values)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Make a page or a part of one."""
        return HTMLResponse(self.part(template, **values), status_code=status)

    def part(self, template: str, **values: Any) -> str:
        """Make the text of a page or a part of one."""
        return render(self.console.texts, self.language, template, self._surroundings() | values)

    def go(self, path: str, *, done: str | None = None, **values: object) -> Response:
        """Send the browser on; `done` names the text of `done.*` that the next page shows."""
        query = urlencode({"done": done, **values}) if done else ""
        target = f"{path}{'&' if '?' in path else '?'}{query}" if query else path
        if self.is_fragment:
            return Response(headers={"hx-redirect": target})
        return RedirectResponse(target, status_code=HTTPStatus.SEE_OTHER)

    def _surroundings(self) -> dict[str, Any]:
        query = self.request.query_params
        done = f"done.{query['done']}" if f"done.{query.get('done')}" in self.console.texts else None
        count = number_or_text(query.get("n", "0"))
        first = "/" + self.request.url.path.split("/")[1]
        return {
            "person": self.person,
            "menu": menu_of(self.person) if self.person else [],
            "place": next((place.name for place in PLACES if place.path == first), ""),
            "done": self.say(done, n=count if isinstance(count, int) else 0) if done else None,
            "form_key": self.session.form_key,
            "language": self.language,
            "theme": self.theme,
            "back": quote(self.here),
        }

    def finish(self, response: Response) -> Response:
        """Put the session into the answer, where it changed."""
        if self.session == self._saved:
            return response
        names = cookie_names(secure=self.console.settings.cookies_secure)
        values = seal(self.session, self.console.sealer)
        for number, name in enumerate(names):
            if number < len(values):
                self._keep(response, name, values[number], same_site="strict")
            elif name in self.request.cookies:
                response.delete_cookie(name, secure=self.console.settings.cookies_secure, httponly=True)
        return response

    def choose(self, response: Response, name: str, value: str) -> None:
        """Keep what the visitor chose for all later visits."""
        self._keep(response, name, value, same_site="lax", max_age=_A_YEAR)

    def _keep(self, response: Response, name: str, value: str, *, same_site: Any, max_age: int | None = None) -> None:
        secure = self.console.settings.cookies_secure
        response.set_cookie(name, value, max_age=max_age, httponly=True, secure=secure, samesite=same_site)


def _good(answer: Answer) -> Answer:
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise ApiRefused.of(answer)
    return answer


def _content(answer: Answer) -> Any:
    return orjson.loads(answer.body) if answer.body else None


def _chosen(value: str | None, allowed: tuple[Any, ...], otherwise: Any) -> Any:
    return value if value in allowed else otherwise
