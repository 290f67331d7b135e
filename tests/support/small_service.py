"""A service that says for which path it was asked: `python -m tests.support.small_service`, on SMALL_PORT.

A slow machine may need more than a second for what a client does meanwhile: it takes its leave for
SMALL_FAREWELL_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar

from fastapi import FastAPI, Request, Response

from shared import web
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Reads SMALL_PORT."""

    service: ClassVar[str] = "small"


app = FastAPI()


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def tell(request: Request) -> Response:
    """Say it after a moment, as if there were something to do."""
    await asyncio.sleep(0.002)
    return Response(request.url.path)


if __name__ == "__main__":
    web._FAREWELL_SECONDS = float(os.environ["SMALL_FAREWELL_SECONDS"])  # type: ignore[misc]
    asyncio.run(web.serve(app, Settings.load()))
