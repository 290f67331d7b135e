"""Signing in and out, the forgotten password, language and colours."""

from __future__ import annotations

import base64
import binascii
import re
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, Literal

import orjson
from fastapi import Response

from services.gateway.domain.console.places import own_path
from services.gateway.domain.console.texts import Language
from services.gateway.routes.console.door import Anybody, explain, make_router, start_of
from services.gateway.routes.console.refusals import ApiRefused, Reason, SignInNeeded
from services.gateway.routes.console.visitor import Visitor
from shared.sealing import CannotOpen

router = make_router()

_AUTH: Final = "/api/v1/auth"
# Between the password and the code of the second factor.
_TICKET_SECONDS: Final = 300
_NUMBER: Final = re.compile(r"\d+")


@router.get("/sign-in")
async def show_sign_in(visitor: Anybody, next: str = "", reason: str = "") -> Response:  # noqa: A002 - as in addresses
    """Ask for address and password."""
    if visitor.person is not None and not reason:
        return visitor.go(own_path(next, start_of(visitor)))
    notice = visitor.say(f"sign_in.{reason}") if reason in set(Reason) and reason != Reason.NEEDED else None
    return visitor.page("sign_in.html", next=own_path(next, ""), notice=notice, email="", problem=None)


@router.post("/sign-in")
async def sign_in(visitor: Anybody) -> Response:
    """Sign in, and go on to where the person was or begins."""
    form = visitor.form
    email, wanted = form.get("email"), own_path(form.get("next"), "")
    return await _try(visitor, {"email": email, "password": form.exact("password")}, wanted)


@router.post("/sign-in/code")
async def sign_in_with_code(visitor: Anybody) -> Response:
    """Sign in with the code of the second factor; the password comes back sealed as it went."""
    form = visitor.form
    wanted = own_path(form.get("next"), "")
    proof = _open_ticket(visitor, form.get("ticket"))
    if proof is None:
        notice = visitor.say("sign_in.code_late")
        return visitor.page("sign_in.html", status=400, next=wanted, notice=notice, email="", problem=None)
    return await _try(visitor, proof | {"code": form.get("code").replace(" ", "")}, wanted)


@router.post("/sign-out")
async def sign_out(visitor: Anybody) -> Response:
    """End the session, here and at auth."""
    if visitor.person is not None:
        # Where it is over already, or auth is away, this browser forgets it all the same.
        with suppress(ApiRefused, SignInNeeded):
            await visitor.send("POST", f"{_AUTH}/logout")
    visitor.forget()
    return visitor.go(f"/sign-in?reason={Reason.SIGNED_OUT}")


@router.get("/forgotten-password")
async def show_forgotten_password(visitor: Anybody) -> Response:
    """Ask whose password is forgotten."""
    return visitor.page("forgotten_password.html", email="", problem=None, sent=False)


@router.post("/forgotten-password")
async def ask_for_reset(visitor: Anybody) -> Response:
    """Ask for a letter; the page says the same for every address."""
    email = visitor.form.get("email")
    try:
        await visitor.send_openly(f"{_AUTH}/request-password-reset", {"email": email})
    except ApiRefused as refused:
        problem = visitor.say("sign_in.email_malformed") if refused.fields else explain(visitor, refused)
        return visitor.page("forgotten_password.html", status=refused.status, email=email, problem=problem, sent=False)
    return visitor.page("forgotten_password.html", email=email, problem=None, sent=True)


@router.get("/reset-password")
async def show_reset(visitor: Anybody) -> Response:
    """Ask for the new password; the token comes in the address's fragment, which no server sees."""
    return visitor.page("reset_password.html", problems=[], token="", token_refused=False)


@router.post("/reset-password")
async def reset_password(visitor: Anybody) -> Response:
    """Set the new password; nobody is signed in by that."""
    token = visitor.form.get("token")
    body = {"token": token, "new_password": visitor.form.exact("password")}
    try:
        await visitor.send_openly(f"{_AUTH}/reset-password", body)
    except ApiRefused as refused:
        weak = refused.code == "PASSWORD_TOO_WEAK"
        return visitor.page(
            "reset_password.html",
            status=refused.status,
            problems=reasons_of(visitor, refused) if weak else [explain(visitor, refused)],
            token=token if weak else "",
            token_refused=refused.code == "RESET_TOKEN_INVALID",
        )
    visitor.forget()
    return visitor.go(f"/sign-in?reason={Reason.PASSWORD_SET}")


@router.post("/reset-password/cancel")
async def cancel_reset(visitor: Anybody) -> Response:
    """Make the link worthless, for an owner who did not ask for it; only a press does, which no mail scanner makes."""
    try:
        await visitor.send_openly(f"{_AUTH}/cancel-password-reset", {"token": visitor.form.get("token")})
    except ApiRefused as refused:
        return visitor.page(
            "reset_password.html",
            status=refused.status,
            problems=[explain(visitor, refused)],
            token="",
            token_refused=refused.code == "RESET_TOKEN_INVALID",
        )
    return visitor.go(f"/sign-in?reason={Reason.RESET_CANCELLED}")


@router.get("/language/{language}")
async def choose_language(visitor: Anybody, language: Language, back: str = "/") -> Response:
    """Go on in another language."""
    response = visitor.go(own_path(back, "/"))
    visitor.choose(response, "language", language)
    return response


@router.get("/theme/{theme}")
async def choose_theme(visitor: Anybody, theme: Literal["auto", "light", "dark"], back: str = "/") -> Response:
    """Go on in other colours."""
    response = visitor.go(own_path(back, "/"))
    visitor.choose(response, "theme", theme)
    return response


def reasons_of(visitor: Visitor, refused: ApiRefused) -> list[str]:
    """Say why a password is too weak; what number a rule has, only auth's own words tell."""
    known = visitor.console.texts
    reasons = []
    for item in refused.fields:
        key, words = f"password.{item.get('code')}", str(item.get("message"))
        found = _NUMBER.search(words)
        reasons.append(visitor.say(key, n=int(found[0]) if found else 0) if key in known else words)
    return reasons


async def _try(visitor: Visitor, credentials: dict[str, Any], wanted: str) -> Response:
    try:
        tokens = await visitor.send_openly(f"{_AUTH}/login", credentials)
    except ApiRefused as refused:
        if "code" in credentials and refused.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            # Too short or too long for a code: as wrong as any other, and no word about address and password.
            refused = ApiRefused(HTTPStatus.UNAUTHORIZED, "SECOND_FACTOR_INVALID", "")
        code_wanted = refused.code in {"SECOND_FACTOR_REQUIRED", "SECOND_FACTOR_INVALID"}
        problem = None if refused.code == "SECOND_FACTOR_REQUIRED" else _problem(visitor, refused)
        if code_wanted:
            ticket = _seal_ticket(visitor, credentials)
            status = HTTPStatus.OK if problem is None else HTTPStatus.UNAUTHORIZED
            return visitor.page("sign_in_code.html", status=status, ticket=ticket, next=wanted, problem=problem)
        return visitor.page(
            "sign_in.html", status=refused.status, next=wanted, notice=None, email=credentials["email"], problem=problem
        )
    visitor.remember(tokens)
    return visitor.go(own_path(wanted, start_of(visitor)))


def _problem(visitor: Visitor, refused: ApiRefused) -> str:
    if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return visitor.say("sign_in.incomplete")
    return explain(visitor, refused)


def _seal_ticket(visitor: Visitor, credentials: dict[str, Any]) -> str:
    content = orjson.dumps([time.time(), credentials["email"], credentials["password"]])
    sealed = visitor.console.sealer.seal(content, bound_to=f"sign-in {visitor.session.form_key}")
    return base64.urlsafe_b64encode(sealed).decode()


def _open_ticket(visitor: Visitor, ticket: str) -> dict[str, Any] | None:
    try:
        sealed = base64.urlsafe_b64decode(ticket)
        made_at, email, password = orjson.loads(
            visitor.console.sealer.open(sealed, bound_to=f"sign-in {visitor.session.form_key}")
        )
    except (CannotOpen, binascii.Error, ValueError):
        return None
    return {"email": email, "password": password} if time.time() - made_at < _TICKET_SECONDS else None
