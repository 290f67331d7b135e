"""What a spreadsheet says, before anybody has judged it."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Problem(NamedTuple):
    """What is wrong in one cell, for the person who typed it; `column` is the field (Phone, FarmerName, …)."""

    column: str
    reason: str


class Row(NamedTuple):
    """One visible row; `row_no` is its number as the spreadsheet program shows it. Absent cells are empty texts."""

    row_no: int
    phone_text: str
    farmer_name: str
    email: str
    package_tier: str
    notes: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What was read and what was left out; `mapping` is field → the header as it stands in the file."""

    kind: str
    sheet: str = ""
    mapping: dict[str, str] = field(default_factory=dict)
    ignored_columns: tuple[str, ...] = ()
    hidden_rows: int = 0
    hidden_columns: int = 0
    other_sheets: tuple[str, ...] = ()
    rows: int = 0
