"""Nothing secret leaks: marked secrets go through every door, and then everything that auth writes is searched."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest

from local.processes import free_port
from services.auth.commands.emergency import Emergency, break_glass
from services.auth.consumers import deliver_reset_token, tell_owner
from services.auth.context import Context
from services.auth.mailer import MailUnavailable
from shared.events import PasswordChanged, PasswordResetRequested
from shared.telemetry import configure_logging
from tests.auth.conftest import Auth
from tests.auth.mail import delivery, letters_in, mail_server, token_in

ADMIN = "admin@example.com"
FIRST, SECOND, THIRD = (f"canary-{word} lantern quiver mosaic" for word in ("osprey", "heron", "kestrel"))
WRONG, WEAK = "canary-wrong-password-guess", "canary1"


async def everything_written(auth: Auth) -> str:
    """Give every row of every table and the metrics; what is stored as bytes in hex and as text."""
    texts = [(await auth.client.get("/metrics")).text, (await auth.client.get("/openapi.json")).text]
    async with auth.context.database.connection() as conn:
        tables = await conn.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> $1",
            "schema_migrations",
        )
        for table in tables:
            for row in await conn.fetch(f'SELECT * FROM "{table["tablename"]}"'):  # noqa: S608  names from the catalog
                texts += [repr(value) for value in row.values()]
                texts += [value.decode("utf-8", "replace") for value in row.values() if isinstance(value, bytes)]
    return "\n".join(texts)


async def sign_in_and_fail(auth: Auth) -> set[str]:
    """Guess, type secrets into wrong fields, sign in, refresh, be caught with a stolen refresh token."""
    await auth.login(ADMIN, WRONG)
    await auth.post("/login", {"email": WRONG, "password": WRONG})
    await auth.post("/login", {"email": ADMIN, "password": WRONG, "surprise": WRONG})
    await auth.post("/login", {"email": [WRONG], "password": {"a": WRONG}})
    first = await auth.signed_in(ADMIN, FIRST)
    second = (await auth.post("/refresh", {"refresh_token": first["refresh_token"]})).json()
    await auth.execute("UPDATE refresh_tokens SET spent_at = spent_at - interval '1 minute'")
    await auth.post("/refresh", {"refresh_token": first["refresh_token"]})
    return {tokens[name] for tokens in (first, second) for name in ("access_token", "refresh_token")}


async def change_and_enrol(auth: Auth) -> set[str]:
    """Change the password, enrol a second factor, use it wrongly and rightly."""
    access = await auth.token_of(ADMIN, FIRST)
    await auth.post("/change-password", {"current_password": WRONG, "new_password": SECOND}, access)
    await auth.post("/change-password", {"current_password": FIRST, "new_password": WEAK}, access)
    await auth.post("/change-password", {"current_password": FIRST, "new_password": SECOND}, access)
    seed = (await auth.post("/second-factor", {"password": SECOND}, access)).json()["secret"]
    code = {"code": pyotp.TOTP(seed).at(auth.clock())}
    recovery = (await auth.post("/second-factor/confirm", code, access)).json()["recovery_codes"]
    await auth.login(ADMIN, SECOND, code="canary-code")
    await auth.login(ADMIN, SECOND, code=recovery[0])
    await auth.call("GET", f"/users?cursor={WRONG}", token=access)
    return {access, seed, "canary-code", *recovery, *(code.replace("-", "") for code in recovery)}


async def reset_and_break_glass(auth: Auth, context: Context, letters: Path) -> set[str]:
    """Reset the password with bad and good tokens, then break the glass."""
    await auth.post("/request-password-reset", {"email": ADMIN})
    await deliver_reset_token(context, (await auth.events(PasswordResetRequested))[-1])
    reset = token_in(letters_in(letters)[-1])
    for token, password in ((reset[:-2], THIRD), (reset, WEAK), (reset, THIRD), (reset, THIRD)):
        await auth.post("/reset-password", {"token": token, "new_password": password})
    await tell_owner(context, PasswordChanged(user_id=await auth.id_of(ADMIN), how="reset"))
    async with auth.context.database.transaction() as conn:
        case = Emergency(ADMIN, "canary test", "root", "host", force=True)
        glass = await break_glass(conn, context.sealer, context.rules, case, now=auth.clock())
    return {reset, reset.rpartition(".")[2], str(glass)}


@contextmanager
def logging_everything() -> Iterator[None]:
    """Write every log line there is to standard output, as a process does."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging("auth", "test", "DEBUG")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


async def test_no_marked_secret_is_in_any_log_event_audit_record_metric_row_or_error(
    auth: Auth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port, letters = free_port(), tmp_path / "letters"
    context = replace(auth.context, mailer=delivery(port))
    await auth.add(ADMIN, "Admin", password=FIRST)
    secrets = {FIRST, SECOND, THIRD, WRONG, WEAK}
    with logging_everything(), mail_server(port, letters):
        secrets |= await sign_in_and_fail(auth)
        secrets |= await change_and_enrol(auth)
        secrets |= await reset_and_break_glass(auth, context, letters)
    later = PasswordResetRequested(email=ADMIN, requested_at=auth.clock())
    with logging_everything(), pytest.raises(MailUnavailable):
        await deliver_reset_token(context, later)
    written = await everything_written(auth)
    logs = capsys.readouterr().out
    errors = "\n".join(answer.text for answer in auth.answers if answer.status_code >= 400)
    assert "auth.sign_in" in written, "the events were looked at"
    assert "a reset request was served" in logs, "the log was looked at"
    assert "RESET_TOKEN_INVALID" in errors, "the errors were looked at"
    for where, text in {"log": logs, "database, event or metric": written, "error": errors}.items():
        assert [secret for secret in sorted(secrets) if secret in text] == [], where
        # Whatever token was made on the way, such as that of the letter that was not delivered.
        assert re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", text) == [], where
