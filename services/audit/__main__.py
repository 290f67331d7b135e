"""Run a role of audit or an operator's command: `python -m services.audit api | worker | migrate | verify | …`."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
import uvloop

from services.audit import commands
from services.audit.app import create_app
from services.audit.checkpoint_directory import Archive, create_signing_key, read_export, read_notes
from services.audit.commands.retention import Pruning
from services.audit.commands.verification import Scope
from services.audit.context import open_context
from services.audit.domain.checkpoints import VerifierKey
from services.audit.domain.findings import Finding, Kind, Report
from services.audit.domain.offline import verify_export
from services.audit.settings import AuditSettings
from services.audit.worker import run as run_worker
from shared import dead_letters, telemetry, web
from shared.db import Database
from shared.errors import Failure
from shared.events.audit import Actor
from shared.migrate import migrate_step
from shared.settings import SettingsInvalid

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_TAMPERED: Final = 1
_UNKNOWN: Final = 2
_KNOWN: Final = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The shared, append-only, tamper-evident audit log.")


def _amqp_url() -> str:
    return AuditSettings.load().amqp_url.get_secret_value()


app.add_typer(dead_letters.commands("audit", _amqp_url), name="dead")


@app.command()
def api() -> None:
    """Serve HTTP."""
    settings = AuditSettings.load()
    telemetry.configure_logging("audit", "api", settings.log_level)
    uvloop.run(web.serve(create_app(settings), settings))


@app.command()
def worker() -> None:
    """Seal events, sign checkpoints, verify."""
    settings = AuditSettings.load()
    telemetry.configure_logging("audit", "worker", settings.log_level)
    uvloop.run(run_worker(settings))


@app.command()
def migrate() -> None:
    """Bring the schema up to date; needs OWNER_DATABASE_URL."""
    typer.echo(migrate_step("audit", MIGRATIONS))


@app.command()
def verify(
    first: Annotated[
        int | None, typer.Option("--from", min=1, help="First place to check; the beginning by default")
    ] = None,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Last place to check; the end by default")] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Signed checkpoints that you kept, or the answer that held one; may be given several times"),
    ] = None,
    grace_seconds: Annotated[
        int | None, typer.Option(min=0, help="How long a number of a producer may be missing before it counts as lost")
    ] = None,
) -> None:
    """Prove that nobody touched the log, or name what was done to it.

    Exit code 1 when something was; 2 when there is no telling; 3 when only what an operator has acknowledged was found.
    """
    if first and last and first > last:
        raise typer.BadParameter("--from lies behind --to")
    telemetry.configure_logging("audit", "verify", "ERROR")
    try:
        settings = AuditSettings.load()
        kept = [note for path in checkpoint or [] for note in read_notes(path)]
        grace = timedelta(seconds=settings.source_grace_seconds if grace_seconds is None else grace_seconds)
        report = asyncio.run(_verify(settings, kept, first, last, grace))
    except (Failure, SettingsInvalid, OSError, ValueError) as error:
        typer.echo(f"The log can't be verified: {error}", err=True)
        raise typer.Exit(_UNKNOWN) from None
    _tell(report)


def _tell(report: Report) -> None:
    for words in [each.words() for each in report.findings] + [each.words() for each in report.known]:
        typer.echo(words)
    typer.echo(
        f"{'OK' if report.ok else 'NOT OK'}: records {report.first_seq} to {report.last_seq}, "
        f"{report.records} read, {report.checkpoints} checkpoints compared, {report.total_findings} findings"
        + (f", {len(report.known)} known" if report.known else "")
    )
    if not report.ok:
        raise typer.Exit(_TAMPERED)
    if report.known:
        raise typer.Exit(_KNOWN)


@app.command()
def acknowledge(
    kind: Annotated[Kind, typer.Option(help="Kind of the findings, as verify names it")],
    reason: Annotated[str, typer.Option(help="What happened; goes into the log")],
    first: Annotated[int, typer.Option("--from", min=0, help="Findings at this place or later")] = 0,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Findings at this place or earlier")] = None,
) -> None:
    """Say that findings of verify are understood and can't be undone: it tells them apart then (exit code 3)."""
    settings = AuditSettings.load()
    telemetry.configure_logging("audit", "acknowledge", "ERROR")
    with _failure_in_words():
        found = asyncio.run(_acknowledge(settings, kind, first, last, reason))
    for finding in found:
        typer.echo(f"acknowledged: {finding.words()}")
    if not found:
        sys.exit(f"verify finds nothing of the kind {kind} there that is not acknowledged.")


@app.command("create-key")
def create_key(path: Path) -> None:
    """Make the key that signs checkpoints, for AUDIT_SIGNING_KEY_FILE, and print its public half; never overwrites."""
    try:
        key = create_signing_key(path)
    except (OSError, ValueError) as error:
        sys.exit(f"{path} can't be made or read as a key: {error}")
    typer.echo(key.verifier.text())


@app.command()
def erase(
    reason: Annotated[str, typer.Option(help="Why; goes into the log")],
    phone: Annotated[list[str] | None, typer.Option(help="Phone of the person")] = None,
    email: Annotated[list[str] | None, typer.Option(help="E-mail of the person")] = None,
    user_id: Annotated[int | None, typer.Option(help="Account of the person: also what it did")] = None,
) -> None:
    """Erase a person's data from the log for good, without breaking the chain."""
    subjects = [*(phone or []), *(email or [])]
    if not all(subject.strip() for subject in subjects) or (not subjects and user_id is None):
        sys.exit("Name the person: --phone, --email or --user-id.")
    settings = _without_legal_hold(AuditSettings.load())
    telemetry.configure_logging("audit", "erase", settings.log_level)
    with _failure_in_words():
        erased = asyncio.run(_erase(settings, subjects, user_id, reason))
    typer.echo(f"erased the personal data of {erased} records")


@app.command("verify-export")
def verify_exported(
    path: Path,
    key: Annotated[list[str], typer.Option(help="Verifier key: name+hash+key; may be given several times")],
    checkpoint: Annotated[list[Path] | None, typer.Option(help="Signed checkpoints that you kept")] = None,
) -> None:
    """Check an NDJSON export without the database; exit code 1 when it was changed, 2 when it can't be read."""
    try:
        keys = [VerifierKey.parse(text) for text in key]
        kept = [note for each in checkpoint or [] for note in read_notes(each)]
        report = verify_export(read_export(path), keys, kept)
    except (OSError, EOFError, ValueError, TypeError) as error:
        typer.echo(f"{path} can't be verified: {error}", err=True)
        raise typer.Exit(_UNKNOWN) from None
    _tell(report)
    if not report.checkpoints:
        typer.echo(
            "Each record is whole in itself; only the log can tell whether it is one of its own: compare the hash."
        )


@app.command()
def prune(
    before: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Drop the whole months before this day (UTC)")],
    archive: Annotated[Path, typer.Option(help="Folder to export the months into first")],
) -> None:
    """Drop the oldest whole months, after they were verified and exported; needs OWNER_DATABASE_URL."""
    settings = _without_legal_hold(AuditSettings.load())
    telemetry.configure_logging("audit", "prune", settings.log_level)
    if settings.owner_database_url is None:
        sys.exit("Set OWNER_DATABASE_URL: only the owner of the tables can drop months; the service itself can't.")
    owner_url = settings.owner_database_url.get_secret_value()
    with _failure_in_words():
        plan, exported = asyncio.run(_prune(settings, owner_url, before.date(), Archive(archive)))
    months = ", ".join(month.name for month in plan.months)
    typer.echo(f"dropped {months}: records {plan.first} to {plan.last}, {exported} exported to {archive}")


async def _prune(settings: AuditSettings, owner_url: str, day: date, archive: Archive) -> tuple[Pruning, int]:
    owner = Database(owner_url, schema=settings.service, pool_size=1)
    async with open_context(settings) as context:
        scope = Scope(context.verifier_keys, context.personal_data, outside=context.directory.files())
        try:
            async with owner.connection() as conn:
                async with conn.transaction(isolation="repeatable_read", readonly=True):
                    plan = await commands.plan_pruning(conn, day, scope)
                    exported = await commands.export_months(conn, plan, archive, context.signing_key)
                async with conn.transaction():
                    await commands.drop_months(
                        conn,
                        plan,
                        context.signing_key,
                        exported=exported,
                        operator=Actor(kind="operator"),
                        origin=_this_terminal(),
                    )
        finally:
            await owner.close()
    return plan, exported


async def _acknowledge(settings: AuditSettings, kind: Kind, first: int, last: int | None, reason: str) -> list[Finding]:
    report = await _verify(settings, [], None, None, timedelta(seconds=settings.source_grace_seconds))
    found = [
        finding
        for finding in report.findings
        if finding.kind == kind and finding.seq >= first and (last is None or finding.seq <= last)
    ]
    async with open_context(settings) as context, context.database.transaction() as conn:
        await commands.acknowledge(
            conn,
            found,
            context.signing_key,
            reason=reason,
            operator=Actor(kind="operator"),
            origin=_this_terminal(),
        )
    return found


async def _verify(
    settings: AuditSettings, kept: list[str], first: int | None, last: int | None, grace: timedelta
) -> Report:
    async with open_context(settings) as context:
        scope = Scope(
            keys=context.verifier_keys,
            personal_data=context.personal_data,
            outside=[*context.directory.files(), lambda: kept],
            first=first,
            last=last,
            source_grace=grace,
        )
        async with context.database.connection() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await commands.verify(conn, scope)


async def _erase(settings: AuditSettings, subjects: list[str], user_id: int | None, reason: str) -> int:
    async with open_context(settings) as context, context.database.transaction() as conn:
        return await commands.erase_person(
            conn,
            context.personal_data,
            subjects=subjects,
            actor_id=user_id,
            reason=reason,
            operator=Actor(kind="operator"),
            origin=_this_terminal(),
        )


@contextmanager
def _failure_in_words() -> Iterator[None]:
    """End a command that can't be carried out with one sentence instead of a trace."""
    try:
        yield
    except Failure as error:
        sys.exit(error.message)
    except OSError as error:
        sys.exit(f"Nothing was changed: {error}")


def _without_legal_hold(settings: AuditSettings) -> AuditSettings:
    if settings.legal_hold:
        sys.exit("AUDIT_LEGAL_HOLD is on: nothing may leave the log before whoever ordered it has lifted it.")
    return settings


def _this_terminal() -> dict[str, str]:
    return {"os_user": telemetry.operator_name(), "host": platform.node()}


if __name__ == "__main__":
    app()
