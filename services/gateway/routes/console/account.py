"""The own account: password, second factor, sessions."""

from __future__ import annotations

from typing import Any, Final

import segno
from fastapi import Response
from markupsafe import Markup

from services.gateway.domain.console.places import id_in_path
from services.gateway.routes.console.door import SignedIn, explain, make_router
from services.gateway.routes.console.refusals import ApiRefused, SignInNeeded
from services.gateway.routes.console.signing_in import reasons_of
from services.gateway.routes.console.visitor import Visitor

router = make_router()

_AUTH: Final = "/api/v1/auth"
_FACTOR: Final = f"{_AUTH}/second-factor"
_LONGEST_URI: Final = 1_024  # three times what one with the longest address has; a picture holds some more


@router.get("/account")
async def show_account(visitor: SignedIn) -> Response:
    """Show who one is, the second factor and the devices that are signed in."""
    return await _account(visitor)


@router.post("/account/password")
async def change_password(visitor: SignedIn) -> Response:
    """Change the password; the other sessions end."""
    form = visitor.form
    body = {"current_password": form.exact("current"), "new_password": form.exact("password")}
    try:
        await visitor.send("POST", f"{_AUTH}/change-password", body)
    except ApiRefused as refused:
        return await _account(visitor, refused, about="password")
    return visitor.go("/account", done="password_changed")


@router.post("/account/second-factor")
async def enrol_second_factor(visitor: SignedIn) -> Response:
    """Begin with an authenticator app: show its secret as a picture and as text, this once."""
    try:
        enrolment = await visitor.send("POST", _FACTOR, {"password": visitor.form.exact("password")})
    except ApiRefused as refused:
        return await _account(visitor, refused, about="second_factor")
    return _show_secret(visitor, enrolment["secret"], enrolment["provisioning_uri"])


@router.post("/account/second-factor/confirm")
async def confirm_second_factor(visitor: SignedIn) -> Response:
    """Confirm the app with its first code, and show the recovery codes, this once."""
    form = visitor.form
    try:
        found = await visitor.send("POST", f"{_FACTOR}/confirm", {"code": form.get("code").replace(" ", "")})
    except ApiRefused as refused:
        if len(form.get("uri")) > _LONGEST_URI:  # which is not how the page sent it
            return await _account(visitor, refused, about="second_factor")
        return _show_secret(visitor, form.get("secret"), form.get("uri"), refused)
    session = visitor.session
    try:
        await visitor.renew()  # until now the token of somebody who must enrol opened nothing else
    except (ApiRefused, SignInNeeded):
        visitor.session = session  # the next page finds out; these codes can't be shown a second time
    return visitor.page("recovery_codes.html", codes=found["recovery_codes"])


@router.post("/account/second-factor/recovery-codes")
async def renew_recovery_codes(visitor: SignedIn) -> Response:
    """Replace the recovery codes, and show them, this once."""
    try:
        found = await visitor.send("POST", f"{_FACTOR}/recovery-codes", _both(visitor))
    except ApiRefused as refused:
        return await _account(visitor, refused, about="second_factor")
    return visitor.page("recovery_codes.html", codes=found["recovery_codes"])


@router.post("/account/second-factor/remove")
async def remove_second_factor(visitor: SignedIn) -> Response:
    """Remove the second factor."""
    try:
        await visitor.send("POST", f"{_FACTOR}/remove", _both(visitor))
    except ApiRefused as refused:
        return await _account(visitor, refused, about="second_factor")
    return visitor.go("/account", done="factor_removed")


@router.post("/account/sessions/{session_id}/end")
async def end_session(visitor: SignedIn, session_id: str) -> Response:
    """End one of the own sessions."""
    await visitor.send("DELETE", f"{_AUTH}/sessions/{id_in_path(session_id)}")
    return visitor.go("/account", done="session_ended")


@router.post("/account/sessions/end-all")
async def end_all_sessions(visitor: SignedIn) -> Response:
    """End every own session, this one too."""
    await visitor.send("POST", f"{_AUTH}/logout-all")
    visitor.forget()
    return visitor.go("/sign-in?reason=signed_out")


async def _account(visitor: Visitor, refused: ApiRefused | None = None, *, about: str = "") -> Response:
    me = await visitor.get(f"{_AUTH}/me")
    sessions = await visitor.get(f"{_AUTH}/sessions")
    problems: list[str] = []
    if refused:
        weak = refused.code == "PASSWORD_TOO_WEAK"
        problems = reasons_of(visitor, refused) if weak else [explain(visitor, refused)]
    return visitor.page(
        "account.html",
        status=refused.status if refused else 200,
        me=me,
        sessions=sessions["items"],
        problems={about: problems},
    )


def _show_secret(visitor: Visitor, secret: str, uri: str, refused: ApiRefused | None = None) -> Response:
    picture = segno.make(uri, micro=False).svg_inline(scale=5, border=2, omitsize=True, svgclass="qr")
    return visitor.page(
        "second_factor.html",
        status=refused.status if refused else 200,
        secret=secret,
        uri=uri,
        picture=Markup(picture),  # noqa: S704 - the library writes figures only
        problem=explain(visitor, refused) if refused else None,
    )


def _both(visitor: Visitor) -> dict[str, Any]:
    return {"password": visitor.form.exact("password"), "code": visitor.form.get("code").replace(" ", "")}
