"""Taking an uploaded file: streamed to disk under a name of our own, counted while it comes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.invitations.domain.bulk import MOST_FILE_BYTES, FileRequired
from services.invitations.domain.rows import LONGEST_EVIDENCE
from shared.errors import FieldError, Invalid, TooLarge

FILE_FIELD: Final = "excelFile"
_FIELDS: Final = frozenset({"channel", "customMessage", "packageTier", "consentEvidence"})
# Boundaries, part headers and the small fields come on top of the file.
_FRAME_BYTES: Final = 64 * 1024
_PIECE: Final = 256 * 1024


class FileTooLarge(TooLarge):
    """The file is larger than this door takes."""

    code = "FILE_TOO_LARGE"
    message = f"Dosya en fazla {MOST_FILE_BYTES // 1024 // 1024} MiB olabilir"


@dataclass(frozen=True, slots=True)
class Form:
    """An uploaded file on our disk, and the fields that came with it."""

    path: Path
    sha256: bytes
    fields: dict[str, str]


@asynccontextmanager
async def receive_form(request: Request, folder: Path) -> AsyncIterator[Form]:
    """Receive the file and its fields; the file is gone when the block ends."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_FILE_BYTES + _FRAME_BYTES:
        raise FileTooLarge
    parser = MultiPartParser(request.headers, _counted(request), max_files=1, max_fields=len(_FIELDS))
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Invalid(fields=[FieldError("", error.message)]) from error
    try:
        upload = form.get(FILE_FIELD)
        # A form whose file was not chosen sends an empty one without a name; one with a name is an empty file.
        if not isinstance(upload, UploadFile) or not (upload.size or upload.filename):
            raise FileRequired
        fields = _fields(form.multi_items())
        # The reader opens the file by its path; our own name for it, never the client's.
        with NamedTemporaryFile(dir=folder, prefix="upload-") as target:
            sha256 = await _copy(upload, target)
            target.flush()
            yield Form(Path(target.name), sha256, fields)
    finally:
        await form.close()


async def _counted(request: Request) -> AsyncGenerator[bytes, None]:
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > MOST_FILE_BYTES + _FRAME_BYTES:
            raise FileTooLarge
        yield piece


async def _copy(upload: UploadFile, target: Any) -> bytes:
    digest = hashlib.sha256()
    size = 0
    while piece := await upload.read(_PIECE):
        size += len(piece)
        if size > MOST_FILE_BYTES:
            raise FileTooLarge
        digest.update(piece)
        await asyncio.to_thread(target.write, piece)
    return digest.digest()


def _fields(items: list[tuple[str, Any]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in items:
        if name == FILE_FIELD:
            continue
        if name not in _FIELDS:
            raise Invalid(
                fields=[FieldError(name[:64], f"Bilinmeyen alan. Alanlar: excelFile, {', '.join(sorted(_FIELDS))}")]
            )
        if not isinstance(value, str) or name in fields or "\0" in value:
            raise Invalid(fields=[FieldError(name, "Tek bir metin olmalıdır")])
        if len(value) > LONGEST_EVIDENCE:
            raise Invalid(fields=[FieldError(name, f"En fazla {LONGEST_EVIDENCE} karakter olabilir")])
        fields[name] = value
    return fields
