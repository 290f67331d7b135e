"""What people do in the console again and again, as their hands do it."""

from __future__ import annotations

import random
import re
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import openpyxl
from playwright.sync_api import Locator, Page, expect

from local.client import Client

_PATIENCE_SECONDS: Final = 60


@dataclass
class Console:
    """A window on the console, and the system behind it."""

    page: Page
    system: dict[str, Any]
    _api: dict[str, Client] = field(default_factory=dict)

    def sign_in(self, who: str) -> Console:
        """Sign in as one of the demo's people."""
        account = self.system["accounts"][who]
        return self.sign_in_with(account["email"], account["password"])

    def sign_in_with(self, email: str, password: str) -> Console:
        """Sign in."""
        self.page.goto("/sign-in")
        self.page.get_by_label("E-posta adresi").fill(email)
        self.page.get_by_label("Parola", exact=True).fill(password)
        with self.page.expect_navigation(url=re.compile(r"^(?!.*/sign-in$)")):
            self.page.get_by_role("button", name="Oturum aç").click()
        return self

    def open(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(path)
        return self.page

    def press(self, name: str, *, within: Locator | None = None) -> None:
        """Press a button."""
        (within or self.page).get_by_role("button", name=name, exact=True).click()

    def confirm(self, button: str, yes: str, *, within: Locator | None = None) -> None:
        """Press a button that asks, and say yes."""
        (within or self.page).locator("summary", has_text=button).first.click()
        self.press(yes, within=within)

    def sees(self, text: str | re.Pattern[str], *, seconds: float = _PATIENCE_SECONDS) -> None:
        """Wait until a text can be seen."""
        expect(self.page.get_by_text(text).first).to_be_visible(timeout=seconds * 1_000)

    def follow(self, button: str) -> None:
        """Press a button that leads to a page, and wait until that page is there."""
        with self.page.expect_navigation():
            self.press(button)

    def reload_until(self, there: Locator) -> None:
        """Open the page again until something is there that travels by the outbox and a queue."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not there.count():
            assert time.monotonic() < deadline, f"not there in {_PATIENCE_SECONDS} s: {there}"
            self.page.wait_for_timeout(200)
            self.page.reload()

    def row(self, text: str | re.Pattern[str]) -> Locator:
        """Find the row of a table that holds a text."""
        return self.page.locator("tbody tr", has_text=text).first

    def api(self, who: str = "admin") -> Client:
        """Give a client of the interface, signed in."""
        if who not in self._api:
            account = self.system["accounts"][who]
            self._api[who] = Client(self.system["gateway_url"]).sign_in(account["email"], account["password"])
        return self._api[who]

    def close(self) -> None:
        """Close every connection."""
        for client in self._api.values():
            client.http.close()

    def letter_to(self, email: str, *, but: str = "") -> str:
        """Wait for the reset token that auth delivers to an address, other than one that came before."""
        line = re.compile(rf"\[Password Reset\] Token for {re.escape(email)}: (\S+)\n")
        log = Path(self.system["logs"]["auth-worker"])
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not (found := [token for token in line.findall(log.read_text(errors="replace")) if token != but]):
            assert time.monotonic() < deadline, f"no letter to {email}"
            time.sleep(0.1)
        return str(found[-1])

    def approve(self, code: str, decision: str = "approve") -> None:
        """Decide about a device code on the sandbox's page of Microsoft."""
        sandbox = self.system["sandbox"]
        trust = ssl.create_default_context(cafile=sandbox["microsoft_ca_file"])
        with httpx.Client(base_url=sandbox["microsoft"], verify=trust, trust_env=False, timeout=60) as microsoft:
            microsoft.post("/devicelogin", data={"user_code": code, "decision": decision}).raise_for_status()


def a_name(name: str) -> str:
    """Give a name that no other test has taken."""
    return f"{name}.{random.randrange(1_000_000)}"


def phones(number: int) -> list[str]:
    """Give so many mobile numbers that no other test has taken."""
    first = random.randrange(1_000_000, 9_000_000)
    return [f"0532{first + index:07d}" for index in range(number)]


def spreadsheet(path: Path, rows: list[list[str]]) -> Path:
    """Write a list as somebody's Excel would."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    book.save(path)
    return path
