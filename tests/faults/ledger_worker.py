"""A whole worker process around the ledger's handlers, to be killed by tests."""

from __future__ import annotations

import asyncio

from shared.db import Database
from shared.settings import StoreSettings
from shared.telemetry import configure_logging
from shared.worker import Work, run_worker
from tests.faults.ledger import HANDLERS, QUEUE


class Settings(StoreSettings):
    """Read from the environment as those of invitations."""

    service = "invitations"


async def _main() -> None:
    settings = Settings.load()
    configure_logging(settings.service, "worker")
    database = Database(settings.database_url.get_secret_value(), schema="invitations")
    await run_worker(settings, database=database, context=None, work=[Work(QUEUE, HANDLERS)])
    await database.close()


if __name__ == "__main__":
    asyncio.run(_main())
