"""What lies outside the database: the copies of checkpoints, the key that signs them, and months that were exported.

Checkpoints: one file a day, signed notes one after the other. The folder should lie where the owner of the database
can't write: another disk, a mounted object store with retention, a volume of another team.
"""

from __future__ import annotations

import fcntl
import gzip
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

import orjson

from services.audit.domain.checkpoints import (
    SIGNATURE_START,
    Checkpoint,
    SigningKey,
    split_notes,
    unsigned,
)

_GZIP_MAGIC: Final = b"\x1f\x8b"
# About twenty notes.
_TAIL_BYTES: Final = 8_192


class CheckpointDirectory:
    """A folder of checkpoint files; the replicas of a service may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, checkpoints: Iterable[tuple[Checkpoint, str]]) -> None:
        """Add notes and wait until they are on the disk; an end that a crash has torn off is written anew."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for name, notes in groupby(checkpoints, key=lambda pair: f"checkpoints-{pair[0].taken_at:%Y-%m-%d}.txt"):
            with (self._folder / name).open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                file.truncate(len(_without_torn_end(file.read())))
                file.write("".join(f"{note}\n" for _, note in notes).encode())
                file.flush()
                os.fsync(file.fileno())

    def files(self, since: datetime | None = None) -> list[Callable[[], list[str]]]:
        """Give each file as it is now, or those from a day on; each gives its notes when it is called, oldest first.

        What is appended later does not show: notes and tables must be looked at as they were at one moment.
        """
        first = f"checkpoints-{since:%Y-%m-%d}.txt" if since else ""
        return [partial(_notes, path, path.stat().st_size) for path in self._paths() if path.name >= first]

    def last_number(self) -> int:
        """Give the number of the newest note; 0 when there is none.

        Files are named after a clock that may have been wrong for a while: the newest note can be in any of them.
        """
        return max(map(_last_number, self._paths()), default=0)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoints-*.txt"))


def _notes(path: Path, size: int) -> list[str]:
    with path.open("rb") as file:
        return split_notes(_without_torn_end(file.read(size)).decode(errors="replace"))


def _last_number(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = split_notes(_without_torn_end(file.read()).decode(errors="replace"))
    for note in reversed(tail):
        checkpoint = unsigned(note)
        if checkpoint is not None:  # else somebody has edited it, which verify names; the one before it counts
            return checkpoint.number
    return 0


def _without_torn_end(text: bytes) -> bytes:
    """Leave out what stands behind the last whole note: a process died, or a disk was full, in the middle of a line."""
    signature = text.rfind(b"\n" + SIGNATURE_START.encode(), 0, text.rfind(b"\n"))
    if signature < 0:
        return b""
    end = text.index(b"\n", signature + 1) + 1
    return text[: end + text.startswith(b"\n", end)]


def read_notes(path: Path) -> list[str]:
    """Read the notes that somebody kept: as they are, or in the answer in which they came; raises ValueError."""
    text = path.read_text(encoding="utf-8")
    if text.startswith("{"):
        text = str(orjson.loads(text).get("note", ""))
    notes = split_notes(text)
    if not notes:
        raise ValueError(f"{path} holds no checkpoint")
    return notes


def load_signing_key(path: Path, *, may_create: bool) -> SigningKey:
    """Read the signing key; in development a missing one is made."""
    if may_create and not path.exists():
        create_signing_key(path)
    return SigningKey.from_pem(path.read_bytes())


def create_signing_key(path: Path) -> SigningKey:
    """Write a new signing key that only we can read; keeps one that exists, whoever made it a moment ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    key = SigningKey.generate()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.pem())
        os.link(scratch, path)  # never overwrites, and never shows half a file
    except FileExistsError:
        return SigningKey.from_pem(path.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)
    return key


class Archive:
    """A folder of exported months, each a gzipped file of evidence that verifies by itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def month(self, name: str) -> Iterator[gzip.GzipFile]:
        """Write one month; the file gets its name only when all of it is on the disk, and is there when this ends."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        scratch = self._folder / f".{name}.{os.getpid()}"
        try:
            with scratch.open("wb") as file:
                with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
                    yield packed
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path_of(name))
            _sync_folder(self._folder)
        finally:
            scratch.unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """Say where a month is."""
        return self._folder / f"audit-{name}.ndjson.gz"


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk as well as the files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_export(path: Path) -> Iterator[bytes]:
    """Read an export line by line, packed or not."""
    with path.open("rb") as probe:
        packed = probe.read(2) == _GZIP_MAGIC
    with gzip.open(path) if packed else path.open("rb") as lines:
        yield from lines
