"""`python -m services.referrals`: the roles api, worker and migrate, and what operators do at Partner Center."""

from __future__ import annotations

import asyncio
import logging
import platform
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer
import uvloop
from rich.console import Console

from services.referrals.app import create_app
from services.referrals.commands import connection, sign_in
from services.referrals.commands import sync as sync_commands
from services.referrals.context import Context, make_context
from services.referrals.domain.failures import SignInRequired, TokenCacheInvalid
from services.referrals.domain.sign_ins import Condition, SignInState
from services.referrals.domain.syncs import Sync, SyncState
from services.referrals.settings import ReferralsSettings
from services.referrals.store import connections as connection_store
from services.referrals.store import sign_ins as sign_in_store
from services.referrals.store import syncs as sync_store
from services.referrals.worker import run_worker
from shared import dead_letters, telemetry, web
from shared.errors import Failure
from shared.events.audit import Actor
from shared.migrate import migrate_step

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_POLL_SECONDS: Final = 0.5
_OPERATOR: Final = Actor(kind="operator")
_STDIN: Final = Path("-")


def _amqp_url() -> str:
    return ReferralsSettings.load().amqp_url.get_secret_value()


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Partner Center: sign-in and referral sync.")
app.add_typer(dead_letters.commands("referrals", _amqp_url), name="dead")


@app.command()
def api() -> None:
    """Serve HTTP."""
    settings = ReferralsSettings.load()
    telemetry.configure_logging("referrals", "api", settings.log_level)
    uvloop.run(web.serve(create_app(settings), settings))


@app.command()
def worker() -> None:
    """Sync, poll sign-ins, keep the connection alive."""
    settings = ReferralsSettings.load()
    telemetry.configure_logging("referrals", "worker", settings.log_level)
    uvloop.run(run_worker(settings))


@app.command()
def migrate() -> None:
    """Bring the schema up to date; needs OWNER_DATABASE_URL."""
    typer.echo(migrate_step("referrals", MIGRATIONS))


@app.command("sign-in")
def sign_in_command() -> None:
    """Sign in at Partner Center: shows the address and the code, and waits until somebody has used it."""
    _run(_sign_in)


@app.command("connection")
def connection_command() -> None:
    """Show the stored sign-in: account, tenant, condition, when it expires."""
    _run(_show_connection)


@app.command()
def sync(
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Ask for every referral, not only for what has changed.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the sync has ended.")] = False,
) -> None:
    """Ask for a sync; a worker carries it out."""
    _run(lambda context: _sync(context, full=full, wait=wait))


@app.command()
def reset() -> None:
    """Forget the stored sign-in; the next sync needs a new one."""

    async def work(context: Context) -> None:
        async with context.database.transaction() as conn:
            existed = await connection.reset_connection(conn, asked_by=_OPERATOR)
        typer.echo("The stored sign-in is forgotten." if existed else "There was no stored sign-in.")

    _run(work)


@app.command("rotate-key")
def rotate_key() -> None:
    """Seal the stored sign-in with the first of HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS."""

    async def work(context: Context) -> None:
        is_changed = await connection.rotate_key(context.access, asked_by=_OPERATOR)
        typer.echo("The stored sign-in is sealed with the first key now." if is_changed else "Nothing to do.")

    _run(work)


@app.command("import-cache")
def import_cache(file: Annotated[Path, typer.Argument()]) -> None:
    """Take over the plain `.token_cache` file of the older tool (`-`: standard input); delete the file afterwards."""

    async def work(context: Context) -> None:
        account = await connection.import_cache(context.access, _text_of(file), asked_by=_OPERATOR)
        typer.echo(f"Account cached: {account.username}")
        typer.echo(f"Now delete {'the file' if file == _STDIN else file}: it is readable to whoever finds it.")

    _run(work)


def _text_of(file: Path) -> str:
    try:
        return (sys.stdin.buffer.read() if file == _STDIN else file.read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenCacheInvalid(f"{file} cannot be read as text: {error}") from error


async def _sign_in(context: Context) -> None:
    begun = await sign_in.begin_sign_in(context.access, asked_by=_OPERATOR)
    code = typer.style(begun.code.user_code, bold=True)
    typer.echo(f"Open {begun.code.verification_uri} and enter the code {code}")
    with Console().status("Waiting for the sign-in") as progress:
        while True:
            await sign_in.poll_due_sign_ins(context.access)
            async with context.database.connection() as conn:
                found = await sign_in_store.get_sign_in(conn, begun.sign_in_id)
            if found.state is not SignInState.PENDING:
                break
            left = (found.expires_at - datetime.now(UTC)).total_seconds()
            progress.update(f"Waiting for the sign-in; the code is good for {max(0, left):.0f} s")
            await asyncio.sleep(_POLL_SECONDS)
    if found.state is not SignInState.SUCCEEDED:
        raise Failure(found.error)
    await _show_connection(context)


async def _show_connection(context: Context) -> None:
    async with context.database.connection() as conn:
        stored = await connection_store.find_connection(conn)
    if stored is None:
        raise SignInRequired
    connection.usable_cache(context.access, stored)
    typer.echo(f"Account cached: {stored.account.username}")
    typer.echo(f"Tenant: {stored.account.tenant_id}")
    typer.echo(f"Token expires: {stored.token_expires_at:%Y-%m-%d %H:%M:%S} UTC (renewed by itself)")
    now = datetime.now(UTC)
    condition, complaint = stored.condition(now), stored.complaint(now)
    typer.echo(f"Sign-in: {condition}, expires about {stored.expires_at:%Y-%m-%d} if it is not used")
    if condition is Condition.SIGN_IN_REQUIRED:
        raise Failure(complaint)
    if complaint:
        typer.echo(complaint)


async def _sync(context: Context, *, full: bool, wait: bool) -> None:
    async with context.database.transaction() as conn:
        task, is_new = await sync_commands.request_sync(
            conn, context.rules, mode="full" if full else "incremental", asked_by=_OPERATOR
        )
    typer.echo(f"Referral sync task {'enqueued' if is_new else 'is under way already'}: {task.task_id}")
    if wait:
        _tell(await _until_ended(context, task.task_id))


async def _until_ended(context: Context, task_id: UUID) -> Sync:
    with Console().status("Waiting for a worker") as progress:
        while True:
            async with context.database.connection() as conn:
                task = await sync_store.get_sync(conn, task_id)
            if not task.state.is_open:
                return task
            progress.update(f"{task.state}: page {task.pages}, {task.counts.fetched} referrals")
            await asyncio.sleep(_POLL_SECONDS)


def _tell(task: Sync) -> None:
    counts = task.counts
    typer.echo(
        f"{task.state}: {counts.fetched} fetched, {counts.created} created, {counts.updated} updated, "
        f"{counts.unchanged} unchanged, {counts.rejected} rejected, {task.pages} pages"
    )
    if task.state is not SyncState.SUCCEEDED:
        raise Failure(task.error)


def _run(work: Callable[[Context], Awaitable[None]]) -> None:
    """Run a command with what the settings describe; a failure ends it with its words, not with a stack trace."""
    settings = ReferralsSettings.load()
    # What a process logs is for those who search logs; the person at the terminal is told in words.
    logging.getLogger().addHandler(logging.NullHandler())

    async def with_context() -> None:
        context = make_context(settings)
        try:
            await work(context)
        finally:
            await context.close()

    trace = telemetry.Trace(telemetry.new_request_id(), user_agent=_who())
    try:
        with telemetry.use(trace):
            asyncio.run(with_context())
    except Failure as error:
        sys.exit(error.message)


def _who() -> str:
    """Say who runs this command, for the audit log."""
    return f"command line of {telemetry.operator_name()} on {platform.node()}"


if __name__ == "__main__":
    app()
