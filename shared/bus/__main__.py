"""`python -m shared.bus declare` makes the topology in the broker; `show` and `definitions` print what it needs."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson
import typer

from shared.bus.connection import BROKER_ERRORS, in_words
from shared.bus.declare import declare as declare_topology
from shared.permissions import OWNER, SERVICES, User, definitions
from shared.settings import find_setting
from shared.topology import topology

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The topology of the broker.")


@app.command()
def declare() -> None:
    """Make every exchange, queue and binding in the broker at AMQP_URL; safe to run again."""
    url = find_setting("AMQP_URL")
    if not url:
        sys.exit("Set AMQP_URL to a broker user who may declare.")
    try:
        plan = asyncio.run(declare_topology(url))
    except BROKER_ERRORS as error:
        sys.exit(f"The message broker is not available ({in_words(error)}).")
    typer.echo(f"declared {len(plan.exchanges)} exchanges, {len(plan.queues)} queues, {len(plan.bindings)} bindings")


@app.command()
def show() -> None:
    """Print the topology as JSON."""
    typer.echo(orjson.dumps(topology(), option=orjson.OPT_INDENT_2))


@app.command("definitions")
def print_definitions() -> None:
    """Print the broker's users and their rights, to be imported by it.

    The users are those of the addresses in <SERVICE>_AMQP_URL, and in AMQP_URL the one who declares the topology.
    """
    variables = {service: f"{service.upper()}_AMQP_URL" for service in SERVICES} | {OWNER: "AMQP_URL"}
    missing = [variable for variable in variables.values() if not os.environ.get(variable)]
    if missing:
        sys.exit(f"Set {', '.join(missing)}: each the address of the broker with a user and a password.")
    try:
        users = {name: User.of(os.environ[variable]) for name, variable in variables.items()}
        typer.echo(orjson.dumps(definitions(users), option=orjson.OPT_INDENT_2))
    except ValueError as error:
        sys.exit(f"The addresses of the broker are of no use: {error}.")


if __name__ == "__main__":
    app()
