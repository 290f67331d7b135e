"""Letters on their way: a real client, a real mail server, and everything that goes wrong between them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from local.processes import free_port
from sandbox.microsoft.certificates import issue
from services.auth.domain.letters import RESET_PAGE, ChangedLetter, Letter, ResetLetter
from services.auth.mailer import MailRefused, MailUnavailable
from tests.auth.mail import delivery, letters_in, mail_server, token_in
from tests.support.eventually import eventually

TO = "ayse@example.com"
CHANGED = ChangedLetter(TO, "Ayşe Yılmaz")
TOKEN = "eyJ0eXAiOiJwd3Jlc2V0K2p3dCJ9.e30.c2lnbmF0dXJl"


class Office:
    """A mail server that a test starts as it likes."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.port = free_port()
        self.file = directory / "letters"
        self._stack = stack

    def open(self, *options: str) -> None:
        self._stack.enter_context(mail_server(self.port, self.file, *options))

    @property
    def letters(self) -> list[dict[str, object]]:
        return letters_in(self.file)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with ExitStack() as stack:
        yield Office(tmp_path, stack)


@pytest.fixture(autouse=True)
async def goodbyes() -> AsyncIterator[None]:
    """Outlive the goodbye of encrypted connections, which aiosmtplib does not wait for.

    A loop that ends before leaves a socket to the garbage collector, which finds it in whichever test runs then.
    """
    yield
    transports: Mapping[int, Any] = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    await eventually(lambda: all(transport._sock is None for transport in transports.values()))


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make a certificate that this process trusts, as an operator makes a private authority known."""
    chain, key = issue(tmp_path / "tls", ["localhost"])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls" / "ca.pem"))
    return ["--certificate", str(chain), "--key", str(key)]


# --- what arrives


@pytest.mark.parametrize("purpose", ["reset", "first"])
async def test_a_letter_is_whole_and_readable(office: Office, purpose: str) -> None:
    office.open()
    lifetime = timedelta(minutes=30) if purpose == "reset" else timedelta(hours=24)
    await delivery(office.port).send(ResetLetter(TO, "Ayşe Yılmaz", TOKEN, purpose, lifetime))  # type: ignore[arg-type]
    [letter] = letters_in(office.file)
    headers, text = letter["headers"], letter["text"]
    assert (letter["from"], letter["to"]) == ("no-reply@hub.example.com", [TO])
    assert (headers["from"], headers["to"]) == ("Partner Hub <no-reply@hub.example.com>", TO)
    assert " / " in headers["subject"], "Turkish and English"
    assert abs(parsedate_to_datetime(headers["date"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert headers["message-id"].endswith("@hub.example.com>")
    assert headers["auto-submitted"] == "auto-generated"
    assert "Merhaba Ayşe Yılmaz" in text
    assert "Hello Ayşe Yılmaz" in text
    assert text.count(f"https://hub.example.com{RESET_PAGE}#token={TOKEN}\n") == text.count("http") == 1
    for words in ("30 dakika", "30 minutes") if purpose == "reset" else ("24 saat", "24 hours"):
        assert words in text
    assert token_in(letter) == TOKEN
    assert TOKEN not in str(headers)


async def test_the_word_that_the_password_changed_holds_nothing_to_click(office: Office) -> None:
    office.open()
    await delivery(office.port).send(CHANGED)
    [letter] = letters_in(office.file)
    assert "http" not in letter["text"]
    assert "değişti" in letter["text"]


@pytest.mark.parametrize("name", ["Eve\r\nBcc: x@example.org", "=?utf-8?q?x?=\n", "{link} {0} %s"])
async def test_no_name_can_add_a_header_or_change_the_letter(office: Office, name: str) -> None:
    office.open()
    await delivery(office.port).send(ChangedLetter(TO, name))
    [letter] = letters_in(office.file)
    assert letter["to"] == [TO]
    assert "bcc" not in letter["headers"]


def test_no_address_can_add_a_header() -> None:
    with pytest.raises(ValueError, match=r"linefeed|newline|carriage"):
        delivery(1)._message(ChangedLetter(f"{TO}\r\nBcc: x@example.org", "Eve"))


# --- encryption and sign-in


async def test_production_sends_over_starttls_and_signs_in(office: Office, certificate: list[str]) -> None:
    office.open(*certificate, "--login", "hub:s3cr/t@x")
    await delivery(office.port, url=f"smtp://hub:s3cr%2Ft%40x@localhost:{office.port}", tls_required=True).send(CHANGED)
    [letter] = letters_in(office.file)
    assert (letter["over_tls"], letter["as"]) == (True, "hub")


async def test_a_server_that_is_encrypted_from_the_first_byte(office: Office, certificate: list[str]) -> None:
    office.open(*certificate, "--implicit-tls", "--login", "hub:secret")
    await delivery(office.port, url=f"smtps://hub:secret@127.0.0.1:{office.port}", tls_required=True).send(CHANGED)
    [letter] = letters_in(office.file)
    assert (letter["over_tls"], letter["as"]) == (True, "hub")


async def test_starttls_is_used_where_it_is_offered_though_nobody_demands_it(
    office: Office, certificate: list[str]
) -> None:
    office.open(*certificate)
    await delivery(office.port, url=f"smtp://localhost:{office.port}").send(CHANGED)
    assert letters_in(office.file)[0]["over_tls"] is True


async def test_production_tells_a_server_without_encryption_nothing(office: Office) -> None:
    office.open()
    with pytest.raises(MailUnavailable):
        await delivery(office.port, tls_required=True).send(CHANGED)
    assert office.letters == []


@pytest.mark.parametrize("options", [[], ["--implicit-tls"]])
async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    office: Office, certificate: list[str], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Somebody between us and the mail server."""
    office.open(*certificate, *options)
    mailer = delivery(office.port, url=f"{'smtps' if options else 'smtp'}://localhost:{office.port}", tls_required=True)
    monkeypatch.setenv("SSL_CERT_FILE", ssl.get_default_verify_paths().openssl_cafile)
    with pytest.raises(MailUnavailable):
        await mailer.send(CHANGED)
    assert office.letters == []
    monkeypatch.setenv("SSL_CERT_FILE", str(Path(certificate[1]).with_name("ca.pem")))
    await mailer.send(CHANGED)
    assert len(office.letters) == 1, "it was the certificate"


async def test_a_wrong_password_for_the_mail_server_is_for_an_operator_to_mend(
    office: Office, certificate: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    office.open(*certificate, "--login", "hub:right")
    with pytest.raises(MailUnavailable):
        await delivery(office.port, url=f"smtp://hub:wr0ng-one@localhost:{office.port}", tls_required=True).send(
            CHANGED
        )
    assert "SMTPAuthenticationError 535" in caplog.text
    assert "wr0ng-one" not in caplog.text
    assert office.letters == []


# --- refusals, delays


@pytest.mark.parametrize(
    ("option", "answer", "failure"),
    [
        ("--refuse-recipient", "550 5.1.1 nobody here", MailRefused),
        ("--refuse-recipient", "450 4.2.1 busy mailbox", MailUnavailable),
        ("--refuse-letter", "554 5.7.1 looks like junk", MailRefused),
        ("--refuse-letter", "451 4.3.0 try again later", MailUnavailable),
    ],
)
async def test_a_no_for_good_and_a_no_for_now_are_told_apart(
    office: Office, option: str, answer: str, failure: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    office.open(option, answer)
    letter: Letter = ResetLetter(TO, "Ayşe", TOKEN, "reset", timedelta(minutes=30))
    with pytest.raises(failure):
        await delivery(office.port).send(letter)
    assert answer[:3] in caplog.text, "an operator sees the server's number"
    assert TOKEN not in caplog.text
    assert office.letters == []


async def test_a_server_that_is_away_or_hangs_costs_no_more_than_the_timeout(office: Office) -> None:
    with pytest.raises(MailUnavailable):
        await delivery(office.port).send(CHANGED)
    office.open("--slow", "300")
    began = time.monotonic()
    with pytest.raises(MailUnavailable):
        await delivery(office.port, timeout_seconds=1).send(CHANGED)
    assert time.monotonic() - began < 60


async def test_a_server_that_thinks_for_five_seconds_gets_its_letter_through(office: Office) -> None:
    office.open("--slow", "5")
    await delivery(office.port).send(CHANGED)
    assert len(office.letters) == 1
