"""The processes and operator commands of auth: `python -m services.auth --help`."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
import uvloop
from pydantic import ValidationError

from services.auth.app import create_app
from services.auth.commands import accounts, keys, second_factor
from services.auth.commands.emergency import Emergency, break_glass
from services.auth.context import open_context
from services.auth.domain.accounts import Grants, Seed, known_roles
from services.auth.domain.errors import BreakGlassRefused
from services.auth.domain.keys import StoredKey
from services.auth.schemas import SeedAccount, SeedFile
from services.auth.settings import AuthSettings, OperatorSettings
from services.auth.worker import run as run_worker
from shared import dead_letters, telemetry, web
from shared.errors import Failure
from shared.events.audit import Actor
from shared.migrate import migrate_step
from shared.sealing import CannotOpen

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PAGE: Final = 200
_OPERATOR: Final = Actor(kind="operator")
T = TypeVar("T")


def _amqp_url() -> str:
    return AuthSettings.load().amqp_url.get_secret_value()


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Accounts, sign-in, password reset, break-glass.")
app.add_typer(dead_letters.commands("auth", _amqp_url), name="dead")


@app.command()
def api() -> None:
    """Serve HTTP."""
    settings = AuthSettings.load()
    telemetry.configure_logging("auth", "api", settings.log_level)
    uvloop.run(web.serve(create_app(settings), settings))


@app.command()
def worker() -> None:
    """Deliver letters, end what has an end."""
    settings = AuthSettings.load()
    telemetry.configure_logging("auth", "worker", settings.log_level)
    uvloop.run(run_worker(settings))


@app.command()
def migrate() -> None:
    """Bring the schema up to date; needs OWNER_DATABASE_URL."""
    typer.echo(migrate_step("auth", MIGRATIONS))


@app.command()
def seed(file: Annotated[Path, typer.Argument(help="JSON list of accounts with their passwords")]) -> None:
    """Add or overwrite accounts for a demo; refuses in production, where nobody chooses another's password."""
    settings = OperatorSettings.load()
    if settings.environment == "production":
        sys.exit("Production has no seeds: admins create users, and break-glass makes the first admin.")
    try:
        wanted = SeedFile.validate_json(file.read_bytes())
    except OSError as error:
        sys.exit(f"{file} can't be read: {error.strerror}")
    except ValidationError as error:
        sys.exit(f"{file} is no list of accounts: " + "; ".join(_place_and_words(error)))
    _run(_seed(settings, wanted))
    typer.echo(f"{len(wanted)} accounts seeded")


@app.command("republish-users")
def republish_users() -> None:
    """Tell of every account again, for a consumer that starts empty."""
    typer.echo(f"{_run(_republish(OperatorSettings.load()))} accounts published again")


@app.command("rotate-keys")
def rotate_keys() -> None:
    """Publish a new signing key now; it signs after the lead, the others end when nothing they signed can live.

    What an older one of AUTH_SECRET_KEYS sealed (signing keys, authenticators) is sealed with the first one.
    """
    key = _run(_rotate(OperatorSettings.load()))
    typer.echo(f"key {key.kid} is published and signs from {key.signs_from:%Y-%m-%dT%H:%M:%SZ}")


@app.command("disable-key")
def disable_key(kid: str) -> None:
    """Stop trusting a signing key at once: everything that it signed is refused."""
    _run(_disable(OperatorSettings.load(), kid))
    typer.echo(f"key {kid} is disabled")


@app.command("list-keys")
def list_keys() -> None:
    """List the signing keys and their states."""
    for line in _run(_list_keys(OperatorSettings.load())):
        typer.echo(line)


@app.command("break-glass")
def break_the_glass(
    email: Annotated[str, typer.Option(help="The admin to wake, or to make")],
    reason: Annotated[str, typer.Option(help="Why; goes into the audit log")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Although an admin could sign in")] = False,
    drop_second_factor: Annotated[
        bool, typer.Option("--drop-second-factor", help="Forget the account's authenticator and recovery codes")
    ] = False,
) -> None:
    """Let an admin in when none can: prints a token, valid 30 minutes, once; the role ends after 24 hours."""
    if not reason.strip():
        sys.exit("Say why: --reason goes into the audit log.")
    case = Emergency(email, reason.strip(), telemetry.operator_name(), platform.node(), force, drop_second_factor)
    settings = OperatorSettings.load()
    result = _run(_break_glass(settings, case))
    if isinstance(result, BreakGlassRefused):
        sys.exit(result.message)
    minutes = max(1, settings.reset_token_seconds // 60)
    typer.echo(f"Set the password of {email} within {minutes} minutes, with this token as `token` of reset-password:")
    typer.echo(result)
    typer.echo("The admin role ends after 24 hours unless a second admin confirms it.")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run an operator's command; a refusal or a database that is away ends it with one clear line."""
    telemetry.configure_logging("auth", "operator", "ERROR")
    try:
        return asyncio.run(work)
    except Failure as error:
        words = [field.message for field in error.fields] or [error.message]
        sys.exit(" ".join(words))
    except CannotOpen:
        sys.exit("AUTH_SECRET_KEYS does not open the signing keys: give the keys that the service itself runs with.")


async def _seed(settings: OperatorSettings, wanted: list[SeedAccount]) -> None:
    async with open_context(settings) as context:
        hashes = [await context.hasher.hash(account.password.get_secret_value()) for account in wanted]
        async with context.database.transaction() as conn:
            for account, password_hash in zip(wanted, hashes, strict=True):
                seed = _seed_of(account, password_hash)
                await accounts.seed_account(conn, seed, actor=_OPERATOR, now=context.clock())


def _seed_of(account: SeedAccount, password_hash: str) -> Seed:
    grants: Grants = "all" if account.on_behalf_of == "all" else frozenset(account.on_behalf_of)
    roles = known_roles(account.roles)
    return Seed(account.id, account.email, account.full_name, roles, account.is_active, password_hash, grants)


async def _republish(settings: OperatorSettings) -> int:
    told, after = 0, 0
    async with open_context(settings) as context:
        while True:
            async with context.database.transaction() as conn:
                page = await accounts.republish_users(conn, after=after, limit=_PAGE)
            if not page:
                return told
            told, after = told + len(page), page[-1]


async def _rotate(settings: OperatorSettings) -> StoredKey:
    async with open_context(settings) as context, context.database.transaction() as conn:
        await keys.reseal_keys(conn, context.sealer)
        await second_factor.reseal_seeds(conn, context.sealer)
        return await keys.rotate_keys(conn, context.sealer, context.rules, actor=_OPERATOR, now=context.clock())


async def _disable(settings: OperatorSettings, kid: str) -> None:
    async with open_context(settings) as context, context.database.transaction() as conn:
        await keys.disable_key(conn, context.sealer, kid, actor=_OPERATOR, now=context.clock())


async def _list_keys(settings: OperatorSettings) -> list[str]:
    async with open_context(settings) as context, context.database.transaction() as conn:
        ring = await keys.key_ring(conn, context.sealer, context.clock())
    return [
        f"{key.kid}  {ring.state_of(key)}  signs from {key.signs_from.isoformat()}  {_end(key)}" for key in ring.keys
    ]


async def _break_glass(settings: OperatorSettings, case: Emergency) -> str | Failure:
    async with open_context(settings) as context, context.database.transaction() as conn:
        return await break_glass(conn, context.sealer, context.rules, case, now=context.clock())


def _end(key: StoredKey) -> str:
    return f"ends {key.ends_at.isoformat()}" if key.ends_at else "has no end yet"


def _place_and_words(error: ValidationError) -> list[str]:
    """Say what is wrong where, without the value: it may be a password."""
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]


if __name__ == "__main__":
    app()
