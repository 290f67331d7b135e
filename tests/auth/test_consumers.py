"""Letters: from the outbox through a real broker to a real mail server, whatever is down meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.processes import free_port
from services.auth.consumers import HANDLERS, deliver_reset_token, tell_owner
from services.auth.domain.letters import ResetLetter
from services.auth.mailer import LogDelivery, MailRefused, MailUnavailable
from services.auth.worker import schedules
from shared import topology
from shared.errors import Fate, fate_of
from shared.events import PasswordChanged, PasswordResetRequested
from shared.worker import Work
from tests.auth.conftest import OTHER_PASSWORD, Auth, outcome
from tests.auth.mail import delivery, letters_in, mail_server, token_in
from tests.support.eventually import eventually
from tests.support.messages import depth
from tests.support.running import running

ADMIN = "admin@example.com"


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
        return letters_in(self.file)

    async def letter(self, count: int) -> dict[str, Any]:
        """Wait for so many letters and give the last."""
        await eventually(lambda: len(self.letters()) >= count, what=f"letter {count}")
        return self.letters()[count - 1]


@pytest.fixture
async def post(auth: Auth, broker: str, tmp_path: Path) -> AsyncIterator[Post]:
    office = Post(auth, tmp_path / "letters.jsonl")
    context = replace(auth.context, mailer=delivery(office.port))
    async with running(context.database, broker, context=context, work=[Work(topology.AUTH_EVENTS, HANDLERS)]):
        yield office
    office.close()


async def test_a_forgotten_password_is_reset_by_letter(post: Post) -> None:
    post.open()
    await post.auth.add(ADMIN, "Admin")
    await post.auth.post("/request-password-reset", {"email": "Admin@Example.com"})
    letter = await post.letter(1)
    assert letter["to"] == [ADMIN]
    assert f"\nhttps://hub.example.com/reset-password#token={token_in(letter)}\n" in letter["text"]
    answer = await post.auth.post("/reset-password", {"token": token_in(letter), "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200, answer.text
    notice = await post.letter(2)
    assert notice["to"] == [ADMIN]
    assert "was changed" in notice["text"]
    assert "değişti" in notice["text"]
    assert "http" not in notice["text"]


async def test_a_mail_server_that_is_away_delays_the_letter_and_shows_in_no_answer(post: Post) -> None:
    await post.auth.add(ADMIN, "Admin")
    known = await post.auth.post("/request-password-reset", {"email": ADMIN})
    unknown = await post.auth.post("/request-password-reset", {"email": "nobody@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    await asyncio.sleep(1)
    post.open()
    letter = await post.letter(1)
    assert letter["to"] == [ADMIN]
    answer = await post.auth.post("/reset-password", {"token": token_in(letter), "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200


async def test_a_letter_that_the_mail_server_will_never_take_waits_for_a_person_and_holds_up_no_other(
    post: Post, broker: str
) -> None:
    post.open("--refuse-recipient", "550 5.1.1 nobody here")
    await post.auth.add(ADMIN, "Admin")
    await post.auth.add("other@example.com", "Admin")
    assert (await post.auth.post("/request-password-reset", {"email": ADMIN})).status_code == 200

    async def is_dead() -> bool:
        return await depth(broker, "auth.dead") == 1

    await eventually(is_dead, what="the dead letter")
    post.close()
    post.open()
    await post.auth.post("/request-password-reset", {"email": "other@example.com"})
    assert (await post.letter(1))["to"] == ["other@example.com"]


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
    evidence = (await auth.audit("auth.password_reset.delivered"))[-1]
    assert (evidence.outcome, evidence.reason) == ("denied", "a newer request was served")
    answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200


async def test_a_retry_after_a_failed_delivery_makes_a_token_that_works(auth: Auth) -> None:
    await auth.add(ADMIN, "Admin")
    away = delivery(free_port(), timeout_seconds=2)
    await auth.post("/request-password-reset", {"email": ADMIN})
    request = (await auth.events(PasswordResetRequested))[-1]
    for _ in range(7):
        with pytest.raises(MailUnavailable):
            await deliver_reset_token(replace(auth.context, mailer=away), request)
    await deliver_reset_token(auth.context, request)
    token = auth.tokens_printed(ADMIN)[-1]
    answer = await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD})
    assert answer.status_code == 200, "retries of one request are one request for the limit"


async def test_a_letter_whose_receipt_was_lost_comes_twice_and_only_the_newer_link_works(
    auth: Auth, tmp_path: Path
) -> None:
    """The mail server keeps the letter and hangs up before it says so; the message is delivered again."""
    await auth.add(ADMIN, "Admin")
    await auth.post("/request-password-reset", {"email": ADMIN})
    request = (await auth.events(PasswordResetRequested))[-1]
    port, file = free_port(), tmp_path / "letters"
    context = replace(auth.context, mailer=delivery(port))
    with mail_server(port, file, "--silent-after-taking"), pytest.raises(MailUnavailable):
        await deliver_reset_token(context, request)
    with mail_server(port, file):
        for _ in range(3):
            await deliver_reset_token(context, request)
    first, second = [token_in(letter) for letter in letters_in(file)]
    dead = await auth.post("/reset-password", {"token": first, "new_password": OTHER_PASSWORD})
    assert outcome(dead) == (400, "RESET_TOKEN_INVALID")
    assert (await auth.post("/reset-password", {"token": second, "new_password": OTHER_PASSWORD})).status_code == 200


async def test_two_workers_with_one_request_leave_one_live_token(auth: Auth, tmp_path: Path) -> None:
    """A worker loses its connection while the mail server thinks, so another one gets the message meanwhile."""
    await auth.add(ADMIN, "Admin")
    await auth.post("/request-password-reset", {"email": ADMIN})
    request = (await auth.events(PasswordResetRequested))[-1]
    port, file = free_port(), tmp_path / "letters"
    context = replace(auth.context, mailer=delivery(port))
    with mail_server(port, file, "--slow", "1"):
        await asyncio.gather(*(deliver_reset_token(context, request) for _ in range(3)))
    tokens = [token_in(letter) for letter in letters_in(file)]
    answers = [await auth.post("/reset-password", {"token": token, "new_password": OTHER_PASSWORD}) for token in tokens]
    assert [answer.status_code for answer in answers].count(200) == 1


async def test_an_address_that_the_mail_server_refuses_is_in_the_audit_log(auth: Auth, tmp_path: Path) -> None:
    await auth.add(ADMIN, "Admin")
    await auth.post("/request-password-reset", {"email": ADMIN})
    request = (await auth.events(PasswordResetRequested))[-1]
    port = free_port()
    context = replace(auth.context, mailer=delivery(port))
    refusing = mail_server(port, tmp_path / "letters", "--refuse-recipient", "550 5.1.1 nobody here")
    with refusing, pytest.raises(MailRefused) as refused:
        await deliver_reset_token(context, request)
    evidence = (await auth.audit("auth.password_reset.delivered"))[-1]
    assert (evidence.outcome, evidence.reason) == ("failure", MailRefused.message)
    assert fate_of(refused.value) is Fate.DEAD_LETTER


async def test_the_log_line_is_the_one_the_runbook_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    await LogDelivery().send(ResetLetter(ADMIN, "Ayşe", "TOKEN", "reset", timedelta(minutes=30)))
    assert capsys.readouterr().out == f"[Password Reset] Token for {ADMIN}: TOKEN\n"


async def test_the_owner_is_told_of_a_new_password(auth: Auth, caplog: pytest.LogCaptureFixture) -> None:
    account_id = await auth.add(ADMIN, "Admin")
    caplog.set_level("INFO")
    await tell_owner(auth.context, PasswordChanged(user_id=account_id, how="reset"))
    assert f"[Password Reset] Password of {ADMIN} was changed" in caplog.messages


async def test_the_schedules_of_the_worker_run(auth: Auth) -> None:
    for schedule in schedules(auth.context):
        await schedule.run()
