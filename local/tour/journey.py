"""The steps of the tour in their order, and the tour as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from local.tour.evidence import find_evidence
from local.tour.guide import Guide
from local.tour.inviting import call_wrongly, invite_on_behalf
from local.tour.killing import kill_worker
from local.tour.partner_center import sync_referrals
from local.tour.password_reset import reset_password
from local.tour.signing_in import sign_in
from local.tour.telling import Printer
from local.tour.uploading import upload_list


@dataclass(frozen=True)
class Step:
    """One step: what it shows, and how."""

    name: str
    title: str
    take: Callable[[Guide], None]


STEPS: Final = (
    Step("a", "Admin 166 signs in; the same call is refused without a token and with a forged one", sign_in),
    Step("b", "Admin 166 invites three farmers for sponsor 6; one asks for too many M codes", invite_on_behalf),
    Step("c", "The known wrong call is refused and names the right one", call_wrongly),
    Step(
        "d", "Sponsor 6 uploads 1,000 rows, 25 of them faulty, and follows the progress to the result file", upload_list
    ),
    Step("e", "Partner Center: sign-in by device code, 250 referrals, a second sync changes nothing", sync_referrals),
    Step("f", "A password is reset by the runbook, with the token from the log", reset_password),
    Step("g", "The audit log shows who did all that", find_evidence),
    Step("h", "A worker is killed with kill -9 in the middle of an upload: nothing lost, nothing doubled", kill_worker),
)


@dataclass(frozen=True)
class Outcome:
    """How a step ended; without a problem it held."""

    step: Step
    seconds: float
    problem: str | None


def tour(guide: Guide) -> list[Outcome]:
    """Go through all steps; one that fails does not keep the others from being tried."""
    outcomes = []
    for step in STEPS:
        guide.teller.title(f"{step.name}. {step.title}")
        started = time.monotonic()
        problem = None
        try:
            step.take(guide)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the step did not hold
            problem = f"{type(error).__name__}: {error}"
            guide.teller.failed(problem)
        outcomes.append(Outcome(step, time.monotonic() - started, problem))
    return outcomes


def show(printer: Printer, outcomes: list[Outcome], seconds: float) -> None:
    """Sum up the tour in a table of steps and times."""
    table = Table(
        title="Partner Hub: what held", title_justify="left", caption=f"{seconds:.0f} s in all, with start and stop"
    )
    for heading in ("", "step", ""):
        table.add_column(heading)
    table.add_column("time", justify="right")
    for outcome in outcomes:
        mark = "[red]failed[/red]" if outcome.problem else "[green]held[/green]"
        table.add_row(outcome.step.name, outcome.step.title, mark, f"{outcome.seconds:.1f} s")
    printer.console.print()
    printer.console.print(table, soft_wrap=False)
    for outcome in outcomes:
        if outcome.problem:
            printer.console.print(f"{outcome.step.name}: {outcome.problem}", style="red", markup=False)
