"""Against a whole running system: the commands of the runbooks as they stand there, and what reaches other services."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import stack
from local.processes import eventually
from services.auth.domain.letters import RESET_PAGE
from tests.support.pages import assert_answers, blocks
from tests.support.stacks import ROOT, run_dir

pytestmark = pytest.mark.timeout(400)

RUNBOOKS = ROOT / "docs" / "runbooks"
PASSWORDS = ("glacier trumpet walnut prism", "meadow cobalt lantern yarn")


@pytest.fixture(scope="module")
def system() -> Iterator[tuple[dict[str, Any], Path]]:
    home = run_dir("runbooks")
    with pytest.MonkeyPatch.context() as environment:
        for limit in ("SIGN_INS", "RESETS"):  # all tests come from one address
            environment.setenv(f"GATEWAY_{limit}_PER_MINUTE", "1000")
        try:
            yield stack.up(home), home
        finally:
            stack.down(home)


# --- the runbooks


def test_every_command_of_a_runbook_has_an_expected_answer() -> None:
    for page in ("password-reset.md", "break-glass.md"):
        assert len(blocks(RUNBOOKS / page)) >= 5
        assert all(expected for _, expected in blocks(RUNBOOKS / page)), page


def test_the_password_reset_runbook_works_as_written(system: tuple[dict[str, Any], Path]) -> None:
    described, _ = system
    assert_answers(
        RUNBOOKS / "password-reset.md",
        {
            "GATEWAY": described["gateway_url"],
            "EMAIL": described["accounts"]["admin"]["email"],
            "NEW_PASSWORD": PASSWORDS[0],
            "AUTH_WORKER_LOG": described["logs"]["auth-worker"],
            "DATABASE_URL": described["postgres_url"],
        },
    )


def test_the_break_glass_runbook_works_as_written(system: tuple[dict[str, Any], Path]) -> None:
    described, run_dir = system
    assert_answers(
        RUNBOOKS / "break-glass.md",
        {
            "GATEWAY": described["gateway_url"],
            "EMAIL": "emergency@example.com",
            "NEW_PASSWORD": PASSWORDS[1],
            "AUTH_DATABASE_URL": described["database_urls"]["auth"],
            "AUTH_SECRET_KEYS": (run_dir / "secrets" / "auth-key").read_text(),
        },
    )


def test_every_test_that_the_security_page_names_exists() -> None:
    """An answer that points to a test which is gone is no answer."""
    page = (ROOT / "docs" / "security.md").read_text()
    file, named = "", []
    for name, test in re.findall(r"`((?:tests/\w+/)?test_\w+\.py|…)(?:::(test_\w+))?", page):
        file = file if name == "…" else name
        named.append((file, test))
    assert len(named) > 90
    for file, test in named:
        text = (ROOT / file if "/" in file else Path(__file__).parent / file).read_text()
        assert not test or f"def {test}(" in text, f"{file}::{test}"


# --- what reaches the gateway and the other services

ELSEWHERE = "/api/v1/audit/events?limit=1"  # a route of another service: auth is not asked


@pytest.fixture
def gateway(system: tuple[dict[str, Any], Path]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system[0]["gateway_url"], trust_env=False, timeout=60) as client:
        yield client


class Person:
    """Somebody who talks to the gateway."""

    def __init__(self, described: dict[str, Any], gateway: httpx.Client, name: str) -> None:
        account = described["accounts"][name]
        self.id = account["id"]
        self.http = gateway
        credentials = {"email": account["email"], "password": account["password"]}
        answer = self.http.post("/api/v1/auth/login", json=credentials)
        assert answer.status_code == 200, answer.text
        self.tokens = answer.json()

    def call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens['access_token']}"}
        return self.http.request(method, path, json=body, headers=headers)


def reset_token_of(described: dict[str, Any], gateway: httpx.Client, email: str) -> str:
    """Ask for a reset and read the token in the worker's log, as the runbook does."""
    log, line = Path(described["logs"]["auth-worker"]), re.compile(rf"Token for {re.escape(email)}: (\S+)")
    before = len(line.findall(log.read_text()))
    assert gateway.post("/api/v1/auth/request-password-reset", json={"email": email}).status_code == 200
    assert eventually(lambda: len(line.findall(log.read_text())) > before, 60), "the token in the log"
    return str(line.findall(log.read_text())[-1])


def test_the_link_of_a_letter_opens_a_page_where_its_owner_can_also_say_it_was_not_me(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    described, _ = system
    token = reset_token_of(described, gateway, described["accounts"]["sponsor"]["email"])
    page = gateway.get(RESET_PAGE)
    assert page.status_code == 200
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["content-type"].startswith("text/html")
    form_key = re.search(r'name="form_key" value="([^"]+)"', page.text)
    assert form_key is not None
    form = {"form_key": form_key[1], "token": token}
    # Given back by hand: the client sends a cookie that is marked as secure over https only, unlike a browser at home.
    browser = {"cookie": "; ".join(cookie.split(";")[0] for cookie in page.headers.get_list("set-cookie"))}
    pressed = gateway.post("/reset-password/cancel", data=form, headers=browser)
    assert (pressed.status_code, pressed.headers.get("location")) == (303, "/sign-in?reason=reset_cancelled")
    assert "Bağlantı artık geçersiz" in gateway.get(pressed.headers["location"]).text
    refused = gateway.post("/api/v1/auth/reset-password", json={"token": token, "new_password": PASSWORDS[0]})
    assert refused.json()["code"] == "RESET_TOKEN_INVALID"
    again = gateway.post("/reset-password/cancel", data=form, headers=browser)
    assert again.status_code == 400
    assert token not in again.text


def assert_within_a_second(seconds: Callable[[], float]) -> None:
    """Measure up to three times: what else the machine does can make it longer, and never shorter."""
    measured: list[float] = []
    while len(measured) < 3 and min(measured, default=1.0) >= 1:
        measured.append(seconds())
    assert min(measured) < 1, measured


def seconds_until_refused(person: Person) -> float:
    """Measure how long a token is still good at a service that does not know of sessions."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        answer = person.call("GET", ELSEWHERE)
        if answer.status_code == 401:
            return time.monotonic() - started
        assert answer.status_code == 200, answer.text
        time.sleep(0.02)
    return time.monotonic() - started


def test_a_disabled_users_token_is_refused_at_the_gateway_within_a_second(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    described, _ = system
    admin = Person(described, gateway, "admin_without_grants")

    def disable_and_wake() -> float:
        auditor = Person(described, gateway, "auditor")
        assert auditor.call("GET", ELSEWHERE).status_code == 200
        path = f"/api/v1/auth/users/{auditor.id}"
        assert admin.call("PATCH", path, {"is_active": False}).status_code == 200
        seconds = seconds_until_refused(auditor)
        assert admin.call("PATCH", path, {"is_active": True}).status_code == 200
        # The gateway hears a moment later that the account is active again; until then nobody gets in.
        again = Person(described, gateway, "auditor")
        assert eventually(lambda: again.call("GET", ELSEWHERE).status_code == 200, 60)
        return seconds

    assert_within_a_second(disable_and_wake)


def test_a_reset_ends_every_token_everywhere_within_a_second(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    described, _ = system
    account = described["accounts"]["auditor"]

    def reset() -> float:
        auditor = Person(described, gateway, "auditor")
        assert auditor.call("GET", ELSEWHERE).status_code == 200
        token = reset_token_of(described, gateway, account["email"])
        body = {"token": token, "new_password": account["password"]}  # the same, so that other tests can sign in
        assert gateway.post("/api/v1/auth/reset-password", json=body).status_code == 200
        seconds = seconds_until_refused(auditor)
        refresh = {"refresh_token": auditor.tokens["refresh_token"]}
        assert gateway.post("/api/v1/auth/refresh", json=refresh).status_code == 401
        return seconds

    assert_within_a_second(reset)


def test_signing_out_ends_the_access_token_everywhere_within_a_second(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    described, _ = system

    def sign_out() -> float:
        here, there = Person(described, gateway, "auditor"), Person(described, gateway, "auditor")
        assert here.call("POST", "/api/v1/auth/logout").status_code == 200
        seconds = seconds_until_refused(here)
        assert there.call("GET", ELSEWHERE).status_code == 200, "the other device stays"
        return seconds

    assert_within_a_second(sign_out)


# --- what leaks nothing: the whole system's logs, the gateway's among them


def test_no_marked_secret_is_in_any_log_audit_record_metric_or_error_of_the_whole_system(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    """Also where a client puts a secret into an address, into a header or into the field of something else."""
    described, run_dir = system
    admin = Person(described, gateway, "admin_without_grants")
    marks = {f"canary-{word}-{secrets.token_hex(8)}" for word in ("osprey", "heron", "kestrel")}
    answers = [answer for mark in marks for answer in leaving(gateway, admin, mark)]
    token = reset_token_of(described, gateway, described["accounts"]["sponsor"]["email"])
    body = {"token": token, "new_password": f"{min(marks)} lantern quiver"}
    answers += [gateway.post("/api/v1/auth/reset-password", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers[-2:]] == [200, 400]
    hidden = marks | {token, admin.tokens["access_token"], admin.tokens["refresh_token"]}

    def recorded() -> str:
        pages = [admin.call("GET", "/api/v1/audit/events?limit=200&action=auth.password_reset.failed").text]
        return "\n".join([*pages, admin.call("GET", "/api/v1/audit/events?limit=200").text])

    assert eventually(lambda: "auth.password_reset.failed" in recorded(), 60), "the audit log was looked at"
    written = {str(log.relative_to(run_dir)): log.read_text(errors="replace") for log in run_dir.rglob("*.log")}
    written |= {
        f"{role} /metrics": httpx.get(url.replace("/readyz", "/metrics"), trust_env=False, timeout=60).text
        for role, url in described["health_urls"].items()
    }
    written |= {"the audit log": recorded()}
    written |= {f"an error of {answer.url.path}": answer.text for answer in answers if answer.status_code >= 400}
    assert "/api/v1/auth/login" in written["logs/gateway.log"], "the access log was looked at"
    development_only = f": {token}\n"  # the one line that settings refuse in production
    found = [
        (where, mark)
        for where, text in written.items()
        for mark in hidden
        if mark in text.replace(development_only, ": …\n")
    ]
    assert found == []


def leaving(gateway: httpx.Client, admin: Person, mark: str) -> list[httpx.Response]:
    """Leave a mark wherever a client could leave a secret by right or by mistake."""
    api = "/api/v1/auth"
    bearer = {"authorization": f"Bearer {mark}", "cookie": f"session={mark}", "x-api-key": mark}
    return [
        gateway.post(f"{api}/login", json={"email": "nobody@example.com", "password": mark}),
        gateway.post(f"{api}/login", json={"email": mark, "password": mark, "code": mark}),
        gateway.post(f"{api}/login?password={mark}", json={"email": [mark], "password": {"a": mark}}),
        gateway.post(f"{api}/refresh", json={"refresh_token": mark}),
        gateway.post(f"{api}/reset-password", json={"token": mark, "new_password": mark}),
        gateway.get(f"{api}/me?access_token={mark}", headers=bearer),
        gateway.get(f"{ELSEWHERE}&token={mark}", headers=bearer),
        gateway.get(f"/reset-password?token={mark}"),
        admin.call("POST", f"{api}/change-password", {"current_password": mark, "new_password": mark}),
        admin.call("POST", f"{api}/users", {"email": "x@example.com", "full_name": "X", "password": mark}),
    ]


@pytest.mark.slow
async def test_a_rotation_of_keys_under_load_costs_nobody_a_401(
    system: tuple[dict[str, Any], Path], gateway: httpx.Client
) -> None:
    """With the shortest lead that is allowed, a minute, in real time."""
    described, run_dir = system
    person = Person(described, gateway, "auditor")
    environment = {
        "PATH": os.environ["PATH"],
        "AUTH_DATABASE_URL": described["database_urls"]["auth"],
        "AUTH_SECRET_KEYS": (run_dir / "secrets" / "auth-key").read_text(),
        "AUTH_KEY_LEAD_SECONDS": "60",
    }
    rotate = [sys.executable, "-m", "services.auth", "rotate-keys"]
    await asyncio.to_thread(subprocess.run, rotate, env=environment, cwd=ROOT, check=True, timeout=60)
    statuses, keys, end = set(), set(), time.monotonic() + 75
    while time.monotonic() < end:
        refreshed = await asyncio.to_thread(
            person.http.post, "/api/v1/auth/refresh", json={"refresh_token": person.tokens["refresh_token"]}
        )
        assert refreshed.status_code == 200, refreshed.text
        person.tokens = refreshed.json()
        header = person.tokens["access_token"].partition(".")[0]
        keys.add(json.loads(base64.urlsafe_b64decode(header + "=="))["kid"])
        for path in (ELSEWHERE, "/api/v1/auth/me"):
            statuses.add((await asyncio.to_thread(person.call, "GET", path)).status_code)
        await asyncio.sleep(0.8)
    assert statuses == {200}
    assert len(keys) == 2, "the new key took over meanwhile"
