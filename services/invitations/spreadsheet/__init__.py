"""Spreadsheets at the border: reads what sponsors upload, in a child process that may die; writes results and template.

    async with spreadsheet.read_rows(path, limit=100_000) as reading:
        async for rows in reading:                # lists of Row, in file order
            ...
    reading.summary                               # complete once the rows are read

Leaving the block early (a preview of the first rows) ends the child. Every unreadable file is an `UnreadableFile`, 422.
"""

from services.invitations.spreadsheet.errors import (
    FileDamaged,
    FileEmpty,
    FileNotSupported,
    FileRefused,
    HeaderAmbiguous,
    HeaderMissing,
    TooManyRows,
    UnreadableFile,
)
from services.invitations.spreadsheet.reading import Reading, read_rows
from services.invitations.spreadsheet.rows import Problem, Row, Summary
from services.invitations.spreadsheet.writing import ResultRow, write_results, write_template

__all__ = [
    "FileDamaged",
    "FileEmpty",
    "FileNotSupported",
    "FileRefused",
    "HeaderAmbiguous",
    "HeaderMissing",
    "Problem",
    "Reading",
    "ResultRow",
    "Row",
    "Summary",
    "TooManyRows",
    "UnreadableFile",
    "read_rows",
    "write_results",
    "write_template",
]
