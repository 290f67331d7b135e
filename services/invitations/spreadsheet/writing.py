"""Writes what sponsors download: the outcome of every row and the list to fill in. No cell runs as a formula."""

import asyncio
import csv
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import xlsxwriter

from shared.csv_cells import harmless

RESULT_HEADER = ("Row", "Phone", "FarmerName", "Email", "PackageTier", "Notes", "Status", "Reason", "InvitationLink")
RESULT_WIDTHS = (8, 18, 28, 28, 12, 30, 14, 48, 56)
TEMPLATE_HEADER = ("Phone", "FarmerName", "Email", "PackageTier", "Notes")
TEMPLATE_ROWS = 5_000  # So many rows of the template offer the list of tiers.
TIERS = ["S", "M", "L", "XL"]
EXPLANATION = (
    ("Phone", "Zorunlu. 05XXXXXXXXX veya +90XXXXXXXXXX. Bir hücreye tek numara yazın."),
    ("FarmerName", "Çiftçinin adı ve soyadı."),
    ("Email", "İsteğe bağlı."),
    ("PackageTier", "İsteğe bağlı: S, M, L veya XL."),
    ("Notes", "İsteğe bağlı."),
    ("", "Gizli satırlar ve sütunlar okunmaz. Sütunların sırası önemli değildir."),
)
# The byte order mark and the semicolon are what a Turkish Excel needs to open a .csv file by a double click.
ENCODING, SEPARATOR = "utf-8-sig", ";"
ALL_AS_TEXT = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


class ResultRow(NamedTuple):
    """One original row with what became of it."""

    row_no: int
    phone: str
    farmer_name: str
    email: str
    package_tier: str
    notes: str
    status: str
    reason: str
    link: str


_Write = Callable[[Sequence[ResultRow]], None]


async def write_results(path: Path, batches: AsyncIterable[Sequence[ResultRow]]) -> None:
    """Write the outcome of every row, as .xlsx or .csv by the name of the file, in memory that doesn't grow with it."""
    open_file = _csv_file if path.suffix == ".csv" else _xlsx_file
    opened = open_file(path)
    write = await asyncio.to_thread(opened.__enter__)
    try:
        async for rows in batches:
            await asyncio.to_thread(write, rows)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


def write_template() -> bytes:
    """Give an empty list to fill in: phones stay text, tiers are a choice, the second sheet explains."""
    content = BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True} | ALL_AS_TEXT) as workbook:
        as_text = workbook.add_format({"num_format": "@"})
        heading = workbook.add_format({"bold": True, "bg_color": "#E2EFDA", "bottom": 1})
        # No example row: it would be sent as an invitation by everybody who leaves it in.
        sheet = workbook.add_worksheet("Davetler")
        sheet.set_column(0, 0, 20, as_text)  # Excel would otherwise drop the leading 0, or write 5,42E+09.
        sheet.set_column(1, len(TEMPLATE_HEADER) - 1, 26, as_text)
        sheet.write_row(0, 0, TEMPLATE_HEADER, heading)
        sheet.freeze_panes(1, 0)
        tier_column = TEMPLATE_HEADER.index("PackageTier")
        sheet.data_validation(1, tier_column, TEMPLATE_ROWS, tier_column, {"validate": "list", "source": TIERS})
        explanation = workbook.add_worksheet("Açıklama")
        explanation.set_column(0, 0, 20)
        explanation.set_column(1, 1, 80)
        for row_index, line in enumerate(EXPLANATION):
            explanation.write_row(row_index, 0, line)
    return content.getvalue()


def _csv_file(path: Path) -> AbstractContextManager[_Write]:
    @contextmanager
    def opened() -> Iterator[_Write]:
        with path.open("w", encoding=ENCODING, newline="") as file:
            writer = csv.writer(file, delimiter=SEPARATOR)
            writer.writerow(RESULT_HEADER)
            yield lambda rows: writer.writerows([_harmless(cell) for cell in row] for row in rows)

    return opened()


def _xlsx_file(path: Path) -> AbstractContextManager[_Write]:
    @contextmanager
    def opened() -> Iterator[_Write]:
        with xlsxwriter.Workbook(str(path), {"constant_memory": True} | ALL_AS_TEXT) as workbook:
            sheet = workbook.add_worksheet("Sonuçlar")
            for column, width in enumerate(RESULT_WIDTHS):
                sheet.set_column(column, column, width)
            sheet.write_row(0, 0, RESULT_HEADER, workbook.add_format({"bold": True}))
            sheet.freeze_panes(1, 0)
            next_row = 1

            def write(rows: Sequence[ResultRow]) -> None:
                nonlocal next_row
                for row in rows:
                    sheet.write_number(next_row, 0, row.row_no)
                    for column, cell in enumerate(row[1:], start=1):
                        sheet.write_string(next_row, column, str(cell))
                    next_row += 1

            yield write

    return opened()


def _harmless(cell: object) -> object:
    return harmless(cell, separator=SEPARATOR) if isinstance(cell, str) else cell
