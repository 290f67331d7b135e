"""Run a role of invitations or an operator's command: `python -m services.invitations api | worker | migrate | …`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import typer
import uvloop

from services.invitations.app import create_app
from services.invitations.commands import repair
from services.invitations.context import Context, open_context, verimor_of
from services.invitations.settings import InvitationsSettings
from services.invitations.worker import run_worker
from shared import dead_letters, telemetry, web
from shared.errors import Failure
from shared.migrate import migrate_step
from shared.sealing import CannotOpen

MIGRATIONS: Final = Path(__file__).parent / "migrations"

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Sponsors invite farmers in bulk.")
app.add_typer(
    dead_letters.commands("invitations", lambda: InvitationsSettings.load().amqp_url.get_secret_value()),  # noqa: PLW0108  at need
    name="dead",
)


@app.command()
def api() -> None:
    """Serve HTTP."""
    settings = InvitationsSettings.load()
    telemetry.configure_logging("invitations", "api", settings.log_level)
    uvloop.run(web.serve(create_app(settings), settings))


@app.command()
def worker() -> None:
    """Place rows, send messages, settle what is open."""
    settings = InvitationsSettings.load()
    telemetry.configure_logging("invitations", "worker", settings.log_level)
    uvloop.run(run_worker(settings))


@app.command()
def migrate() -> None:
    """Bring the schema up to date; needs OWNER_DATABASE_URL."""
    typer.echo(migrate_step("invitations", MIGRATIONS))


@app.command("report-address")
def report_address() -> None:
    """Print the address for delivery reports that is to be set in Verimor's panel; it holds a key, keep it private."""
    settings = InvitationsSettings.load()
    verimor = verimor_of(settings)
    if verimor is None:
        sys.exit("Set INVITATIONS_VERIMOR_URL and the account's name and password first.")
    typer.echo(f"{settings.callback_base_url.rstrip('/')}/callbacks/verimor?key={verimor.report_key}")


@app.command()
def requeue() -> None:
    """Put every row that waits for its code in line again: after the broker was lost with its messages."""

    async def work(context: Context) -> str:
        async with context.database.transaction() as conn:
            jobs, rows = await repair.requeue_rows(conn)
        return f"{rows} rows of {jobs} jobs are in line again"

    _run(work)


@app.command()
def reseal() -> None:
    """Seal every invitation's token with the first of INVITATIONS_SECRET_KEYS, so that the others can go."""

    async def work(context: Context) -> str:
        total = 0
        after: int | None = 0
        while after is not None:
            async with context.database.transaction() as conn:
                resealed, after = await repair.reseal_tokens(conn, context.sealer, after=after)
            total += resealed
        return f"{total} tokens are sealed with the first key now"

    _run(work)


def _run(work: Callable[[Context], Awaitable[str]]) -> None:
    """Run an operator's command; what can't be done ends it with one clear line."""
    settings = InvitationsSettings.load()
    telemetry.configure_logging("invitations", "operator", "ERROR")

    async def with_context() -> str:
        async with open_context(settings) as context:
            return await work(context)

    try:
        typer.echo(asyncio.run(with_context()))
    except Failure as error:
        sys.exit(error.message)
    except CannotOpen as error:
        sys.exit(f"INVITATIONS_SECRET_KEYS does not open a token: {error}.")


if __name__ == "__main__":
    app()
