"""Lists of farmers as sponsors upload them, with the mistakes that people make."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from openpyxl import Workbook, load_workbook

CONTENT_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEADERS: Final = ("Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes")
Line = tuple[str, str, str, str, str]


def valid_rows(count: int, *, first: int) -> list[Line]:
    """Make rows that can be invited; different firsts make different farmers."""
    return [
        (f"0532 {i // 10_000:03d} {i // 100 % 100:02d} {i % 100:02d}", f"Çiftçi {i}", "", "", "")
        for i in range(first, first + count)
    ]


def faulty_rows(valid: list[Line]) -> list[Line]:
    """Make 25 rows that cannot be invited, of every usual kind."""
    landline = [(f"0242 310 11 {i:02d}", "Sabit Hat", "", "", "") for i in range(5)]
    too_short = [(f"0532 12{i}", "Eksik Numara", "", "", "") for i in range(5)]
    shortened = [(f"5,4{i}E+09", "Excel'in Kısalttığı", "", "", "") for i in range(5)]
    twice = [(line[0], f"{line[1]} (tekrar)", "", "", "") for line in valid[:5]]
    no_such_tier = [(f"0533 900 00 {i:02d}", "Yanlış Paket", "", "Z", "") for i in range(5)]
    return landline + too_short + shortened + twice + no_such_tier


def make_list(rows: list[Line]) -> bytes:
    """Write rows as an .xlsx file."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in (HEADERS, *rows):
        sheet.append(row)
    target = BytesIO()
    book.save(target)
    return target.getvalue()


def read_list(content: bytes) -> list[dict[str, object]]:
    """Read an .xlsx file as rows by header."""
    book = load_workbook(BytesIO(content), read_only=True)
    lines = book.worksheets[0].iter_rows(values_only=True)
    headers = [str(cell) for cell in next(lines)]
    return [dict(zip(headers, line, strict=True)) for line in lines]
