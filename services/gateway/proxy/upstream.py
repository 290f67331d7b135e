"""One service as the gateway sees it: its connections, its breaker, and the one retry that is allowed."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from services.gateway.domain.breaker import Breaker
from services.gateway.domain.refusals import UpstreamAway, UpstreamBroken, UpstreamBusy, UpstreamSilent, UpstreamTimeout
from services.gateway.proxy.exchange import Answer, Ask, Receive
from services.gateway.proxy.pool import Pool, PoolLimits


class Upstream:
    """Asks one service, at an address that reads `http://host:port`."""

    def __init__(self, name: str, url: str, limits: PoolLimits, breaker: Breaker) -> None:
        parts = urlsplit(url)
        self.name = name
        self.breaker = breaker
        self.host = parts.netloc.encode()
        self.pool = Pool(parts.hostname or "", parts.port or 80, limits)

    async def ask(self, ask: Ask, receive: Receive) -> Answer:
        """Send a request and give the head of its answer; the caller closes it. Raises UpstreamAway and its kin."""
        loop = asyncio.get_running_loop()
        if wait := self.breaker.wait_seconds(loop.time()):
            raise UpstreamAway(f"{self.name} does not answer at the moment.", retry_after=wait)
        try:
            answer = await self._try_twice(ask, receive)
        except UpstreamBusy:
            self.breaker.undecided()
            raise
        except (UpstreamAway, UpstreamBroken, UpstreamTimeout) as failure:
            self.breaker.failed(loop.time())
            failure.message = f"{self.name}: {failure.message}"
            raise
        except BaseException:
            self.breaker.undecided()
            raise
        self.breaker.succeeded()
        return answer

    async def _try_twice(self, ask: Ask, receive: Receive) -> Answer:
        try:
            return await self._try(ask, receive, fresh=False)
        except UpstreamSilent:
            if not ask.repeatable:
                raise
            return await self._try(ask, receive, fresh=True)

    async def _try(self, ask: Ask, receive: Receive, *, fresh: bool) -> Answer:
        answer = Answer(await self.pool.acquire(fresh=fresh), self.pool, ask, receive)
        try:
            await answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer
