"""Reads an uploaded list with openpyxl and makes a task of each row; prints when it began, as seconds of the epoch."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import openpyxl
import orjson

from benchmarks.contenders.celery_invitations import invite
from benchmarks.invitations import SPONSOR
from services.invitations.domain.phones import read_phone

JOB = 1


def main(path: Path) -> dict[str, float]:
    began = time.time()
    lines = openpyxl.load_workbook(path, read_only=True).worksheets[0].iter_rows(min_row=2, values_only=True)
    with invite.app.producer_or_acquire() as producer:
        for row_no, (phone, name, email, tier, notes) in enumerate(lines, start=2):
            row = {
                "job_id": JOB,
                "row_no": row_no,
                "sponsor_id": SPONSOR,
                "phone": read_phone(str(phone)),
                "farmer_name": name,
                "email": email,
                "tier": tier,
                "notes": notes,
            }
            invite.apply_async((row,), producer=producer)
    return {"began": began}


if __name__ == "__main__":
    print(orjson.dumps(main(Path(sys.argv[1]))).decode())
