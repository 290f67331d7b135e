"""A process with many needs of a token at once: says `ready`, waits for a line, prints a digest of each token."""

from __future__ import annotations

import asyncio
import hashlib
import sys

from services.referrals.commands.connection import get_credential
from services.referrals.context import make_context
from services.referrals.settings import ReferralsSettings


async def main(needs: int) -> None:
    context = make_context(ReferralsSettings.load())
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    credentials = await asyncio.gather(*(get_credential(context.access) for _ in range(needs)))
    await context.close()
    for credential in credentials:
        print(hashlib.sha256(credential.token.access_token.encode()).hexdigest())  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
