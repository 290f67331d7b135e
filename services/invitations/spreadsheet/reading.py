"""Reads an upload in a child process: a hostile file can kill only the child, and the answer is then a clear 422."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from services.invitations.spreadsheet.errors import BY_CODE, FileRefused, UnreadableFile
from services.invitations.spreadsheet.rows import Problem, Row, Summary

logger = logging.getLogger(__name__)

PROJECT_ROOT = Path(__file__).parents[3]
# The child's CPU is limited; this is for a child that does not even compute. It runs per batch, because a slow reader
# of the rows (our database) holds the child back through the pipe and must not be taken for a stuck child.
SILENCE_SECONDS = 30.0
# A batch is at most 1,000 rows of about 1,000 characters and a few reasons, each at most six bytes as JSON (\uXXXX).
LONGEST_LINE_BYTES = 16 * 1024 * 1024


class Reading:
    """The rows of one file, in batches and in file order; `summary` is complete when they have all been read."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._summary: Summary | None = None

    @property
    def summary(self) -> Summary:
        """What was read and what was left out; known from the header on, its counts final after the last row."""
        if self._summary is None:
            message = "the summary is known once the first batch has been read"
            raise RuntimeError(message)
        return self._summary

    async def __aiter__(self) -> AsyncIterator[list[Row]]:
        finished = False
        while not finished:
            kind, content = await self._next_frame()
            if kind == "rows":
                yield [Row._make((*cells, tuple(Problem(*one) for one in problems))) for *cells, problems in content]
            elif kind == "error":
                raise _as_error(**content)
            else:
                self._summary = Summary(**content)
                finished = kind == "end"

    async def _next_frame(self) -> tuple[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was opened as a pipe
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                line = await stdout.readline()
        except (TimeoutError, ValueError) as error:
            raise FileRefused from error
        if not line.endswith(b"\n"):  # The child died: a resource limit, or a fault that a hostile file provoked.
            raise FileRefused
        kind, content = orjson.loads(line)
        return kind, content


@asynccontextmanager
async def read_rows(path: Path, *, limit: int) -> AsyncIterator[Reading]:
    """Open an upload for reading, at most `limit` rows; iterate over the result for lists of `Row`."""
    with path.open("rb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-E", "-s", "-m", "services.invitations.spreadsheet.child", str(limit)),
            stdin=file,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # A trace of a hostile file's making would only flood our log.
            cwd=PROJECT_ROOT,
            env={},  # The service's secrets are none of the child's business.
            limit=LONGEST_LINE_BYTES,
        )
    try:
        yield Reading(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


def _as_error(code: str, message: str, fault: str | None = None) -> UnreadableFile:
    if fault is not None:
        logger.warning("spreadsheet_reader_fault", extra={"fault": fault})
    return BY_CODE[code](message)
