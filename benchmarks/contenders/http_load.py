"""Ask again and again on open connections: `http_load PORT CONNECTIONS SECONDS TOKENS`; prints figures as JSON."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import cast

import httptools
import orjson
import uvloop

PATH = "/api/referrals/benchmark"


class Caller(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is whole."""

    deadline = 0.0

    def __init__(self, token: str) -> None:
        head = f"GET {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\nauthorization: Bearer {token}\r\n\r\n"
        self._request = head.encode()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._asked_at = 0.0
        self.done = asyncio.get_running_loop().create_future()
        self.times: list[float] = []
        self.wrong = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        self._asked_at = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.times.append(now - self._asked_at)
        self.wrong += self._parser.get_status_code() != HTTPStatus.OK
        if now < self.deadline:
            self.ask()
        else:
            self.done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names the reason
        if not self.done.done():
            self.wrong += 1
            self.done.set_result(None)


async def main(port: int, connections: int, seconds: float, tokens: list[str]) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda token=token: Caller(token), "127.0.0.1", port)  # type: ignore[misc]
        for token in tokens[:connections]
    ]
    callers = [caller for _, caller in opened]
    gc.disable()  # the generator's own pauses are not the contender's
    began = time.perf_counter()
    Caller.deadline = began + seconds
    for caller in callers:
        caller.ask()
    await asyncio.gather(*(caller.done for caller in callers))
    took = time.perf_counter() - began
    times = [value for caller in callers for value in caller.times]
    return {
        "requests": len(times),
        "rate": len(times) / took,
        "middle_ms": statistics.median(times) * 1_000,
        "wrong": sum(caller.wrong for caller in callers),
    }


if __name__ == "__main__":
    lines = Path(sys.argv[4]).read_text().split()
    print(orjson.dumps(uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), lines))).decode())
