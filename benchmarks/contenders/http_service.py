"""A service that answers every request at once with 1 KB of JSON: `http_service PORT KEYS`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import httptools
import uvloop

BODY = b'{"items":["' + b"x" * 1_000 + b'"]}'


def answer(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    return head + body


class Service(asyncio.Protocol):
    keys = b""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_message_complete(self) -> None:
        self._transport.write(self.keys if self._url.endswith(b"jwks.json") else OK)


OK = answer(BODY)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    Service.keys = answer(Path(sys.argv[2]).read_bytes())
    uvloop.run(main(int(sys.argv[1])))
