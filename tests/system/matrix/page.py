"""docs/audit-events.md, read as data: what the page promises of each event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[3] / "docs" / "audit-events.md"
_ROW: Final = re.compile(r"^\| `(?P<action>[a-z_]+(?:\.[a-z_]+)+)` \|(?P<cells>.*)\|$", re.MULTILINE)
_ACTORS: Final = {
    "user": {"user", "admin"},  # the page says so: whoever has the role Admin is recorded as `admin`
    "account": {"user", "admin"},
    "who asked": {"user", "admin", "operator", "service"},
    "admin": {"admin"},
    "operator": {"operator"},
    "service": {"service"},
    "anonymous": {"anonymous"},
}
_TARGETS: Final = re.compile(
    r"\b(user|sign_in|partner_center_connection|sync|bulk_job|invitation|sponsor|audit_event|queue)\b"
)


@dataclass(frozen=True)
class Promise:
    """One row of the page."""

    service: str
    action: str
    actors: frozenset[str]
    targets: frozenset[str]
    outcomes: tuple[str, ...]
    severities: tuple[str, ...]
    details: frozenset[str]


def promises() -> dict[str, Promise]:
    """Give every row of the page, by action."""
    return {promise.action: promise for promise in _rows(PAGE.read_text())}


def _rows(text: str) -> Iterator[Promise]:
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        service = section.partition("\n")[0].strip()
        for row in _ROW.finditer(section):
            _, who, outcomes, severity, details = (cell.strip() for cell in row["cells"].split("|"))
            actor, _, target = who.partition("→")
            yield Promise(
                service=service,
                action=row["action"],
                actors=frozenset().union(*(kinds for word, kinds in _ACTORS.items() if word in actor)),
                targets=frozenset(_TARGETS.findall(target)),
                outcomes=tuple(dict.fromkeys(re.findall(r"\b(success|failure|denied)\b", outcomes))),
                severities=tuple(dict.fromkeys(re.findall(r"\b(info|notice|warning|critical)\b", severity))),
                # What stands behind a semicolon is there in some cases only.
                details=frozenset(re.findall(r"`(\w+)`", details.partition(";")[0])),
            )
