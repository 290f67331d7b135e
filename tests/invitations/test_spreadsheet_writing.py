"""What sponsors download: every original row with its outcome, nothing that runs, and a template that reads back."""

import csv
from collections.abc import AsyncIterator
from pathlib import Path

import openpyxl
import pytest

from services.invitations import spreadsheet
from services.invitations.spreadsheet import ResultRow
from services.invitations.spreadsheet.writing import RESULT_HEADER

LINK = "https://example.com/ref/0123456789abcdef0123456789abcdef"
SENT = ResultRow(2, "05421396386", "Ahmet Yılmaz", "a@example.com", "M", "Bölge 1", "Sent", "", LINK)
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+905421396386",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "https://example.com",
    "5421396386",
]


async def batches(*rows: ResultRow) -> AsyncIterator[list[ResultRow]]:
    for row in rows:
        yield [row]


async def rows_of(path: Path) -> list[spreadsheet.Row]:
    async with spreadsheet.read_rows(path, limit=10) as reading:
        return [row async for batch in reading for row in batch]


@pytest.mark.parametrize("cell", FORMULAS)
async def test_no_cell_of_an_xlsx_result_is_anything_but_text(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "results.xlsx"
    await spreadsheet.write_results(path, batches(SENT._replace(farmer_name=cell)))
    book = openpyxl.load_workbook(path)
    header, row = book.worksheets[0].iter_rows()
    assert [one.value for one in header] == list(RESULT_HEADER)
    assert row[0].value == 2
    assert {one.data_type for one in row[1:] if one.value is not None} == {"s"}
    assert not any(one.hyperlink for one in row)
    assert str(row[2].value).replace("_x000D_", "\r").strip() == cell.strip()


@pytest.mark.parametrize("cell", FORMULAS[:6])
async def test_no_cell_of_a_csv_result_starts_a_formula(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "results.csv"
    await spreadsheet.write_results(path, batches(SENT._replace(farmer_name=cell)))
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    lines = list(csv.reader(content.decode("utf-8-sig").splitlines(keepends=True), delimiter=";"))
    assert lines[1][2].startswith("'")


@pytest.mark.parametrize("cell", ["Ali,=cmd()", 'Ali, "@SUM(A1)', "Ali,\uff1d1"])
async def test_nor_does_it_where_commas_separate_cells(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "results.csv"
    await spreadsheet.write_results(path, batches(SENT._replace(farmer_name=cell)))
    text = path.read_text("utf-8-sig")
    assert not any(part.lstrip(' "').startswith(("=", "@", "\uff1d")) for part in text.split(","))


@pytest.mark.parametrize("name", ["results.csv", "results.xlsx"])
async def test_a_result_file_can_be_uploaded_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    await spreadsheet.write_results(path, batches(SENT, SENT._replace(row_no=3, phone="+905339876543")))
    rows = await rows_of(path)
    assert [row.phone_text for row in rows] == ["05421396386", "+905339876543"]
    assert rows[0][2:6] == SENT[2:6]


async def test_a_failing_source_leaves_no_open_file(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[list[ResultRow]]:
        yield [SENT]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await spreadsheet.write_results(tmp_path / "results.csv", failing())
    assert "Ahmet" in (tmp_path / "results.csv").read_text(encoding="utf-8-sig")


async def test_the_template_keeps_a_leading_zero_and_is_empty_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "template.xlsx"
    path.write_bytes(spreadsheet.write_template())
    with pytest.raises(spreadsheet.FileEmpty):
        await rows_of(path)
    book = openpyxl.load_workbook(path)
    assert book.worksheets[0].column_dimensions["A"].number_format == "@"
    book.worksheets[0].append(["05421396386", "Ahmet Yılmaz", None, "M"])
    book.save(path)
    rows = await rows_of(path)
    assert [row[:6] for row in rows] == [(2, "05421396386", "Ahmet Yılmaz", "", "M", "")]
