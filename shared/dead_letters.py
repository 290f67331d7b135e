"""`dead list|show|redrive|drop`: what operators do with messages that nobody could handle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer

from shared.bus.connection import BrokerUnavailable
from shared.bus.dead_letters import DeadLetter, DeadLetters
from shared.bus.publisher import Interrupted, Refused


def commands(service: str, amqp_url: Callable[[], str]) -> typer.Typer:
    """Make the commands of one service; `amqp_url` is asked when the environment has no address of the broker."""
    app = typer.Typer(no_args_is_help=True, help=f"Messages that {service} could not handle.")

    def run(work: Callable[[DeadLetters], Awaitable[Any]]) -> Any:
        # Nothing but the broker is needed here, and an operator need not hold the service's other secrets.
        url = os.environ.get(f"{service.upper()}_AMQP_URL") or os.environ.get("AMQP_URL")
        return _with_letters(url or amqp_url(), service, work)

    @app.command("list")
    def list_letters(limit: int = 50) -> None:
        """List the oldest dead letters: id, event, queue, when it first failed, why."""
        letters: list[DeadLetter] = run(lambda dead: dead.peek(limit))
        for letter in letters:
            typer.echo(f"{letter.id}  {letter.event_type}  {letter.queue}  {letter.first_failed_at}  {letter.reason}")
        typer.echo(f"{len(letters)} dead letters" + (" (more may wait)" if len(letters) == limit else ""))

    @app.command()
    def show(letter_id: str) -> None:
        """Show one dead letter whole: headers, the trace of its failure, the event."""
        letter: DeadLetter | None = run(lambda dead: dead.find(letter_id))
        if letter is None:
            sys.exit(f"There is no dead letter {letter_id}.")
        typer.echo(orjson.dumps(letter.as_dict(), option=orjson.OPT_INDENT_2).decode())

    @app.command()
    def redrive(
        letter_id: Annotated[str | None, typer.Argument()] = None,
        *,
        everything: Annotated[bool, typer.Option("--all")] = False,
    ) -> None:
        """Bring one dead letter, or all, back into the queue that they came from."""
        _need_one(letter_id, everything=everything)
        typer.echo(f"redriven: {run(lambda dead: dead.redrive(letter_id))}")

    @app.command()
    def drop(
        letter_id: Annotated[str | None, typer.Argument()] = None,
        *,
        everything: Annotated[bool, typer.Option("--all")] = False,
    ) -> None:
        """Throw one dead letter, or all, away for good."""
        _need_one(letter_id, everything=everything)
        typer.echo(f"dropped: {run(lambda dead: dead.drop(letter_id))}")

    return app


def _with_letters(url: str, service: str, work: Callable[[DeadLetters], Awaitable[Any]]) -> Any:
    async def with_letters() -> Any:
        async with DeadLetters(url, service) as letters:
            return await work(letters)

    try:
        return asyncio.run(with_letters())
    except BrokerUnavailable as error:
        sys.exit(error.message)
    except (Refused, Interrupted) as error:
        sys.exit(f"The broker did not confirm it, so the letter stays where it is: {error}.")


def _need_one(letter_id: str | None, *, everything: bool) -> None:
    if (letter_id is None) != everything:
        sys.exit("Name one dead letter, or say --all.")
