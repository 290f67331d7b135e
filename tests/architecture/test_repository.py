"""What is committed: nothing of one machine, nothing secret, no file that nobody can read in one sitting."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, parsed, texts

MOST_LINES = 400
LONGEST_FUNCTION = 60
LONGEST_OF_NINE_IN_TEN = 30
WRITTEN_BY_HAND = {".py", ".sql", ".sh", ".js", ".css", ".html", ".toml", ".yaml", ".yml", ".md", ""}
GENERATED = {ROOT / "docs" / "events.md", ROOT / "docs" / "asyncapi.yaml", ROOT / "LICENSE"}

# Written so that this file does not hold what it looks for.
FORBIDDEN = {
    "the address of a package index": r"https?://[^\s\"']*(?:pypi|pythonhosted|artifactory|nexus)|--(?:extra-)?index-url",
    "a path of one machine": r"(?<![\w.$}/:<])/(?:work|root|home|Users)/[a-z]|/tmp/[p]lan",
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE[ ]KEY-----\s*[A-Za-z0-9+/]{16}",
    "a cloud or forge token": r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{36}|xox[abp]-[0-9A-Za-z-]{10,}|sk-\w{32,})\b",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}",
    "a leftover": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]

    assert found == []


def locks() -> list[Path]:
    return sorted((ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", locks(), ids=lambda lock: lock.name)
def test_a_lock_file_pins_and_hashes_every_package_and_names_no_index(lock: Path) -> None:
    lines = [
        line for line in lock.read_text().replace("\\\n", " ").splitlines() if line and not line.startswith((" ", "#"))
    ]
    loose = [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}.*", line)]

    assert lines
    assert loose == []
    assert "://" not in lock.read_text()


def test_a_file_can_be_read_in_one_sitting() -> None:
    long = {
        str(path): lines
        for path, text in texts()
        if path.suffix in WRITTEN_BY_HAND
        and ROOT / path not in GENERATED
        and (lines := len(text.splitlines())) > MOST_LINES
    }

    assert long == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{path}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, tree in parsed("services", "shared")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    in_order = sorted(lengths.values())

    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    assert in_order[len(in_order) * 9 // 10] <= LONGEST_OF_NINE_IN_TEN


def test_a_check_that_is_suppressed_in_deployed_code_says_why() -> None:
    bare = re.compile(r"#\s?(?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[a-z-, ]+\])?)\s*$")
    unexplained = [
        f"{path}:{number}"
        for path, text in texts()
        if path.suffix == ".py" and path.parts[0] in {"services", "shared"}
        for number, (above, line) in enumerate(pairwise(["", *text.splitlines()]), start=1)
        if bare.search(line) and not above.strip().startswith("#")
    ]

    assert unexplained == []
