"""A process that would be unsafe does not start, and says why."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.auth.settings import DEVELOPMENT_KEYS, AuthSettings
from shared.settings import SettingsInvalid

ROOT = Path(__file__).parents[2]
GOOD_KEY = base64.b64encode(os.urandom(32)).decode()
SAFE = {
    "ENVIRONMENT": "production",
    "AUTH_DATABASE_URL": "postgresql://auth:x@127.0.0.1:1/x",
    "AMQP_URL": "amqp://127.0.0.1:1",
    "AUTH_SECRET_KEYS": GOOD_KEY,
    "AUTH_RESET_DELIVERY": "smtp",
    "AUTH_SMTP_URL": "smtps://mail.example.com",
    "AUTH_PUBLIC_URL": "https://hub.example.com",
}


def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of auth as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "services.auth", *arguments],
        env={"PATH": os.environ["PATH"]} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"AUTH_RESET_DELIVERY": "log"}, "AUTH_RESET_DELIVERY=log prints reset tokens"),
        ({"AUTH_SECRET_KEYS": DEVELOPMENT_KEYS}, "AUTH_SECRET_KEYS is the default of development"),
        ({"AUTH_SECRET_KEYS": f"{GOOD_KEY},{DEVELOPMENT_KEYS}"}, "AUTH_SECRET_KEYS is the default of development"),
        ({"AUTH_SECRET_KEYS": base64.b64encode(b"short").decode()}, "AUTH_SECRET_KEYS"),
        ({"AUTH_SECRET_KEYS": base64.b64encode(b"a" * 32).decode()}, "does not look random"),
        ({"AUTH_SECRET_KEYS": "not base64!"}, "each key must be base64"),
        ({"AUTH_SECRET_KEYS": ""}, "AUTH_SECRET_KEYS"),
        ({"AUTH_SMTP_URL": ""}, "AUTH_SMTP_URL"),
        ({"AUTH_SMTP_URL": "https://mail.example.com"}, "AUTH_SMTP_URL"),
        ({"AUTH_SMTP_URL": "smtps://hub:pass/word@mail.example.com"}, "are written as %XX"),
        ({"AUTH_SMTP_FROM": "Partner Hub"}, "AUTH_SMTP_FROM: Value error, give an address"),
        ({"AUTH_PUBLIC_URL": "https://"}, "AUTH_PUBLIC_URL must be an https:// address"),
        ({"AUTH_PUBLIC_URL": "http://hub.example.com"}, "AUTH_PUBLIC_URL must be an https:// address"),
        ({"AUTH_PASSWORD_MIN_LENGTH": "7"}, "AUTH_PASSWORD_MIN_LENGTH"),
        ({"AUTH_HASH_MEMORY_KIB": "1024"}, "AUTH_HASH_MEMORY_KIB"),
        ({"AUTH_RESET_TOKEN_SECONDS": "1801"}, "AUTH_RESET_TOKEN_SECONDS"),
        ({"AUTH_PASSWORD_BLOCKLIST_FILE": "/nowhere/list.txt"}, "AUTH_PASSWORD_BLOCKLIST_FILE"),
    ],
)
def test_production_refuses_unsafe_settings(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], reason: str
) -> None:
    keys = (SAFE | change)["AUTH_SECRET_KEYS"]
    for name, value in (SAFE | change).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as ended:
        AuthSettings.load()
    assert reason in str(ended.value)
    assert not keys or keys not in str(ended.value)
    assert "pass" not in str(ended.value).replace("user:password@", "").replace("user and password", "")


def test_the_safe_settings_of_these_tests_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SAFE.items():
        monkeypatch.setenv(name, value)
    assert AuthSettings.load().environment == "production"


@pytest.mark.parametrize(
    ("role", "change", "reason"),
    [
        ("api", {"AUTH_SECRET_KEYS": DEVELOPMENT_KEYS}, "AUTH_SECRET_KEYS is the default of development"),
        ("worker", {"AUTH_RESET_DELIVERY": "log"}, "AUTH_RESET_DELIVERY=log prints reset tokens"),
    ],
)
def test_an_unsafe_process_ends_with_one_clear_line(role: str, change: dict[str, str], reason: str) -> None:
    ended = run(role, environment=SAFE | change)
    assert ended.returncode != 0
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_seed_is_refused_in_production(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text("[]")
    ended = run("seed", str(file), environment=SAFE)
    assert ended.returncode != 0
    assert "Production has no seeds" in ended.stderr
