"""A .csv file as Excel and others write it: UTF-8, UTF-16 or Windows-1254; semicolon, comma or tab."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice
from typing import BinaryIO

from services.invitations.spreadsheet import headers
from services.invitations.spreadsheet.cells import LONGEST_CELL, clean
from services.invitations.spreadsheet.errors import FileDamaged, FileNotSupported, HeaderMissing

DELIMITERS = (";", ",", "\t")
HEADER_ROWS = 20
MOST_COLUMNS = 200
# A byte that no text has; Windows-1254 would take almost any file for text.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_DELIMITER_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # Excel's own way of naming the delimiter.


class Delimited:
    """A table whose every row is visible; a row's number is its line as a spreadsheet program counts it."""

    kind = "csv"
    sheet = ""
    other_sheets: tuple[str, ...] = ()
    hidden_rows = 0
    hidden_columns = 0

    def __init__(self, file: BinaryIO) -> None:
        text = _decode(file.read())
        named = _DELIMITER_LINE.match(text)
        self._skipped = 1 if named else 0
        self._text = text[named.end() :] if named else text
        self._delimiter = named[1] if named else self._find_delimiter()

    def _find_delimiter(self) -> str:
        # The one under which most columns are known: counting characters would be misled by a comma in a name.
        def known_columns(delimiter: str) -> int:
            try:
                first = [(number, row) for number, row in islice(self._records(delimiter), HEADER_ROWS)]
                return len(headers.recognise(self.header_texts(first)).fields)
            except (HeaderMissing, FileDamaged):
                return 0

        return max(DELIMITERS, key=known_columns)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Give the rows; the numbers strictly grow."""
        return self._records(self._delimiter)

    def _records(self, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(LONGEST_CELL)
        try:
            yield from enumerate(
                csv.reader(StringIO(self._text, newline=""), delimiter=delimiter), start=1 + self._skipped
            )
        except csv.Error as error:
            raise FileDamaged from error

    def header_texts(self, rows: Sequence[tuple[int, list[str]]]) -> Iterator[tuple[int, dict[int, str]]]:
        """Give the cells of the first rows by column."""
        for row_no, row in rows:
            yield row_no, {column: clean(text) for column, text in enumerate(row[:MOST_COLUMNS])}

    def picker(self, columns: Mapping[int, int]) -> Callable[[list[str]], list[str]]:
        """Give a function that picks the wanted cells out of a row; `columns` is column index → place in the result."""
        wanted = list(columns.items())

        def pick(row: list[str]) -> list[str]:
            picked = [""] * len(headers.FIELDS)
            for column, place in wanted:
                if column < len(row):
                    picked[place] = clean(row[column])
            return picked

        return pick


def _decode(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    else:
        if _BINARY.search(content):
            raise FileNotSupported
        encodings = ["utf-8-sig", "windows-1254"]
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise FileNotSupported
