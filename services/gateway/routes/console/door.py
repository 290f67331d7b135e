"""What every page of the console goes through: session, forms that are ours, roles, refusals as pages, headers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from services.gateway.domain.console.places import PLACES, first_place
from services.gateway.routes.console.forms import FORM, read_form
from services.gateway.routes.console.refusals import (
    ApiRefused,
    FormRefused,
    GoElsewhere,
    NotForThem,
    Reason,
    SignInNeeded,
)
from services.gateway.routes.console.rendering import POLICY
from services.gateway.routes.console.visitor import Visitor
from shared import telemetry
from shared.errors import Failure

log = logging.getLogger(__name__)

# A pasted list of 1,000 recipients or codes; every other form is far smaller.
_MOST_FORM_BYTES: Final = 1024 * 1024
_HEADERS: Final = {"content-security-policy": POLICY, "cache-control": "no-store"}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ConsoleRoute(APIRoute):
    """A route of the console."""

    def get_route_handler(self) -> Handler:
        """Surround the route with what all pages share."""
        handler = super().get_route_handler()

        async def serve(request: Request) -> Response:
            visitor = Visitor(request, request.state.console)
            request.state.visitor = visitor
            if _came_from_elsewhere(request):
                response = visitor.page("again.html", target=visitor.here)
            else:
                response = await _answer(handler, visitor)
                visitor.finish(response)
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return serve


def make_router() -> APIRouter:
    """Make a router of the console."""
    return APIRouter(include_in_schema=False, route_class=ConsoleRoute)


async def _answer(handler: Handler, visitor: Visitor) -> Response:
    try:
        if visitor.request.method not in {"GET", "HEAD"}:
            await _check_form(visitor)
        return await handler(visitor.request)
    except GoElsewhere as elsewhere:
        return visitor.go(elsewhere.path)
    except SignInNeeded as need:
        return _to_sign_in(visitor, need.reason)
    except (FormRefused, NotForThem, ApiRefused, RequestValidationError, Failure) as reason:
        return refuse(visitor, *_status_and_words(visitor, reason))
    except Exception:
        log.exception("a page failed in a way that nobody foresaw")
        return refuse(visitor, HTTPStatus.INTERNAL_SERVER_ERROR, visitor.say("error.failed"))


def _status_and_words(visitor: Visitor, reason: Exception) -> tuple[int, str]:
    match reason:
        case ApiRefused():
            return reason.status, explain(visitor, reason)
        case FormRefused():
            return reason.status, visitor.say(f"error.{reason.text}")
        case NotForThem():
            return HTTPStatus.FORBIDDEN, visitor.say("error.not_for_them")
        case RequestValidationError():
            return HTTPStatus.NOT_FOUND, visitor.say("error.not_found")
    return getattr(reason, "status", 500), visitor.say("error.failed")


async def _check_form(visitor: Visitor) -> None:
    """Take a form only from a page that this browser was given (OWASP: synchroniser token, and fetch metadata)."""
    request = visitor.request
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise FormRefused("form_foreign", HTTPStatus.FORBIDDEN)
    if request.headers.get("content-type", "").startswith(FORM):
        seconds = visitor.console.settings.body_seconds
        visitor.form = await read_form(request, most_bytes=_MOST_FORM_BYTES, seconds=seconds)
    given = request.headers.get("x-form-key") or visitor.form.get("form_key")
    if visitor.session.fits(given):
        return
    if not visitor.had_session:
        raise FormRefused("cookies_needed", HTTPStatus.FORBIDDEN)
    raise FormRefused("form_old", HTTPStatus.FORBIDDEN)


def _came_from_elsewhere(request: Request) -> bool:
    """Tell whether a link on another site or in a mail brought the browser here, so that it held its cookie back.

    SameSite=Strict does that. A page that asks for itself once more comes from our own site, with the cookie.
    """
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("sec-fetch-site") == "cross-site"
        and headers.get("sec-fetch-mode") == "navigate"
        and not request.cookies.keys() & {"__Host-console", "console"}
        and request.url.path != "/reset-password"  # needs no cookie, and its fragment must stay
    )


def _to_sign_in(visitor: Visitor, reason: Reason) -> Response:
    request = visitor.request
    # A form that was refused can't be sent again from an address; its page can be opened again.
    wanted = visitor.here if request.method == "GET" and not visitor.is_fragment else _page_behind(request)
    query = "" if wanted == "/" else f"&next={quote(wanted, safe='')}"
    if wanted == "/" and reason is Reason.NEEDED:
        return visitor.go("/sign-in")
    return visitor.go(f"/sign-in?reason={reason}{query}")


def _page_behind(request: Request) -> str:
    first = "/" + request.url.path.split("/")[1]
    return first if any(place.path == first for place in PLACES) else "/"


def explain(visitor: Visitor, refused: ApiRefused) -> str:
    """Say why the interface refused, and what to do, in the visitor's language where we know the reason by its code."""
    texts = visitor.console.texts
    if f"error_code.{refused.code}" in texts:
        return visitor.say(f"error_code.{refused.code}", seconds=refused.retry_after or "?")
    if refused.status == HTTPStatus.TOO_MANY_REQUESTS:
        return visitor.say("error.too_many", seconds=refused.retry_after or "60")
    if refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return visitor.say("error.away")
    if refused.fields:
        return " ".join(f"{item.get('field')}: {item.get('message')}" for item in refused.fields[:5])
    return refused.detail or visitor.say("error.failed")


def refuse(visitor: Visitor, status: int, message: str) -> Response:
    """Show a refusal: as a page, or to a script as what it puts into the page's place for messages."""
    request_id = telemetry.current().request_id
    if visitor.is_fragment:
        response = visitor.page("fragments/refusal.html", message=message, request_id=request_id)
        response.headers["hx-retarget"] = "#notice"
        response.headers["hx-reswap"] = "innerHTML show:window:top"
        return response
    acted = visitor.request.method not in {"GET", "HEAD"}
    # What an action belongs to is the page above it.
    back = visitor.request.url.path.rpartition("/")[0] if acted else ""
    return visitor.page(
        "refusal.html",
        status=status,
        message=message,
        acted=acted,
        parent=back or "/",
        code=int(status),
        request_id=request_id,
    )


def _visitor(request: Request) -> Visitor:
    visitor: Visitor = request.state.visitor
    return visitor


def _signed_in(request: Request) -> Visitor:
    visitor = _visitor(request)
    if visitor.person is None:
        raise SignInNeeded(Reason.EXPIRED if visitor.had_session and visitor.is_fragment else Reason.NEEDED)
    return visitor


def only_for(*roles: str) -> Any:
    """Make a dependency that lets only people with one of these roles in.

    It spares them pages that would fail; what they may do, the services decide at each call.
    """

    def check(request: Request) -> Visitor:
        visitor = _signed_in(request)
        if visitor.person and visitor.person.must_enrol:
            raise GoElsewhere("/account")
        if not (visitor.person and visitor.person.has_role(*roles)):
            raise NotForThem
        return visitor

    return Depends(check)


def start_of(visitor: Visitor) -> str:
    """Say where the person who is signed in begins."""
    if visitor.person is None:
        return "/sign-in"
    return "/account" if visitor.person.must_enrol else first_place(visitor.person)


Anybody = Annotated[Visitor, Depends(_visitor)]
SignedIn = Annotated[Visitor, Depends(_signed_in)]
Admin = Annotated[Visitor, only_for("Admin")]
SponsorOrAdmin = Annotated[Visitor, only_for("Sponsor", "Admin")]
AuditorOrAdmin = Annotated[Visitor, only_for("Auditor", "Admin")]
