"""Ours, reading: the bounded reader in its child process, each phone checked."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from pathlib import Path

import orjson

from benchmarks.material import peak_megabytes
from services.invitations import spreadsheet
from services.invitations.domain.phones import read_phone


async def main(path: Path) -> dict[str, float]:
    """Read a file."""
    started = time.perf_counter()
    count = 0
    async with spreadsheet.read_rows(path, limit=100_000) as reading:
        async for rows in reading:
            for row in rows:
                read_phone(row.phone_text)
            count += len(rows)
    seconds = time.perf_counter() - started
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    megabytes = max(peak_megabytes(), usages[1].ru_maxrss / 1024)
    return {"rows": count, "seconds": seconds, "cpu": cpu, "megabytes": megabytes}


if __name__ == "__main__":
    print(orjson.dumps(asyncio.run(main(Path(sys.argv[1])))).decode())
