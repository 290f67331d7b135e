"""The whole system behind a real browser."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from local import browser, stack
from local.stack_file import stack_file
from tests.browser.console import Console
from tests.support.stacks import run_dir

# A wait ends when its page is there; on a busy machine Playwright's own five seconds are soon over.
_PATIENCE_MILLISECONDS: Final = 60_000
_LIMITS: Final = ("SIGN_INS", "RESETS", "PUBLIC_CALLS", "ADDRESS_CALLS", "ACCOUNT_CALLS")
# What a page of ours must never cause; that a refusal is a 4xx, the browser notes as well.
_EXPECTED: Final = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="session")
def program() -> Path:
    """The Chromium of this machine: Debian's, not one that Playwright would download."""
    found = browser.find()
    if found is None:
        pytest.skip(browser.MISSING)
    return found


# For a file, not for the session: while Playwright runs, its thread has a running event loop, with which no test of
# another folder in the same process could start its own.
@pytest.fixture(scope="module")
def chromium(program: Path) -> Iterator[Browser]:
    """A real headless Chromium."""
    # Chromium's own sandbox does not work for root, as whom machines for tests often run.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        expect.set_options(timeout=_PATIENCE_MILLISECONDS)
        running = playwright.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="session")
def system(program: Path) -> Iterator[dict[str, Any]]:
    """What stack.json says of a running system; none is started for a machine without a browser.

    BROWSER_STACK names the stack.json of one that runs already (`make up`), for whoever works on a page.
    """
    assert program.exists()
    if running := os.environ.get("BROWSER_STACK"):
        yield json.loads(Path(running).read_text())
        return
    home = run_dir("browser")
    with pytest.MonkeyPatch.context() as patch:
        for limit in _LIMITS:
            patch.setenv(f"GATEWAY_{limit}_PER_MINUTE", "1000000")
        patch.setenv("INVITATIONS_RESEND_PAUSE_SECONDS", "0")
        try:
            stack.up(home)
            yield json.loads(stack_file(home).read_text())
        finally:
            stack.down(home)


@pytest.fixture
def new_page(chromium: Browser, system: dict[str, Any]) -> Iterator[Callable[..., Page]]:
    """Open a window of a browser of its own; at the end no window may have complained."""
    complaints: list[str] = []
    contexts = []

    def complain(kind: str, text: str) -> None:
        if not text.startswith(_EXPECTED):
            complaints.append(f"{kind}: {text}")

    def open_page(**options: Any) -> Page:
        context = chromium.new_context(base_url=system["gateway_url"], **({"locale": "tr-TR"} | options))
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MILLISECONDS)
        page = context.new_page()
        page.on("console", lambda message: complain(message.type, message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complain("script", str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def console(new_page: Callable[..., Page], system: dict[str, Any]) -> Iterator[Console]:
    """The console as one person uses it."""
    opened = Console(new_page(viewport={"width": 1280, "height": 800}), system)
    yield opened
    opened.close()
