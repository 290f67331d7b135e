"""Rows pasted from a spreadsheet: cells apart by tabs, or by semicolons where somebody typed them."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_ROWS: Final = 1_000
# The order of the form's columns, which holds where the first line names none.
COLUMNS: Final = ("phone", "farmerName", "codeCount", "packageTier", "email", "notes")
_NAMES: Final = {
    "phone": "phone telefon telefonno gsm mobile cep ceptelefonu tel",
    "farmerName": "farmername farmer name ad adi adsoyad adisoyadi ciftci ciftciadi isim",
    "codeCount": "codecount codes count kod kodsayisi adet kodadedi",
    "packageTier": "packagetier package tier paket pakettipi",
    "email": "email mail eposta epostaadresi",
    "notes": "notes note not notlar aciklama",
}
_COLUMN_OF: Final = {word: column for column, words in _NAMES.items() for word in words.split()}
_TURKISH: Final = str.maketrans("İIıŞşĞğÜüÖöÇç", "iiissgguuoocc")
_LINE_ENDS: Final = re.compile(r"\r\n|\r")


@dataclass(frozen=True, slots=True)
class PastedRow:
    """One farmer as typed or pasted; everything is text until it is sent."""

    phone: str = ""
    farmerName: str = ""  # noqa: N815 - the interface's name
    codeCount: str = "1"  # noqa: N815 - the interface's name
    packageTier: str = ""  # noqa: N815 - the interface's name
    email: str = ""
    notes: str = ""

    @property
    def is_blank(self) -> bool:
        """Say whether nobody wrote anything into it."""
        return not (self.phone or self.farmerName or self.email or self.notes)


def read_pasted(text: str) -> list[PastedRow]:
    """Read what somebody copied out of a spreadsheet; a line of headings decides which column is which."""
    text = _LINE_ENDS.sub("\n", text.replace("\0", "")).strip("\n")
    delimiter = "\t" if "\t" in text else ";" if ";" in text else "\t"
    lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in line)]
    if not lines:
        return []
    columns: Sequence[str | None] = [_COLUMN_OF.get(_normal(cell)) for cell in lines[0]]
    if "phone" in columns:
        lines = lines[1:]
    else:
        columns = COLUMNS
    return [_row(columns, line) for line in lines[:MOST_ROWS]]


def _row(columns: Sequence[str | None], cells: Sequence[str]) -> PastedRow:
    given = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column and cell.strip()}
    return PastedRow(**given)


def _normal(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(_TURKISH).lower()
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())
