"""What a verification says: each thing that is wrong, by its kind and its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from services.audit.domain.lines import neutralise

# A report that names this many places is long enough to act on; the count goes on.
_MOST_FINDINGS: Final = 1000
_LONGEST_DETAIL: Final = 500


class Kind(StrEnum):
    """What can be wrong with a log."""

    HASH = "HASH"
    COLUMN = "COLUMN"
    GAP = "GAP"
    LINK = "LINK"
    TAIL_SHORT = "TAIL_SHORT"
    CHECKPOINT_SIG = "CHECKPOINT_SIG"
    FORK = "FORK"
    SOURCE_GAP = "SOURCE_GAP"
    PERSONAL_KEY = "PERSONAL_KEY"
    RESULT = "RESULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where; 0 when it is no record."""

    kind: Kind
    seq: int
    detail: str

    def words(self) -> str:
        """Say it in one line."""
        return f"{self.kind} at {self.seq}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An operator's word about a finding that is understood and can't be undone, such as what a restore has lost."""

    finding: Finding
    reason: str
    os_user: str
    host: str
    acknowledged_at: datetime

    def facts(self) -> dict[str, Any]:
        """Give what is signed."""
        return asdict(self)

    def words(self) -> str:
        """Say it in one line."""
        who = f"{self.os_user} on {self.host}, {self.acknowledged_at:%Y-%m-%d}"
        return f"{self.finding.words()} (known to {who}: {neutralise(self.reason)})"


@dataclass(slots=True)
class Report:
    """The result of one verification; what an operator has acknowledged is told apart and does not count."""

    acknowledged: Mapping[Finding, Acknowledgement] = field(default_factory=dict)

    first_seq: int = 1
    last_seq: int = 0
    last_hash: str = ""
    records: int = 0
    checkpoints: int = 0
    total_findings: int = 0
    findings: list[Finding] = field(default_factory=list)
    known: list[Acknowledgement] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong that nobody knows of."""
        return self.total_findings == 0

    def add(self, kind: Kind, seq: int, detail: str) -> None:
        """Note one finding; its words may come from whoever forged the record, and are shown on terminals."""
        finding = Finding(kind, seq, neutralise(detail[:_LONGEST_DETAIL]))
        if finding in self.acknowledged:
            self.known.append(self.acknowledged[finding])
            return
        self.total_findings += 1
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """Give the shape that is stored and shown."""
        known = [{**asdict(each.finding), "reason": each.reason} for each in self.known]
        return {
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "last_hash": self.last_hash,
            "records": self.records,
            "checkpoints": self.checkpoints,
            "total_findings": self.total_findings,
            "findings": [asdict(finding) for finding in self.findings],
            "known": known,
            "ok": self.ok,
        }
