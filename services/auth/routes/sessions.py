"""Signing in, refreshing, signing out, own sessions."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

from services.auth.commands import sign_in as signing_in
from services.auth.commands import tokens as commands
from services.auth.context import Context
from services.auth.domain.accounts import Account, normal_email
from services.auth.routes.door import ContextHere, SignedIn, given, make_router
from services.auth.schemas import Credentials, Done, RefreshToken, SessionList, SessionView, Tokens, User
from services.auth.store import accounts, sessions
from shared.errors import Invalid, Unavailable

router = make_router("sessions")


@router.post("/login")
async def login(body: Credentials, context: ContextHere) -> Tokens:
    """Sign in with address and password, and the code of the second factor where one is enrolled."""
    attempt = await _attempt(body, context)
    async with context.database.transaction() as conn:
        result = await signing_in.sign_in(conn, context.sealer, context.rules, attempt, now=context.clock())
    issued = given(result)
    if attempt.verdict.is_outdated:
        await _renew_hash(context, issued.account, body.password.get_secret_value())
    return Tokens.of(issued)


async def _attempt(body: Credentials, context: Context) -> signing_in.Attempt:
    """Find the account and let the slow hash judge, outside any transaction."""
    password = body.password.get_secret_value()
    email = _looked_up(body.email)
    async with context.database.connection() as conn:
        account = await accounts.find_account_by_email(conn, email)
    verdict = await context.hasher.verify(account.password_hash if account else None, password)
    return signing_in.Attempt(email, account, verdict, body.code)


async def _renew_hash(context: Context, account: Account, password: str) -> None:
    """Hash under today's parameters; only now, for the time of a second hash would tell a right guess in a pause."""
    with suppress(Unavailable):  # the next sign-in tries again
        password_hash = await context.hasher.hash(password)
        async with context.database.transaction() as conn:
            await signing_in.renew_hash(conn, account, password_hash)


def _looked_up(text: str) -> str:
    """Give the spelling to look up; what can be nobody's address is looked up all the same, for the same time."""
    try:
        return normal_email(text)
    except Invalid:
        return "nobody@invalid"


@router.post("/refresh")
async def refresh(body: RefreshToken, context: ContextHere) -> Tokens:
    """Trade a refresh token for the next one and a new access token."""
    async with context.database.transaction() as conn:
        result = await commands.refresh_session(
            conn, context.sealer, context.rules, body.refresh_token.get_secret_value(), now=context.clock()
        )
    return Tokens.of(given(result))


@router.post("/logout")
async def logout(caller: SignedIn, context: ContextHere) -> Done:
    """End this session."""
    async with context.database.transaction() as conn:
        await commands.end_own_session(conn, caller, UUID(caller.session_id), now=context.clock())
    return Done(message="You are signed out.")


@router.post("/logout-all")
async def logout_all(caller: SignedIn, context: ContextHere) -> Done:
    """End all own sessions, this one too."""
    async with context.database.transaction() as conn:
        await commands.end_every_own_session(conn, caller, now=context.clock())
    return Done(message="You are signed out everywhere.")


@router.get("/me")
async def me(caller: SignedIn, context: ContextHere) -> User:
    """Give the caller's own account."""
    async with context.database.connection() as conn:
        return User.of(await accounts.get_account(conn, caller.id))


@router.get("/sessions")
async def list_sessions(caller: SignedIn, context: ContextHere) -> SessionList:
    """Give the caller's sessions."""
    async with context.database.connection() as conn:
        found = await sessions.list_sessions(conn, caller.id)
    live = [session for session in found if session.is_live(context.clock(), context.rules.sessions)]
    return SessionList(items=[SessionView.of(session, caller.session_id) for session in live])


@router.delete("/sessions/{session_id}")
async def end_session(session_id: UUID, caller: SignedIn, context: ContextHere) -> Done:
    """End one of the caller's sessions."""
    async with context.database.transaction() as conn:
        await commands.end_own_session(conn, caller, session_id, now=context.clock())
    return Done(message="The session is over.")
