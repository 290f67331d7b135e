"""`dead list|show|redrive|drop`: what operators do with messages that nobody could handle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import typer

from shared.bus.dead_letters import DeadLetter, DeadLetters


def commands(service: str, amqp_url: Callable[[], str]) -> typer.Typer:
    """Make the commands of one service."""
    app = typer.Typer(no_args_is_help=True, help=f"Messages that {service} could not handle.")

    def run(work: Callable[[DeadLetters], Awaitable[Any]]) -> Any:
        async def with_letters() -> Any:
            async with DeadLetters(amqp_url(), service) as letters:
                return await work(letters)

        return asyncio.run(with_letters())

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


def _need_one(letter_id: str | None, *, everything: bool) -> None:
    if (letter_id is None) != everything:
        sys.exit("Name one dead letter, or say --all.")
