"""Runbooks whose commands are tried: which commands stand in which section, and what each is said to print."""

from __future__ import annotations

import re
from pathlib import Path

Step = tuple[str, str]
"""A command and what it prints, where … stands for what differs from time to time."""


def sections(runbook: Path) -> dict[str, list[Step]]:
    """Read the commands of each section that has any."""
    found: dict[str, list[Step]] = {}
    for section in runbook.read_text().split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        blocks: list[str] = re.findall(r"```console\n(.*?)```", body, re.DOTALL)
        found[title] = [step for block in blocks for step in _steps(block)]
    return {title: steps for title, steps in found.items() if steps}


def assert_printed(step: Step, printed: str) -> None:
    """Compare line by line what a command printed with what the runbook says."""
    line, expected = step
    pattern = r"[^\n]*".join(re.escape(part) for part in expected.split("…"))
    assert re.fullmatch(pattern, printed), f"$ {line}\n{printed}\ninstead of\n{expected}"


def _steps(block: str) -> list[Step]:
    commands = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(line, output) for line, _, output in (command.partition("\n") for command in commands)]
