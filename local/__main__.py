"""`python -m local up|down|demo`: the whole system on this machine; `make help` lists the commands around it."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer

from local import browser, infrastructure, records, stack
from local.compose import Compose
from local.errors import LocalError
from local.progress import say, step
from local.stack_file import environment_file, stack_file
from local.supervisor import HOME, is_supervised
from local.tour import journey
from local.tour.guide import Guide
from local.tour.system import LocalSystem, System
from local.tour.telling import Printer

RUN: Final = HOME / ".run"
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def up(*, detach: Annotated[bool, typer.Option("--detach", help="Return when everything is healthy.")] = False) -> None:
    """Start the whole system and keep it running."""
    run_dir = RUN / "up"
    with _alone(run_dir):
        running = records.load(stack_file(run_dir))
        if running and is_supervised(run_dir):
            say("The system runs already.")
            _introduce(running)
            return
        try:
            description = stack.up(run_dir)
        except BaseException:
            _stop(run_dir)
            raise
    try:
        _introduce(description)
        if not detach:
            _stay(run_dir)
    except BaseException:
        _stop(run_dir)
        raise
    if not detach:
        _stop(run_dir)


@app.command()
def down() -> None:
    """Stop what `up` started."""
    if not (RUN / "up").is_dir():
        say("Nothing is running.")
        return
    _stop(RUN / "up")


@app.command()
def demo() -> None:
    """Start a system of its own, take the tour through its main jobs, stop it."""
    run_dir = RUN / "demo"

    def start() -> tuple[dict[str, Any], System]:
        description = stack.up(run_dir)
        return description, LocalSystem(description, run_dir)

    with _alone(run_dir):
        _take_the_tour(start, lambda: _stop(run_dir), logs=run_dir / "logs")


@app.command("demo-docker")
def demo_docker() -> None:
    """Start docker-compose.yml with the sandbox, take the same tour through it, remove it."""
    system = Compose(RUN / "demo-docker", project="partner-hub-demo")

    def stop() -> None:
        system.keep_logs()
        _finish(system.down)

    _take_the_tour(lambda: (system.up(), system), stop, logs=system.run_dir)


@app.command()
def servers() -> None:
    """Get the programs of PostgreSQL and RabbitMQ, if this machine has neither them nor Docker."""
    infrastructure.obtain()


@app.command("browser")
def obtain_browser() -> None:
    """Make sure that a browser is here for the tests of the console; without one, they are skipped and say why."""
    try:
        browser.obtain()
    except LocalError as error:
        say(f"The tests that need a browser will be skipped. {error}")


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Keep a second command off: it would begin by stopping what it finds, which is what the first one starts."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "command.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"The same command is at work already, in {run_dir}. Wait until it is done.") from None
        yield


def _take_the_tour(start: Callable[[], tuple[dict[str, Any], System]], stop: Callable[[], None], *, logs: Path) -> None:
    """Lead through a system of its own; the exit code is 0 only if every step held."""
    printer, started = Printer(), time.monotonic()
    outcomes: list[journey.Outcome] = []
    try:
        guide = Guide(*start(), printer)
        outcomes = journey.tour(guide)
        guide.close()
    finally:
        stop()
    journey.show(printer, outcomes, time.monotonic() - started)
    if any(outcome.problem for outcome in outcomes):
        say(f"Not everything held; the logs are in {logs}")
        raise typer.Exit(1)
    say("Everything held.")


def _stay(run_dir: Path) -> None:
    """Stay until Ctrl-C or `make down`; tell meanwhile of roles that die and come back."""
    say("Ctrl-C stops everything.")
    with (run_dir / "logs" / "honcho.log").open() as log:
        log.seek(0, os.SEEK_END)
        try:
            while is_supervised(run_dir):
                for line in log:
                    say(line.rstrip())
                time.sleep(0.5)
        except KeyboardInterrupt:
            say("")


def _stop(run_dir: Path) -> None:
    _finish(lambda: stack.down(run_dir))


def _finish(stop: Callable[[], None]) -> None:
    # An impatient second Ctrl-C must not leave half of it running.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with step("Stopping everything"):
            stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduce(description: dict[str, Any]) -> None:
    """Say where everything is, who can sign in, and what to try next."""
    gateway, logs = description["gateway_url"], description["logs"]
    say(f"\nPartner Hub is up: {gateway}   (console at /, interface at /docs)")
    for name, account in description["accounts"].items():
        say(f"  {name:<21} id {account['id']:<4} {account['email']:<28} {account['password']}")
    say(
        "Try next:\n"
        f"  open {gateway}/docs\n"
        f"  curl -s {gateway}/api/v1/auth/login -H 'content-type: application/json' \\\n"
        f'    -d \'{{"email": "admin@example.com", "password": "{description["accounts"]["admin"]["password"]}"}}\'\n'
        f"  tail -f {logs['audit-worker']}\n"
        f"  (. {environment_file(RUN / 'up')} && python -m services.referrals sign-in)\n"
        f"  cat {stack_file(RUN / 'up')}\n"
    )


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM as Ctrl-C: what was started is stopped either way."""
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what goes wrong is one clear message, and the exit code tells."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(arguments)
    except LocalError as error:
        say(f"\n{error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
