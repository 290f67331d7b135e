"""Runs the stand-in as a server of its own."""

import uvicorn

from sandbox.messaging_provider.app import MessagingProvider
from sandbox.messaging_provider.http import Connection

# Longer than clients keep an idle connection (httpx: 5 s), or the next request of one might meet its end.
KEEP_ALIVE_SECONDS = 75


def run(host: str, port: int, *, verimor_report_url: str | None = None) -> None:
    """Serve until told to stop; the address is where Verimor's account has its delivery reports sent."""
    application = MessagingProvider(verimor_report_url=verimor_report_url)
    uvicorn.run(
        application,
        host=host,
        port=port,
        http=Connection,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
