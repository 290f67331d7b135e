"""`python -m shared.bus users | declare` makes users and topology in the broker; `definitions | show` prints them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson
import typer

from shared.bus.connection import BROKER_ERRORS, in_words
from shared.bus.declare import declare as declare_topology
from shared.bus.management import import_definitions
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
    typer.echo(orjson.dumps(_definitions(), option=orjson.OPT_INDENT_2))


@app.command("users")
def make_users() -> None:
    """Make these users at the broker, or give them a new password; safe to run again.

    Needs RABBITMQ_MANAGEMENT_URL (http://host:15672), RABBITMQ_ADMIN_USERNAME and RABBITMQ_ADMIN_PASSWORD besides.
    """
    made = _definitions()
    needed = ("RABBITMQ_MANAGEMENT_URL", "RABBITMQ_ADMIN_USERNAME", "RABBITMQ_ADMIN_PASSWORD")
    url, name, password = (find_setting(variable) or "" for variable in needed)
    if not (url and name and password):
        sys.exit(f"Set {', '.join(needed)}: where, and as whom, the broker is administered.")
    import_definitions(url, (name, password), made)
    typer.echo(f"made {len(made['users'])} users: {', '.join(user['name'] for user in made['users'])}")


def _definitions() -> dict[str, Any]:
    variables = {service: f"{service.upper()}_AMQP_URL" for service in SERVICES} | {OWNER: "AMQP_URL"}
    urls = {name: find_setting(variable) for name, variable in variables.items()}
    missing = [variables[name] for name, url in urls.items() if not url]
    if missing:
        sys.exit(f"Set {', '.join(missing)}: each the address of the broker with a user and a password.")
    try:
        return definitions({name: User.of(url) for name, url in urls.items() if url})
    except ValueError as error:
        sys.exit(f"The addresses of the broker are of no use: {error}.")


if __name__ == "__main__":
    app()
