"""Run a role of invitations: `python -m services.invitations api | worker | migrate | report-address | dead …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import typer
import uvloop

from services.invitations.app import create_app
from services.invitations.context import verimor_of
from services.invitations.settings import InvitationsSettings
from services.invitations.worker import run_worker
from shared import dead_letters, telemetry, web
from shared.migrate import migrate_step

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


if __name__ == "__main__":
    app()
