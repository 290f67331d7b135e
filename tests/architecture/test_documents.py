"""Documents are true where a program can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from local.tour.journey import STEPS
from tests.architecture.tree import ROOT, SERVICES, texts

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A path in backticks that names one file or folder of this repository.
NAMED = re.compile(
    r"`((?:services|shared|sandbox|local|tests|benchmarks|docs|requirements)/[\w./-]*|[\w-]+\.toml|Procfile)`"
)


def title(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_a_link_leads_to_something_that_exists(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    broken = [each for each in targets if "://" not in each and not (document.parent / each).exists()]

    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_a_file_that_is_named_exists(document: Path) -> None:
    missing = [name for name in NAMED.findall(document.read_text()) if not (ROOT / name).exists()]

    assert missing == []


def test_a_page_that_any_file_refers_to_exists() -> None:
    """Also those in comments of configuration and code."""
    pages = re.compile(r"docs/[\w./-]+\.md")
    missing = [
        f"{path}: {page}" for path, text in texts() for page in pages.findall(text) if not (ROOT / page).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("decision", DECISIONS, ids=title)
def test_a_decision_is_a_page_that_says_why_and_what_enforces_it(decision: Path) -> None:
    text = decision.read_text()

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
        "Alternatives",
        "Enforced by",
    ]
    assert text.startswith(f"# {decision.name[:4]} ")
    assert len(text.splitlines()) <= 60


def test_decisions_are_numbered_without_a_hole() -> None:
    assert [decision.name[:4] for decision in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]


def test_the_readme_and_the_architecture_know_every_service() -> None:
    for document in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        assert {service for service in SERVICES if f"| `{service}` |" not in document.read_text()} == set()


def test_every_command_that_the_readme_names_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    }

    assert named - targets == set()


def test_the_demo_has_the_steps_that_were_asked_for() -> None:
    assert [step.name for step in STEPS] == list("abcdefgh")
