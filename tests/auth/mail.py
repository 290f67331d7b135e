"""A mail server beside the tests: started, misbehaving as told, and its letters read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.processes import answers, eventually
from services.auth.mailer import SmtpDelivery

ROOT = Path(__file__).parents[2]


@contextmanager
def mail_server(port: int, file: Path, *options: str) -> Iterator[None]:
    """Run the mail server as a process of its own."""
    command = [sys.executable, "-m", "tests.auth.smtp_server", str(port), str(file), *options]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        assert eventually(lambda: answers(port), 60), "the mail server did not start"
        yield
    finally:
        process.kill()
        process.wait(timeout=60)


def letters_in(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def token_in(letter: dict[str, Any]) -> str:
    return str(letter["text"].partition("#token=")[2].split()[0])


def delivery(port: int, **changes: Any) -> SmtpDelivery:
    """Make what sends letters to this port."""
    given: dict[str, Any] = {
        "url": f"smtp://127.0.0.1:{port}",
        "sender": "Partner Hub <no-reply@hub.example.com>",
        "public_url": "https://hub.example.com",
        "timeout_seconds": 60,
        "tls_required": False,
    } | changes
    return SmtpDelivery(given.pop("url"), **given)
