"""`python -m shared.bus declare` makes the topology in the broker; `show` prints it."""

from __future__ import annotations

import asyncio
import os
import sys

import orjson
import typer

from shared.bus.declare import declare as declare_topology
from shared.topology import topology

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The topology of the broker.")


@app.command()
def declare() -> None:
    """Make every exchange, queue and binding in the broker at AMQP_URL; safe to run again."""
    url = os.environ.get("AMQP_URL")
    if not url:
        sys.exit("Set AMQP_URL to a broker user who may declare.")
    plan = asyncio.run(declare_topology(url))
    typer.echo(f"declared {len(plan.exchanges)} exchanges, {len(plan.queues)} queues, {len(plan.bindings)} bindings")


@app.command()
def show() -> None:
    """Print the topology as JSON."""
    typer.echo(orjson.dumps(topology(), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    app()
