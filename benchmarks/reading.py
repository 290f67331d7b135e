"""reading: from an uploaded .xlsx to validated rows."""

from __future__ import annotations

import random

import xlsxwriter

from benchmarks.arena import RUN_DIR, Arena
from benchmarks.contest import Aim, Row

OURS = "our reader, in a limited child"
OPENPYXL = "openpyxl, read-only"
HEADER = ("Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes", "Tarih")
FILE = RUN_DIR / "upload.xlsx"


def row(arena: Arena, *, size: int) -> Row:
    """Read a list of `size` people."""
    _write(size)

    def contender(program: str) -> dict[str, float]:
        figures = arena.run(program, str(FILE))
        assert figures.pop("rows") == size
        return figures

    return Row(
        name="reading",
        title=f"{size:,} rows of six columns, {FILE.stat().st_size / 1e6:.1f} MB .xlsx → validated rows",
        contenders={OURS: lambda: contender("our_reader"), OPENPYXL: lambda: contender("openpyxl_reader")},
        units={"seconds": "s", "cpu": "s of CPU, start of the interpreter included", "megabytes": "MB at the peak"},
        aims=[Aim(OPENPYXL, "seconds", 3.0), Aim(OPENPYXL, "megabytes", 1.0)],
        terms=[
            "both: a process of its own; headers matched, texts cleaned, each phone checked by the same rule",
            "ours: starting the child and the rows' way back included; memory is the larger process's peak",
            "openpyxl: in-process, values only; no limits, and hidden rows too (read-only, it can't tell them)",
        ],
        less_is_better=True,
    )


def _write(size: int) -> None:
    choose = random.Random(1)
    with xlsxwriter.Workbook(str(FILE)) as workbook:
        sheet = workbook.add_worksheet("Davetler")
        day = workbook.add_format({"num_format": "dd.mm.yyyy"})
        sheet.write_row(0, 0, HEADER)
        for number in range(1, size + 1):
            sheet.write_string(number, 0, f"0542{choose.randrange(10**7):07}")
            sheet.write_string(number, 1, f"Çiftçi Örnek {number}")
            sheet.write_string(number, 2, f"ciftci{number}@example.com")
            sheet.write_string(number, 3, choose.choice(("S", "M", "L", "XL")))
            sheet.write_string(number, 4, f"Bölge {number % 81}")
            sheet.write_number(number, 5, 46_000 + number % 365, day)
