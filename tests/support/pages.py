"""Pages for operators, executed: each command of a page with what it must answer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stacks import ROOT

MARK = "@@ end of block"
DOCS = ROOT / "docs"


def blocks(page: Path, section: str = "") -> list[tuple[str, list[str]]]:
    """Give each command of a page, or of one of its sections, with the lines that it must answer."""
    text = page.read_text()
    if section:
        text = re.split(rf"^##+ {section}\n", text, maxsplit=1, flags=re.MULTILINE)[1]
        text = re.split(r"^##+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL)
    return [(command, expected.splitlines()) for command, expected in found]


def run(commands: list[tuple[str, list[str]]], environment: dict[str, str]) -> list[tuple[str, list[str], list[str]]]:
    """Run commands in one shell, as an operator does; gives each with what it must and what it did answer."""
    script = "\n".join(f"{command}\necho; echo '{MARK}'" for command, _ in commands)
    client = [str(found.parent) for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], *client])
    if shutil.which("psql", path=path) is None:
        pytest.skip("the page looks into the database with psql, which this machine does not have")
    ended = subprocess.run(
        ["bash", "-u"],
        input=script,
        env={"PATH": path, "HOME": os.environ.get("HOME", "/"), "PYTHONWARNINGS": "ignore"} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = [[line for line in text.splitlines() if line] for text in ended.stdout.split(MARK)]
    return [(command, expected, answer) for (command, expected), answer in zip(commands, answers, strict=False)]


def fits(pattern: str, line: str) -> bool:
    """Say whether a line is what the page says; … stands for anything."""
    return re.fullmatch(".*".join(re.escape(part) for part in pattern.split("…")), line) is not None


def assert_answers(page: Path, environment: dict[str, str], *, section: str = "") -> None:
    """Run all commands of a page, or of one of its sections, and compare."""
    commands = blocks(page, section)
    assert commands, f"{page.name} has no commands there"
    done = run(commands, environment)
    assert len(done) == len(commands), "every command ran"
    for command, expected, answer in done:
        assert len(answer) == len(expected), f"{command}\nanswered {answer}\ninstead of {expected}"
        for pattern, line in zip(expected, answer, strict=True):
            assert fits(pattern, line), f"{command}\nanswered {line}\ninstead of {pattern}"
