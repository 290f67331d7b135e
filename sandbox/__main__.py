"""`python -m sandbox microsoft|provider`: start one stand-in of the outside world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.")]


@app.command()
def microsoft(
    port: Port,
    directory: Annotated[Path, typer.Option("--dir", help="Folder for ca.pem, which clients must trust.")],
    host: Host = "127.0.0.1",
    hostname: Annotated[list[str] | None, typer.Option(help="Further name that the certificate covers.")] = None,
    referrals: Annotated[int, typer.Option(min=0, max=100_000, help="How many referrals there are.")] = 250,
    *,
    auto_approve: Annotated[bool, typer.Option("--auto-approve", help="Approve device codes by itself.")] = False,
) -> None:
    """Run a local Microsoft: sign-in by device code and the referrals API, over TLS."""
    # Imported here so that starting one stand-in never loads the other.
    from sandbox.microsoft.app import run  # noqa: PLC0415

    run(host, port, directory, hostnames=hostname or [], referrals=referrals, auto_approve=auto_approve)


@app.command()
def provider(
    port: Port,
    host: Host = "127.0.0.1",
    verimor_report_url: Annotated[
        str | None,
        typer.Option(envvar="SANDBOX_VERIMOR_REPORT_URL", help="Where Verimor's account has its reports sent."),
    ] = None,
) -> None:
    """Run local messaging providers: SMS and WhatsApp."""
    from sandbox import messaging_provider  # noqa: PLC0415

    messaging_provider.run(host, port, verimor_report_url=verimor_report_url)


if __name__ == "__main__":
    app()
