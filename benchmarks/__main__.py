"""`python -m benchmarks [row …]`: measure all rows, or these; prints what came out, writes benchmarks/results.json."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from benchmarks import allocation, audit, bus_in, bus_out, excel_job, gateway, reading, referrals
from benchmarks.arena import HOME, Arena, arena
from benchmarks.contest import Outcome, Row, run

RESULTS = HOME / "benchmarks" / "results.json"
ROWS: dict[str, Callable[[Arena], Row]] = {
    "bus-out": lambda servers: bus_out.row(servers, size=20_000),
    "bus-in": lambda servers: bus_in.row(servers, size=10_000),
    "audit": lambda servers: audit.row(servers, size=10_000),
    "audit-lag": lambda servers: audit.lag_row(servers, rate=500, seconds=10),
    "gateway": lambda servers: gateway.row(servers, seconds=2.0),
    "referrals": lambda servers: referrals.row(servers, size=100_000),
    "reading": lambda servers: reading.row(servers, size=100_000),
    "excel-job": lambda servers: excel_job.row(servers, size=10_000),
    "allocation": lambda servers: allocation.row(servers, recipients=200, codes_each=50),
}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"{', '.join(ROWS)}; none means all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    options = parser.parse_args()
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    with arena() as servers:
        outcomes = [run(ROWS[name](servers), options.rounds) for name in options.rows or ROWS]
    _write(outcomes, options.rounds)
    missed = [problem for outcome in outcomes for problem in outcome.missed()]
    sys.exit(f"\naims missed: {'; '.join(missed)}" if missed else 0)


def _write(outcomes: list[Outcome], rounds: int) -> None:
    results: dict[str, Any] = orjson.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    machine = {"python": platform.python_version(), "system": platform.platform(terse=True), "cores": os.cpu_count()}
    for outcome in outcomes:
        measured = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "rounds": rounds, "machine": machine}
        results[outcome.row.name] = outcome.as_json() | measured
    RESULTS.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    print(f"\nwritten to {RESULTS.relative_to(HOME)}")


if __name__ == "__main__":
    main()
