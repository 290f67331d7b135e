"""The previous version of the code runs on the new schema: what a migration must not do for that."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.architecture.tree import ROOT

FORBIDDEN = {
    r"\bDROP\s+(TABLE|COLUMN|TYPE|SCHEMA|VIEW)\b": "the previous version may still use it: drop it one version later",
    r"\bRENAME\b": "the previous version knows the old name: add the new one, drop the old one a version later",
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b": "the previous version reads and writes the old type",
    r"\bSET\s+NOT\s+NULL\b": "the previous version may leave it out",
    r"\bADD\s+COLUMN\s+(?:(?!,|;|\bDEFAULT\b).)*\bNOT\s+NULL\b(?:(?!,|;|\bDEFAULT\b).)*(?=,|;)": (
        "the previous version leaves a new column out: give it a default"
    ),
}


def breaches(sql: str) -> Iterator[str]:
    """Say what a migration does that the previous version could not live with."""
    statements = re.sub(r"--[^\n]*", "", sql)
    for pattern, why in FORBIDDEN.items():
        if found := re.search(pattern, statements, re.IGNORECASE | re.DOTALL):
            yield f"{' '.join(found[0].split())}: {why}"


def test_the_previous_version_can_run_on_every_migration() -> None:
    files = [*ROOT.glob("services/*/migrations/*.sql"), *ROOT.glob("shared/migrations/*.sql")]
    found = {path.relative_to(ROOT): list(breaches(path.read_text())) for path in files}
    assert len(files) > 4
    assert {str(path): why for path, why in found.items() if why} == {}


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE jobs DROP COLUMN channel;",
        "ALTER TABLE jobs RENAME COLUMN channel TO medium;",
        "ALTER TABLE jobs RENAME TO batches;",
        "ALTER TABLE jobs ALTER COLUMN channel TYPE integer;",
        "ALTER TABLE jobs ALTER channel SET DATA TYPE integer;",
        "ALTER TABLE jobs ALTER COLUMN message SET NOT NULL;",
        "ALTER TABLE jobs ADD COLUMN weight integer NOT NULL;",
        "ALTER TABLE jobs ADD COLUMN length integer DEFAULT 1, ADD COLUMN weight integer NOT NULL;",
        "DROP TABLE jobs;",
    ],
)
def test_what_would_break_the_previous_version_is_noticed(sql: str) -> None:
    assert list(breaches(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE jobs ADD COLUMN weight integer;",
        "ALTER TABLE jobs ADD COLUMN weight integer NOT NULL DEFAULT 0;",
        "ALTER TABLE jobs ADD COLUMN weight integer DEFAULT 0 NOT NULL;",
        "CREATE TABLE parcels (id bigint NOT NULL); -- never DROP TABLE it",
        "DROP INDEX jobs_unfinished_idx;",
    ],
)
def test_what_it_can_live_with_is_let_through(sql: str) -> None:
    assert list(breaches(sql)) == []
