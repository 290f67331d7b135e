"""A service that says for which path it was asked: `python -m tests.support.small_service`, on SMALL_PORT."""

from __future__ import annotations

import asyncio
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
    asyncio.run(web.serve(app, Settings.load()))
