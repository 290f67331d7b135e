"""A small SMTP server of its own process: `python -m tests.auth.smtp_server PORT FILE [--slow SECONDS] [--refuse]`.

It speaks enough of RFC 5321 for a real client, and appends each letter to FILE as a JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

_GREETING = "220 test ready"
_TEMPORARY = "451 try again later"


@dataclass
class Letter:
    """What one client has said so far."""

    sender: str = ""
    recipients: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """How this server behaves."""

    file: Path
    slow: float
    refuse: bool

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with one client."""
        letter = Letter()
        await _say(writer, _GREETING)
        while line := (await reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            if verb.upper() == "DATA":
                await _say(writer, "354 go on")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                await asyncio.sleep(self.slow)
                await _say(writer, _TEMPORARY if self.refuse else self._keep(letter, text))
                letter = Letter()
            elif verb.upper() == "QUIT":
                await _say(writer, "221 bye")
                break
            else:
                await _say(writer, _answer(letter, verb.upper(), rest))
        writer.close()

    def _keep(self, letter: Letter, text: str) -> str:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"from": letter.sender, "to": letter.recipients, "text": text}) + "\n")
        return "250 taken"


def _answer(letter: Letter, verb: str, rest: str) -> str:
    if verb == "MAIL":
        letter.sender = rest
    elif verb == "RCPT":
        letter.recipients.append(rest.partition("<")[2].partition(">")[0])
    return "250 fine"


async def _say(writer: asyncio.StreamWriter, line: str) -> None:
    writer.write(f"{line}\r\n".encode())
    await writer.drain()


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--refuse", action="store_true")
    arguments = parser.parse_args()
    behaviour = Server(arguments.file, arguments.slow, arguments.refuse)
    server = await asyncio.start_server(behaviour.serve, "127.0.0.1", arguments.port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
