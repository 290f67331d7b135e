"""Many at once: what must happen once happens once, and nobody honest is hurt. Real transactions on a real Postgres."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import httpx
import pyotp
import pytest

from services.auth import routes
from services.auth.commands import accounts
from services.auth.domain.errors import LastAdmin, SessionEnded
from services.auth.domain.hashing import HashCost, PasswordHasher
from shared.db import Connection
from shared.events import UserChanged
from shared.identity import Principal
from tests.auth.conftest import CONNECTIONS, OTHER_PASSWORD, PASSWORD, Auth
from tests.support.eventually import eventually

ADMIN = "admin@example.com"


@pytest.fixture(autouse=True)
async def open_connections(auth: Auth) -> None:
    """Open every connection of the pool before: while they are being opened, the first callers are done already."""
    async with AsyncExitStack() as held:
        for _ in range(CONNECTIONS):
            await held.enter_async_context(auth.context.database.connection())


def codes(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def test_fifty_uses_of_one_reset_token_are_one(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    answers = await asyncio.gather(
        *(
            auth.post("/reset-password", {"token": token, "new_password": f"{OTHER_PASSWORD} {number:02}"})
            for number in range(50)
        )
    )
    assert codes(answers) == {200: 1, 400: 49}
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    assert (await auth.login(ADMIN, f"{OTHER_PASSWORD} {winner:02}")).status_code == 200
    assert len(await auth.audit("auth.password_reset.completed")) == 1
    assert len(await auth.audit("auth.password_reset.failed")) == 49


async def test_twenty_parallel_refreshes_are_one_session_with_one_line_of_tokens(auth: Auth) -> None:
    """Several rounds: in the first, most connections still prepare their statements while one is through already."""
    auth.clock.hold()  # within the grace, however long it takes
    await auth.add(ADMIN, "Admin")
    refresh_token = (await auth.signed_in(ADMIN))["refresh_token"]
    for _ in range(3):
        answers = await asyncio.gather(
            *(auth.post("/refresh", {"refresh_token": refresh_token}) for _ in range(CONNECTIONS))
        )
        assert codes(answers) == {200: CONNECTIONS}
        following = {answer.json()["refresh_token"] for answer in answers}
        assert len(following) == 1, "no fork"
        refresh_token = following.pop()
    sessions = await auth.call("GET", "/sessions", token=answers[0].json()["access_token"])
    assert len(sessions.json()["items"]) == 1
    assert await auth.audit("auth.refresh.reused") == []


async def test_two_hundred_parallel_guesses_get_ten_answers(auth: Auth) -> None:
    """The right password is among the guesses, and after the limit even that is not told."""
    auth.clock.hold()  # within the pause, however long it takes
    await auth.add(ADMIN, "Admin")
    wrong = await asyncio.gather(*(auth.login(ADMIN, f"guess {number}") for number in range(200)))
    assert codes(wrong) == {401: 200}
    right = await asyncio.gather(*(auth.login(ADMIN) for _ in range(20)))
    assert codes(right) == {401: 20}
    outcomes = Counter(event.outcome for event in await auth.audit("auth.sign_in"))
    assert outcomes == {"failure": 10, "denied": 210}


async def test_fifty_honest_parallel_sign_ins_are_not_throttled(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    answers = await asyncio.gather(*(auth.login(ADMIN) for _ in range(50)))
    assert codes(answers) == {200: 50}


async def test_no_session_survives_a_reset_that_a_sign_in_with_the_old_password_raced(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    stop, some_came_first = asyncio.Event(), asyncio.Event()
    tokens: list[str] = []

    async def keep_signing_in() -> None:
        while not stop.is_set():
            answer = await auth.login(ADMIN)
            if answer.status_code == 200:
                tokens.append(answer.json()["access_token"])
                some_came_first.set()

    async def reset() -> httpx.Response:
        await some_came_first.wait()
        answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
        await asyncio.sleep(0.3)
        stop.set()
        return answer

    others = asyncio.gather(*(keep_signing_in() for _ in range(6)))
    assert (await reset()).status_code == 200
    await others
    assert tokens, "some sign-ins came before the reset"
    answers = [await auth.call("GET", "/me", token=token) for token in tokens]
    assert codes(answers) == {401: len(tokens)}


async def test_a_sign_in_whose_hash_was_computed_before_the_reset_ends_after_it_without_a_session(auth: Auth) -> None:
    """The same race, held open: the slow hash says yes, then the reset commits, then the sign-in goes on."""
    await auth.add(ADMIN, "Admin")
    token = await auth.reset_token(ADMIN)
    hashed, go_on = asyncio.Event(), asyncio.Event()
    quick = auth.context.hasher

    class Held(PasswordHasher):
        async def verify(self, stored: str | None, password: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            verdict = await quick.verify(stored, password)
            if password == PASSWORD:
                hashed.set()
                await go_on.wait()
            return verdict

    slow = Held(HashCost(memory_kib=64, passes=1))
    object.__setattr__(auth.context, "hasher", slow)
    signing_in = asyncio.create_task(auth.login(ADMIN))
    await hashed.wait()
    assert (await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})).status_code == 200
    go_on.set()
    assert (await signing_in).status_code == 401
    assert (await auth.audit("auth.sign_in"))[-1].reason == "credentials changed"
    slow.close()


async def test_two_admins_who_demote_each_other_leave_one(auth: Auth) -> None:
    """Held open: the second decides only after the first has committed."""
    first, second = [await auth.add(f"admin{number}@example.com", "Admin") for number in range(2)]
    async with auth.context.database.transaction() as conn:
        await demote(auth, conn, first, second)
        other = asyncio.create_task(in_a_transaction(auth, second, first))
        await eventually(lambda: is_somebody_held_up(auth), what="the second, waiting for the first")
    with pytest.raises(LastAdmin):
        await other
    assert (await auth.row(first))["roles"] == ["Admin"]


async def test_an_admin_who_was_disabled_a_moment_ago_changes_nobody_any_more(auth: Auth) -> None:
    """The same with a third admin, who keeps the last-admin rule out of it."""
    first, second, _ = [await auth.add(f"admin{number}@example.com", "Admin") for number in range(3)]
    async with auth.context.database.transaction() as conn:
        await demote(auth, conn, first, second)
        other = asyncio.create_task(in_a_transaction(auth, second, first))
        await eventually(lambda: is_somebody_held_up(auth), what="the second, waiting for the first")
    with pytest.raises(SessionEnded):
        await other
    assert (await auth.row(first))["roles"] == ["Admin"]


async def test_neither_makes_users_nor_gives_grants_nor_confirms_nor_ends_sessions(auth: Auth) -> None:
    """Whoever was let in at the door and lost the role before the command ran."""
    gone = await auth.add("gone@example.com", "Admin", acts_for_all=True, is_active=False)
    other = await auth.add(ADMIN, "Admin", acts_for_all=True)
    caller, now = a_principal(gone), auth.clock()
    attempts: list[Callable[[Connection], Awaitable[object]]] = [
        lambda conn: accounts.create_user(conn, caller, email="x@example.com", full_name="X", roles=[], now=now),
        lambda conn: accounts.change_grants(conn, caller, other, frozenset(), now=now),
        lambda conn: accounts.confirm_admin(conn, caller, other, now=now),
        lambda conn: accounts.end_user_sessions(conn, caller, other, now=now),
        lambda conn: accounts.remove_lost_factor(conn, caller, other, now=now),
    ]
    for attempt in attempts:
        with pytest.raises(SessionEnded):
            async with auth.context.database.transaction() as conn:
                await attempt(conn)


async def demote(auth: Auth, conn: Connection, by: int, whom: int) -> None:
    await accounts.change_user(
        conn, a_principal(by), whom, full_name=None, roles=["Auditor"], is_active=None, now=auth.clock()
    )


async def in_a_transaction(auth: Auth, by: int, whom: int) -> None:
    async with auth.context.database.transaction() as conn:
        await demote(auth, conn, by, whom)


async def is_somebody_held_up(auth: Auth) -> bool:
    """Say whether a transaction waits for the lock of another one."""
    async with auth.context.database.connection() as conn:
        waiting = await conn.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    return bool(waiting)


def a_principal(account_id: int) -> Principal:
    return Principal(
        id=account_id,
        roles=frozenset({"Admin"}),
        permissions=frozenset(),
        on_behalf_of=frozenset(),
        session_id=str(uuid4()),
        token_id="token",
        issued_at=0,
        expires_at=0,
    )


async def test_one_code_of_the_authenticator_signs_in_once(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    token = await auth.token_of(ADMIN)
    seed = (await auth.post("/second-factor", {"password": PASSWORD}, token)).json()["secret"]
    totp = pyotp.TOTP(seed)
    confirmed = await auth.post("/second-factor/confirm", {"code": totp.at(auth.clock())}, token)
    assert confirmed.status_code == 200, confirmed.text
    auth.clock.move(seconds=60)
    code = totp.at(auth.clock())
    answers = await asyncio.gather(*(auth.login(ADMIN, code=code) for _ in range(20)))
    assert codes(answers)[200] == 1


async def test_the_first_key_is_made_once(auth: Auth) -> None:
    answers = await asyncio.gather(*(auth.client.get("/.well-known/jwks.json") for _ in range(20)))
    assert len({answer.text for answer in answers}) == 1
    assert len(answers[0].json()["keys"]) == 1


async def test_versions_of_an_account_follow_the_order_of_its_events(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    account_id = await auth.add("player@example.com", "Player")
    token = await auth.token_of(ADMIN)
    await asyncio.gather(
        *(auth.call("PATCH", f"/users/{account_id}", {"full_name": f"Name {n}"}, token) for n in range(20))
    )
    assert [event.version for event in await auth.events(UserChanged)] == list(range(2, 22))


def test_no_route_raises_a_refusal_inside_the_transaction_that_keeps_its_evidence() -> None:
    """`given(...)` raises; inside the block it would roll back the counted guess and the audit event."""
    for file in Path(next(iter(routes.__path__))).glob("*.py"):
        for block in ast.walk(ast.parse(file.read_text())):
            if not isinstance(block, ast.AsyncWith) or "transaction" not in ast.unparse(block.items[0]):
                continue
            calls = [node for node in ast.walk(block) if isinstance(node, ast.Call)]
            assert not [call for call in calls if ast.unparse(call.func) == "given"], f"{file.name}:{block.lineno}"
