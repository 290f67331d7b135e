"""A mail server of its own process (aiosmtpd), which misbehaves as it is told: see `main`.

It appends each letter that it takes to a file, as a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

TAKEN = "250 OK"


@dataclass(frozen=True)
class Behaviour:
    """How this server treats what clients say."""

    file: Path
    slow: float
    refuse_recipient: str | None
    refuse_letter: str | None
    silent_after_taking: bool

    async def handle_RCPT(  # noqa: N802  the name that aiosmtpd calls
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take or refuse an address."""
        if self.refuse_recipient:
            return self.refuse_recipient
        envelope.rcpt_tos.append(address)
        return TAKEN

    async def handle_DATA(  # noqa: N802  the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Take or refuse a letter, sooner or later."""
        await asyncio.sleep(self.slow)
        if self.refuse_letter:
            return self.refuse_letter
        assert server.transport is not None
        self._keep(session, envelope, over_tls=server.transport.get_extra_info("sslcontext") is not None)
        if self.silent_after_taking:
            server.transport.close()
        return TAKEN

    def _keep(self, session: Session, envelope: Envelope, *, over_tls: bool) -> None:
        content = envelope.content
        assert isinstance(content, bytes)
        message = message_from_bytes(content, policy=policy.default)
        letter = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "text": message.get_content().replace("\r\n", "\n"),
            "over_tls": over_tls,
            "as": getattr(session.auth_data, "login", b"").decode() or None,
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(letter) + "\n")


def _authenticator(wanted: str) -> Callable[..., AuthResult]:
    user, _, password = wanted.partition(":")

    def check(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (user.encode(), password.encode())
        return AuthResult(success=right, handled=False, auth_data=data if right else None)

    return check


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that it thinks about each letter")
    parser.add_argument("--refuse-recipient", help="answer to every RCPT, such as '550 nobody here'")
    parser.add_argument("--refuse-letter", help="answer to every letter, such as '451 try again later'")
    parser.add_argument("--silent-after-taking", action="store_true", help="keep the letter and hang up")
    parser.add_argument("--certificate", help="offers STARTTLS and demands it")
    parser.add_argument("--key")
    parser.add_argument("--implicit-tls", action="store_true", help="encrypted from the first byte instead")
    parser.add_argument("--login", help="user:password that clients must give")
    given = parser.parse_args()
    behaviour = Behaviour(
        given.file, given.slow, given.refuse_recipient, given.refuse_letter, given.silent_after_taking
    )
    tls = _tls(given.certificate, given.key)
    starts_plain = tls if not given.implicit_tls else None

    def session() -> SMTP:
        return SMTP(
            behaviour,
            hostname="localhost",
            tls_context=starts_plain,
            require_starttls=starts_plain is not None,
            authenticator=_authenticator(given.login) if given.login else None,
            auth_required=given.login is not None,
            auth_require_tls=starts_plain is not None,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", given.port, ssl=tls if given.implicit_tls else None)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
