"""What lies outside the database: the copies of checkpoints, the key that signs them, and months that were exported.

Checkpoints: one file a day, signed notes one after the other. The folder should lie where the owner of the database
can't write: another disk, a mounted object store with retention, a volume of another team.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from services.audit.domain.checkpoints import Checkpoint, SigningKey, UnreadableCheckpointError, split_notes

_GZIP_MAGIC: Final = b"\x1f\x8b"


class CheckpointDirectory:
    """A folder of checkpoint files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, checkpoint: Checkpoint, note: str) -> None:
        """Add a note and wait until it is on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        with self._file_of(checkpoint).open("a", encoding="utf-8") as file:
            file.write(note + "\n")
            file.flush()
            os.fsync(file.fileno())

    def notes(self, since: datetime | None = None) -> list[str]:
        """Give every note, oldest first, or those from a day on."""
        first = self._name_of(since) if since else ""
        files = [path for path in self._files() if path.name >= first]
        return [note for path in files for note in split_notes(path.read_text(encoding="utf-8"))]

    def last_number(self) -> int:
        """Give the number of the newest note; 0 when there is none."""
        for path in reversed(self._files()):
            for note in reversed(split_notes(path.read_text(encoding="utf-8"))):
                try:
                    return Checkpoint.parse(note.partition("\n\n")[0] + "\n").number
                except UnreadableCheckpointError:
                    continue  # a torn line at the end of a full disk; the note before it counts
        return 0

    def _file_of(self, checkpoint: Checkpoint) -> Path:
        return self._folder / self._name_of(checkpoint.taken_at)

    @staticmethod
    def _name_of(moment: datetime) -> str:
        return f"checkpoints-{moment:%Y-%m-%d}.txt"

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoints-*.txt"))


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
        """Write one month; the file gets its name only when all of it is on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        scratch = self._folder / f".{name}.{os.getpid()}"
        try:
            with scratch.open("wb") as file:
                with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
                    yield packed
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path_of(name))
        finally:
            scratch.unlink(missing_ok=True)

    def path_of(self, name: str) -> Path:
        """Say where a month is."""
        return self._folder / f"audit-{name}.ndjson.gz"


def read_export(path: Path) -> Iterator[bytes]:
    """Read an export line by line, packed or not."""
    with path.open("rb") as probe:
        packed = probe.read(2) == _GZIP_MAGIC
    with gzip.open(path) if packed else path.open("rb") as lines:
        yield from lines
