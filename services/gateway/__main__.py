"""`python -m services.gateway api` serves; `check` tells whether the settings make sense."""

from __future__ import annotations

import asyncio
import gc
import resource

import typer
import uvloop

from services.gateway import app as gateway_app
from services.gateway.context import make_gateway
from services.gateway.domain.routing import AREAS
from services.gateway.settings import GatewaySettings
from shared.telemetry import configure_logging

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The gateway: the one address that clients call.")


@app.command()
def api() -> None:
    """Serve HTTP."""
    settings = GatewaySettings.load()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is a file, each request is two
    configure_logging(settings.service, "api", settings.log_level)
    # What is there by now lives to the end. Requests leave no cycles, and looking for some after every 700 new objects,
    # as Python does, took 6 % of all CPU time (measured).
    gc.freeze()
    gc.set_threshold(10_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(gateway_app.serve(settings))


@app.command()
def check() -> None:
    """Check the settings and print where each area goes; exits with 1 and the reason if they make no sense."""
    settings = GatewaySettings.load()
    gateway = make_gateway(settings)
    for area in AREAS:
        typer.echo(f"{area.path.decode():<20} -> {settings.service_urls[gateway.upstreams[area.upstream].name]}")
    typer.echo(f"tokens are checked with the keys at {settings.jwks_url}")


if __name__ == "__main__":
    app()
