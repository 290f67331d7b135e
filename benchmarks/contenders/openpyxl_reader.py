"""openpyxl, reading: read-only and values only, its fastest way, with the same checks of header, texts and phones."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import openpyxl
import orjson

from benchmarks.material import peak_megabytes
from services.invitations.domain.phones import read_phone
from services.invitations.spreadsheet.cells import clean
from services.invitations.spreadsheet.headers import recognise
from services.invitations.spreadsheet.rows import Row


def main(path: Path) -> dict[str, float]:
    """Read a file."""
    started = time.perf_counter()
    book = openpyxl.load_workbook(path, read_only=True)
    lines = book.worksheets[0].iter_rows(values_only=True)
    header = recognise([(1, {column: str(text) for column, text in enumerate(next(lines))})])
    columns = sorted(header.fields, key=header.fields.__getitem__)
    rows = []
    for row_no, line in enumerate(lines, start=2):
        row = Row._make((row_no, *(clean(str(line[column] or "")) for column in columns), ()))
        read_phone(row.phone_text)
        rows.append(row)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    return {"rows": len(rows), "seconds": seconds, "cpu": cpu, "megabytes": peak_megabytes()}


if __name__ == "__main__":
    print(orjson.dumps(main(Path(sys.argv[1]))).decode())
