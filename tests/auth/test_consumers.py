"""Letters: from the outbox through a real broker to a real mail server, whatever is down meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.auth.consumers import HANDLERS, deliver_reset_token, tell_owner
from services.auth.domain.letters import ChangedLetter, ResetLetter
from services.auth.mailer import LogDelivery, MailUnavailable, SmtpDelivery
from services.auth.worker import schedules
from shared import topology
from shared.events import PasswordChanged, PasswordResetRequested
from shared.worker import Work
from tests.auth.conftest import OTHER_PASSWORD, Auth
from tests.support.eventually import eventually
from tests.support.running import running

ROOT = Path(__file__).parents[2]
ADMIN = "admin@example.com"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def mail_server(port: int, file: Path, *options: str) -> Iterator[None]:
    """Run the mail server as a process of its own."""
    command = [sys.executable, "-m", "tests.auth.smtp_server", str(port), str(file), *options]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(port: int) -> None:
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the mail server did not start")


class Post:
    """The auth service with its worker's consumers, and a mail server that may be away."""

    def __init__(self, auth: Auth, file: Path) -> None:
        self.port = free_port()
        self.file = file
        self.auth = auth
        self.servers = ExitStack()

    def open(self, *options: str) -> None:
        self.servers.enter_context(mail_server(self.port, self.file, *options))

    def close(self) -> None:
        self.servers.close()

    def letters(self) -> list[dict[str, Any]]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines]

    async def letter(self, count: int, *, within: float = 15) -> dict[str, Any]:
        """Wait for so many letters and give the last."""
        await eventually(lambda: len(self.letters()) >= count, within=within, what=f"letter {count}")
        return self.letters()[count - 1]


def token_in(letter: dict[str, Any]) -> str:
    text = letter["text"].replace("=\r\n", "").replace("=3D", "=")
    return str(text.partition("#token=")[2].split()[0])


@pytest.fixture
async def post(auth: Auth, broker: str, tmp_path: Path) -> AsyncIterator[Post]:
    office = Post(auth, tmp_path / "letters.jsonl")
    mailer = SmtpDelivery(
        f"smtp://127.0.0.1:{office.port}",
        sender="Partner Hub <no-reply@example.com>",
        public_url="https://hub.example.com",
        timeout_seconds=10,
        tls_required=False,
    )
    context = replace(auth.context, mailer=mailer)
    async with running(context.database, broker, context=context, work=[Work(topology.AUTH_EVENTS, HANDLERS)]):
        yield office
    office.close()


async def test_a_forgotten_password_is_reset_by_letter(post: Post) -> None:
    post.open()
    await post.auth.add(ADMIN, "Admin")
    await post.auth.post("/request-password-reset", {"email": "Admin@Example.com"})
    letter = await post.letter(1)
    assert letter["to"] == [ADMIN]
    assert "https://hub.example.com/reset-password#token=" in letter["text"].replace("=\r\n", "").replace("=3D", "=")
    answer = await post.auth.post("/reset-password", {"token": token_in(letter), "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200, answer.text
    notice = await post.letter(2)
    assert notice["to"] == [ADMIN]
    assert "was changed" in notice["text"]
    assert "http" not in notice["text"]


async def test_a_mail_server_that_is_away_delays_the_letter_and_shows_in_no_answer(post: Post) -> None:
    await post.auth.add(ADMIN, "Admin")
    known = await post.auth.post("/request-password-reset", {"email": ADMIN})
    unknown = await post.auth.post("/request-password-reset", {"email": "nobody@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    await asyncio.sleep(1)
    post.open()
    letter = await post.letter(1, within=30)
    assert letter["to"] == [ADMIN]
    answer = await post.auth.post("/reset-password", {"token": token_in(letter), "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200


async def test_a_link_does_not_follow_the_headers_of_the_request(post: Post) -> None:
    post.open()
    await post.auth.add(ADMIN, "Admin")
    forged = {"host": "evil.example.org", "x-forwarded-host": "evil.example.org", "forwarded": "host=evil.example.org"}
    await post.auth.post("/request-password-reset", {"email": ADMIN}, headers=forged)
    assert "evil" not in (await post.letter(1))["text"]


async def test_a_redelivered_request_sends_no_second_letter(post: Post) -> None:
    post.open()
    await post.auth.add(ADMIN, "Admin")
    await post.auth.post("/request-password-reset", {"email": ADMIN})
    await post.letter(1)
    requested_at = (await post.auth.row(await post.auth.id_of(ADMIN)))["password_reset_requested_at"]
    again = PasswordResetRequested(email=ADMIN, requested_at=requested_at)
    await eventually(lambda: _delivered(post.auth), what="the note of the delivery")
    await deliver_reset_token(post.auth.context, again)
    assert post.auth.tokens_printed(ADMIN) == []
    assert len(post.letters()) == 1


async def _delivered(auth: Auth) -> bool:
    return (await auth.row(await auth.id_of(ADMIN)))["password_reset_delivered_at"] is not None


# --- without a broker: the same handlers on their own


async def test_a_late_retry_of_an_older_request_does_not_kill_a_newer_token(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.post("/request-password-reset", {"email": ADMIN})
    older = (await auth.events(PasswordResetRequested))[-1]
    token = await auth.reset_token(ADMIN)
    await deliver_reset_token(auth.context, older)
    answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200


async def test_a_retry_after_a_failed_delivery_makes_a_token_that_works(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    away = SmtpDelivery(
        f"smtp://127.0.0.1:{free_port()}",
        sender="a@b.org",
        public_url="https://x",
        timeout_seconds=2,
        tls_required=False,
    )
    await auth.post("/request-password-reset", {"email": ADMIN})
    request = (await auth.events(PasswordResetRequested))[-1]
    for _ in range(7):
        with pytest.raises(MailUnavailable):
            await deliver_reset_token(replace(auth.context, mailer=away), request)
    await deliver_reset_token(auth.context, request)
    token = auth.tokens_printed(ADMIN)[-1]
    answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200, "retries of one request are one request for the limit"


async def test_the_log_line_is_the_one_the_runbook_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import timedelta

    await LogDelivery().send(ResetLetter(ADMIN, "Ayşe", "TOKEN", "reset", timedelta(minutes=30)))
    assert capsys.readouterr().out == f"[Password Reset] Token for {ADMIN}: TOKEN\n"


async def test_the_owner_is_told_of_a_new_password(auth: Auth, caplog: pytest.LogCaptureFixture) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    caplog.set_level("INFO")
    await tell_owner(auth.context, PasswordChanged(user_id=account_id, how="reset"))
    assert f"[Password Reset] Password of {ADMIN} was changed" in caplog.messages


@pytest.mark.parametrize("name", ["Eve\r\nBcc: x@example.org", "=?utf-8?q?x?=\n"])
def test_no_name_can_add_a_header(name: str) -> None:
    delivery = SmtpDelivery(
        "smtp://127.0.0.1", sender="a@b.org", public_url="https://x", timeout_seconds=1, tls_required=False
    )
    message = delivery._message(ChangedLetter("a@example.com", name))
    assert message["To"] == "a@example.com"
    assert message["Bcc"] is None
    with pytest.raises(ValueError, match=r"linefeed|newline|carriage"):
        delivery._message(ChangedLetter("a@example.com\r\nBcc: x@example.org", "Eve"))


async def test_a_server_that_says_no_for_now_is_asked_again(tmp_path: Path) -> None:
    port = free_port()
    delivery = SmtpDelivery(
        f"smtp://127.0.0.1:{port}", sender="a@b.org", public_url="https://x", timeout_seconds=5, tls_required=False
    )
    with mail_server(port, tmp_path / "letters", "--refuse"), pytest.raises(MailUnavailable):
        await delivery.send(ChangedLetter("a@example.com", "Ayşe"))
    demanding = SmtpDelivery(
        f"smtp://127.0.0.1:{port}", sender="a@b.org", public_url="https://x", timeout_seconds=5, tls_required=True
    )
    with mail_server(port, tmp_path / "letters"):
        await delivery.send(ChangedLetter("a@example.com", "Ayşe"))
        with pytest.raises(MailUnavailable):
            await demanding.send(ChangedLetter("a@example.com", "Ayşe"))
    assert len((tmp_path / "letters").read_text().splitlines()) == 1, "production sends nothing without TLS"


async def test_the_schedules_of_the_worker_run(auth: Auth) -> None:
    for schedule in schedules(auth.context):
        await schedule.run()
