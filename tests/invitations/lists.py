"""Lists of farmers as people upload them, and the end of the jobs that they become."""

from __future__ import annotations

import io
from typing import Any

import xlsxwriter

from tests.invitations.stage import Stage, phone
from tests.support.eventually import eventually

HEADER = ["Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes"]
Line = list[Any]


def xlsx(lines: list[Line]) -> bytes:
    """Write a list as Excel does."""
    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"strings_to_formulas": False}) as book:
        sheet = book.add_worksheet()
        for number, line in enumerate([HEADER, *lines]):
            sheet.write_row(number, 0, line)
    return content.getvalue()


def farmers(number: int, *, first: int = 0, tier: str = "M") -> list[Line]:
    """Give so many good lines."""
    return [[phone(index), f"Çiftçi {index}", "", tier, ""] for index in range(first, first + number)]


def thousand_with_25_faults() -> list[Line]:
    """Give 1,000 lines of which 25 are faulty, spread over the file."""
    lines = farmers(1_000)
    faults: list[Line] = [
        ["0212 123 45 67", "Sabit", "", "M", ""],
        ["5,42E+09", "Kısaltılmış", "", "M", ""],
        [phone(0), "Tekrar", "", "M", ""],
        ["05421234567", "Paketsiz", "", "Z", ""],
        ["", "Numarasız", "", "M", ""],
    ]
    for index in range(25):
        lines[40 * index + 7] = list(faults[index % 5])
        if index % 5 == 3:
            lines[40 * index + 7][0] = phone(9_000 + index)
    return lines


async def finished(stage: Stage, job_id: int, **counts: int) -> dict[str, Any]:
    """Wait for a job's end."""

    async def ended() -> bool:
        progress = await stage.progress(job_id)
        return bool(progress["percent"] == 100 and progress["completedDate"])

    await eventually(ended, within=120, what=f"the end of job {job_id}")
    progress = await stage.progress(job_id)
    assert {name: number for name, number in progress["counts"].items() if number} == counts
    return progress
