"""The import rules hold, and each of them notices when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

FOLDERS = ("services", "shared", "sandbox", "deploy", "local", "tests", "benchmarks")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

BREACHES = [
    ("strangers", "services/audit/settings.py", "import services.auth.settings"),
    (
        "strangers",
        "services/audit/settings.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import services.auth.settings",
    ),
    ("service-layers", "services/referrals/settings.py", "import services.referrals.domain"),
    ("service-layers", "services/referrals/store/syncs.py", "import services.referrals.commands"),
    ("service-layers", "services/referrals/commands/__init__.py", "import services.referrals.context"),
    ("service-layers", "services/auth/routes/keys.py", "import services.auth.consumers"),
    ("service-layers", "services/audit/utils.py", "WHATEVER = 1"),
    ("shared-below", "shared/identifiers.py", "import services.auth.settings"),
    ("shared-below", "services/auth/settings.py", "import sandbox.microsoft"),
    ("shared-below", "services/auth/settings.py", "import local.errors"),
    ("pure-domain", "services/audit/domain/chain.py", "import httpx"),
    ("pure-domain", "services/audit/domain/chain.py", "import shared.db"),
    ("commands-publish", "services/auth/routes/keys.py", "from shared import outbox"),
    ("commands-publish", "services/auth/store/keys.py", "import shared.audit"),
    ("door-bus", "services/auth/routes/keys.py", "import shared.bus"),
    ("door-rabbitmq", "services/audit/consumers.py", "import aio_pika"),
    ("door-postgres", "services/audit/commands/sealing.py", "import asyncpg"),
    ("door-msal", "services/auth/mailer.py", "import msal"),
    ("door-fastapi", "services/auth/commands/keys.py", "import fastapi"),
    ("no-cycles", "shared/identifiers.py", "import shared.events"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_the_import_rules_hold() -> None:
    result = lint(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.html", "*.gz"))
    return folder


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES)
def test_a_breach_of_an_import_rule_is_noticed(copy: Path, contract: str, file: str, line: str) -> None:
    name = next(each["name"] for each in CONTRACTS if each["id"] == contract)
    broken = copy / file
    before = broken.read_text() if broken.exists() else None
    broken.write_text(f"{before or ''}\n{line}\n")

    result = lint(copy)

    if before is None:
        broken.unlink()
    else:
        broken.write_text(before)
    verdicts = " ".join(result.stdout.split())
    assert f"{name} BROKEN" in verdicts, result.stdout + result.stderr


def test_every_import_rule_has_a_breach_that_tries_it() -> None:
    assert {contract["id"] for contract in CONTRACTS} == {contract for contract, _, _ in BREACHES}
