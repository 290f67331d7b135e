"""Turns a table of cells into the list of people to invite, whatever kind of file it came from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from services.invitations.spreadsheet import headers
from services.invitations.spreadsheet.cells import Flaw, phone_text
from services.invitations.spreadsheet.errors import FileEmpty, TooManyRows
from services.invitations.spreadsheet.headers import FIELDS, PHONE

HEADER_ROWS = 20  # A title or a logo may stand above the header.
BATCH_ROWS = 1_000
LONGEST = (64, 200, 254, 16, 500)  # characters, in the order of FIELDS
Record = TypeVar("Record")
Frame = tuple[str, Any]


class Table(Protocol[Record]):
    """Rows of cells: a sheet or a delimited text."""

    kind: str
    sheet: str
    other_sheets: tuple[str, ...]

    @property
    def hidden_rows(self) -> int:
        """Count the rows left out so far."""

    @property
    def hidden_columns(self) -> int:
        """Count the columns left out."""

    def rows(self) -> Iterator[tuple[int, Record]]:
        """Give the visible rows with their numbers."""

    def header_texts(self, rows: Sequence[tuple[int, Record]]) -> Iterator[tuple[int, Mapping[int, str]]]:
        """Give the first rows' cells by column."""

    def picker(self, columns: Mapping[int, int]) -> Callable[[Record], list[str]]:
        """Give a function that picks the wanted cells out of a row."""


def frames(table: Table[Record], limit: int) -> Iterator[Frame]:
    """Give what the child tells its parent: the header, the rows in batches, the end."""
    rows = table.rows()
    first = list(islice(rows, HEADER_ROWS))
    header = headers.recognise(table.header_texts(first))
    yield "header", _summary(table, header, 0)
    pick = table.picker(header.fields)
    below_header = chain([row for row in first if row[0] > header.row_no], rows)
    count = 0
    filled = ((row_no, cells) for row_no, record in below_header if any(cells := pick(record)))
    while batch := [_row(row_no, cells) for row_no, cells in islice(filled, BATCH_ROWS)]:
        count += len(batch)
        if count > limit:
            raise TooManyRows(f"Dosyada {limit} satırdan fazla var. Lütfen listeyi bölüp ayrı ayrı yükleyin.")
        yield "rows", batch
    if not count:
        hidden = f" {table.hidden_rows} gizli satır okunmadı." if table.hidden_rows else ""
        raise FileEmpty(FileEmpty.message + hidden)
    yield "end", _summary(table, header, count)


def _row(row_no: int, cells: list[str]) -> list[Any]:
    problems: list[tuple[str, str]] = []
    if len(cells[PHONE]) <= LONGEST[PHONE]:
        cells[PHONE] = phone_text(cells[PHONE])
    for place, cell in enumerate(cells):
        if type(cell) is Flaw:
            problems.append((FIELDS[place], cell))
            cells[place] = ""
        elif len(cell) > LONGEST[place]:
            problems.append((FIELDS[place], f"Çok uzun: en fazla {LONGEST[place]} karakter."))
            cells[place] = cell[: LONGEST[place]]
    return [row_no, *cells, problems]


def _summary(table: Table[Record], header: headers.Header, count: int) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "sheet": table.sheet,
        "mapping": header.mapping(),
        "ignored_columns": header.ignored(),
        "hidden_rows": table.hidden_rows,
        "hidden_columns": table.hidden_columns,
        "other_sheets": table.other_sheets,
        "rows": count,
    }
