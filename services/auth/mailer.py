"""Delivery of letters: by SMTP, or, for development only, into the worker's log."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid, parseaddr
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.auth.domain.letters import ChangedLetter, Letter, subject_and_text
from shared.errors import BadRequest, Unavailable

log = logging.getLogger(__name__)

# Mail servers refuse a client that opens many at once.
_CONNECTIONS: Final = 5
_FINAL: Final = 500


class MailUnavailable(Unavailable):
    """The mail server is away or does not take the letter; the ladder tries again."""

    code, message = "MAIL_UNAVAILABLE", "The mail server does not take the letter now."


class MailRefused(BadRequest):
    """The mail server refuses the letter for good (RFC 5321 §4.2.1: 5yz); trying again would change nothing."""

    code, message = "MAIL_REFUSED", "The mail server refuses to take a letter to this address."


class Mailer(Protocol):
    """Whoever brings letters to people."""

    async def send(self, letter: Letter) -> None:
        """Deliver one letter; raises MailUnavailable or MailRefused."""


class LogDelivery:
    """Prints the token for the person at the keyboard; settings refuse it in production."""

    async def send(self, letter: Letter) -> None:
        """Print the line that the runbook looks for, as a line of its own and not as JSON."""
        if isinstance(letter, ChangedLetter):
            log.info("[Password Reset] Password of %s was changed", letter.email)
            return
        sys.stdout.write(f"[Password Reset] Token for {letter.email}: {letter.token}\n")
        sys.stdout.flush()


class SmtpDelivery:
    """Sends letters to a mail server, one connection each: they are rare and a kept connection goes stale."""

    def __init__(self, url: str, *, sender: str, public_url: str, timeout_seconds: float, tls_required: bool) -> None:
        parts = urlsplit(url)
        self._implicit_tls = parts.scheme == "smtps"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (465 if self._implicit_tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        # None: STARTTLS when the server offers it. A server that takes passwords in the clear is for development.
        self._starttls = (True if tls_required else None) if not self._implicit_tls else False
        self._sender = sender
        self._public_url = public_url
        self._timeout = timeout_seconds
        self._turn = asyncio.Semaphore(_CONNECTIONS)

    async def send(self, letter: Letter) -> None:
        """Send one letter to the stored address."""
        try:
            async with self._turn:
                await aiosmtplib.send(
                    self._message(letter),
                    hostname=self._host,
                    port=self._port,
                    username=self._user,
                    password=self._password,
                    use_tls=self._implicit_tls,
                    start_tls=self._starttls,
                    timeout=self._timeout,
                )
        except (aiosmtplib.SMTPException, OSError) as error:
            # The text of the error may quote the letter; kind and number are enough.
            log.warning("a letter was not delivered: %s %s", type(error).__name__, _number(error) or "")
            raise (MailRefused if _is_final(error) else MailUnavailable) from None

    def _message(self, letter: Letter) -> EmailMessage:
        # The policy refuses line breaks in headers, so no input can add one.
        message = EmailMessage(policy=SMTP)
        subject, text = subject_and_text(letter, self._public_url)
        message["From"], message["To"], message["Subject"] = self._sender, letter.email, subject
        message["Date"] = datetime.now(UTC)  # demanded by RFC 5322 §3.6, and by filters of junk mail
        message["Message-ID"] = make_msgid(domain=parseaddr(self._sender)[1].rpartition("@")[2])
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers
        message.set_content(text)
        return message


def _number(error: Exception) -> int | None:
    """Give the number of the server's answer, if it gave one; a letter has one recipient, so there is one answer."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return error.recipients[0].code
    return error.code if isinstance(error, aiosmtplib.SMTPResponseException) else None


def _is_final(error: Exception) -> bool:
    """Tell whether it is this letter that the server will never take; what it says of us, an operator can mend."""
    about_the_letter = isinstance(error, aiosmtplib.SMTPRecipientsRefused | aiosmtplib.SMTPDataError)
    return about_the_letter and (_number(error) or 0) >= _FINAL
