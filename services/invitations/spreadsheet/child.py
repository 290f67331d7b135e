"""The process that meets the file: reads it from standard input under hard limits and writes JSON lines.

Whatever a file does to it (memory, time, a fault in a parser) ends this process and nothing more.
"""

import gc
import resource
import sys
from collections.abc import Iterator
from typing import BinaryIO

import orjson

from services.invitations.spreadsheet.delimited import Delimited
from services.invitations.spreadsheet.errors import (
    FileDamaged,
    FileEmpty,
    FileNotSupported,
    FileRefused,
    UnreadableFile,
)
from services.invitations.spreadsheet.listing import Frame, frames
from services.invitations.spreadsheet.workbook import Workbook

MOST_FILE_BYTES = 20 * 1024 * 1024
LIMITS = (
    (resource.RLIMIT_AS, 280 * 1024 * 1024),  # the largest honest list needs 190 MB: a .csv file with one emoji in it
    (resource.RLIMIT_CPU, 10),  # seconds; 100,000 rows need about three
    (resource.RLIMIT_FSIZE, 0),  # it writes to a pipe only
    (resource.RLIMIT_NOFILE, 16),
    (resource.RLIMIT_CORE, 0),
)
SNIFFED_BYTES = 1024 * 1024
ZIP, ZIP_EMPTY = b"PK\x03\x04", b"PK\x05\x06"
COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # .xls, and the wrapper of every encrypted Office file
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
OTHERS = (b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"{\\rtf")
LOCKED = "Dosya parola korumalı. Lütfen parolayı kaldırıp yeniden yükleyin."
SAVE_AS = "Lütfen Excel'de açıp «Farklı kaydet» ile .xlsx olarak kaydedin ve yeniden yükleyin."
OLD_EXCEL = f"Eski .xls biçimi desteklenmiyor. {SAVE_AS}"
WEB_PAGE = f"Bu dosya bir Excel dosyası değil, bir web sayfası veya XML. {SAVE_AS}"


def main() -> None:
    """Read standard input; the first argument is the most rows to take."""
    for kind, most in LIMITS:
        resource.setrlimit(kind, (most, most))
    gc.disable()  # Nothing here makes cycles, and looking for them takes a quarter of the time [measured].
    limit = int(sys.argv[1])
    try:
        for frame in _frames(sys.stdin.buffer, limit):
            _write(frame)
    except UnreadableFile as error:
        _write(("error", {"code": error.code, "message": error.message}))
    except (MemoryError, RecursionError):
        _write(("error", {"code": FileRefused.code, "message": FileRefused.message}))
    # Anything else is a file that the reader was not made for. The parent answers the same and logs what it was.
    except Exception as error:  # noqa: BLE001 - the border of the process
        _write(("error", {"code": FileDamaged.code, "message": FileDamaged.message, "fault": type(error).__name__}))


def _frames(file: BinaryIO, limit: int) -> Iterator[Frame]:
    start = file.read(SNIFFED_BYTES)
    size = file.seek(0, 2)
    file.seek(0)
    if not start.strip():
        raise FileEmpty("Dosya boş.")
    if size > MOST_FILE_BYTES:
        raise FileRefused("Dosya 20 MiB sınırını aşıyor.")
    if start.startswith((ZIP, ZIP_EMPTY)):
        return frames(Workbook(file), limit)
    if start.startswith(COMPOUND_FILE):
        raise FileNotSupported(LOCKED if ENCRYPTED in file.read() else OLD_EXCEL)
    if start.startswith(OTHERS):
        raise FileNotSupported
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise FileNotSupported(WEB_PAGE)
    return frames(Delimited(file), limit)


def _write(frame: Frame) -> None:
    sys.stdout.buffer.write(orjson.dumps(frame) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
