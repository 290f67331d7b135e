"""The zip container of an .xlsx file, opened with nothing taken on trust: every size is counted while inflating."""

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element

from services.invitations.spreadsheet import xml
from services.invitations.spreadsheet.errors import FileDamaged, FileNotSupported, FileRefused

MOST_ENTRIES = 2_000
MOST_PART_BYTES = 150 * 1024 * 1024  # 100,000 rows of 20 columns are about 80 MB.
MOST_TOTAL_BYTES = 400 * 1024 * 1024  # The sheet is inflated twice: once to check it, once to read it.
MOST_SMALL_PART_BYTES = 2 * 1024 * 1024
PIECE_BYTES = 64 * 1024
ENCRYPTED_FLAG = 0x1
# What zipfile and zlib say about a container that is not what it claims to be.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, UnicodeDecodeError)

SAVE_AS_XLSX = "Lütfen Excel'de açıp «Farklı kaydet» ile .xlsx olarak kaydedin ve yeniden yükleyin."
KINDS = (
    ("xl/workbook.bin", f".xlsb dosyaları desteklenmiyor. {SAVE_AS_XLSX}"),
    ("content.xml", f"OpenDocument (.ods) dosyaları desteklenmiyor. {SAVE_AS_XLSX}"),
    ("word/document.xml", "Bu bir Word belgesi. Lütfen listeyi .xlsx veya .csv olarak yükleyin."),
)


class Container:
    """The parts of a package by name; names are compared without case (ECMA-376 part 2)."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except BROKEN as error:
            raise FileDamaged from error
        entries = self._zip.infolist()
        if len(entries) > MOST_ENTRIES or any(entry.flag_bits & ENCRYPTED_FLAG for entry in entries):
            raise FileRefused
        self._names = {entry.filename.lower(): entry.filename for entry in entries}
        if len(self._names) != len(entries):  # Which of two parts counts is a matter of taste, so neither does.
            raise FileRefused
        self._inflated = 0
        self._refuse_other_kinds()

    def _refuse_other_kinds(self) -> None:
        for name, message in KINDS:
            if self.has(name):
                raise FileNotSupported(message)
        if not self.has("[Content_Types].xml"):
            raise FileNotSupported

    def has(self, name: str) -> bool:
        """Say whether the part is there."""
        return name.lower() in self._names

    def pieces(self, name: str, *, at_most: int = MOST_PART_BYTES) -> Iterator[bytes]:
        """Inflate a part piece by piece; the checksum is verified at its end."""
        try:
            with self._zip.open(self._names[name.lower()]) as part:
                inflated = 0
                while piece := part.read(PIECE_BYTES):
                    inflated += len(piece)
                    self._inflated += len(piece)
                    if inflated > at_most or self._inflated > MOST_TOTAL_BYTES:
                        raise FileRefused
                    yield piece
            if inflated != self._zip.getinfo(part.name).file_size:
                raise FileDamaged
        except (*BROKEN, KeyError) as error:
            raise FileDamaged from error

    def document(self, name: str) -> Element:
        """Parse a small part whole."""
        return xml.parse(self.pieces(name, at_most=MOST_SMALL_PART_BYTES))

    def related(self, source: str) -> dict[str, tuple[str, str]]:
        """Give the parts that a part refers to: relationship id → (last word of the type, part name)."""
        folder, name = posixpath.split(source)
        relationships = posixpath.join(folder, "_rels", f"{name}.rels")
        if not self.has(relationships):
            return {}
        return {
            one.get("Id", ""): (one.get("Type", "").rpartition("/")[2], _resolve(folder, one.get("Target", "")))
            for one in self.document(relationships)
            if one.get("TargetMode") != "External"
        }


def _resolve(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
