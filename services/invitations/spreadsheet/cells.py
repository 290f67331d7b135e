"""What one cell says: exact text, or the reason why it can't be used."""

import re
import unicodedata
from decimal import Decimal, InvalidOperation

LONGEST_CELL = 32_767  # Excel's own limit.
LONGEST_NUMBER = 40
# Sorting a run of combining marks takes quadratic time: a second for one cell that is full of them [measured].
COMPOSED_AT_ONCE = 64


class Flaw(str):
    """Why a cell can't be used, for the person who typed it; takes the place of the cell's text."""

    __slots__ = ()


class Number(str):
    """The exact digits of a cell that Excel stores as a number."""

    __slots__ = ()


CUT_BY_EXCEL = Flaw(
    "Numara Excel tarafından kısaltılmış (ör. 5,42E+09), rakamlar kaybolmuş. "
    "Hücreyi metin biçimine alıp numarayı yeniden yazın."
)
ROUNDED_BY_EXCEL = Flaw(
    "Numara Excel tarafından yuvarlanmış görünüyor (sonu sıfırlarla bitiyor). "
    "Doğruysa hücreyi metin biçimine alıp yeniden yazın."
)
NEVER_CALCULATED = Flaw("Hücredeki formülün sonucu dosyada yok. Formül yerine değerin kendisini yazın.")
NOT_A_NUMBER = Flaw("Hücredeki sayı okunamadı.")

# Control characters but white space, and what copying from a web page or a chat leaves: soft hyphen, Arabic letter
# mark, zero-width characters, directions, joiners, byte order mark.
_INVISIBLE = dict.fromkeys(
    code
    for first, last in (
        *((0x00, 0x08), (0x0E, 0x1B), (0x7F, 0x84), (0x86, 0x9F), (0xAD, 0xAD), (0x061C, 0x061C)),
        *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2069), (0xFEFF, 0xFEFF)),
    )
    for code in range(first, last + 1)
)
_SCIENTIFIC = re.compile(r"\+?\d+(?:[.,]\d+)?[eE][+-]?\d+")
_FORCED_TEXT = re.compile(r'="([^"]*)"')  # ="0542…" is how people keep the zero in a .csv file.
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MANY_ZEROS = "0" * 7


def clean(text: str) -> str:
    """Drop what can't be seen and make every run of white space one space."""
    # Whatever is invisible is not printable either; most cells need nothing more than this look.
    if not text.isprintable() or "  " in text:
        text = " ".join(text.translate(_INVISIBLE).split())
    text = text.strip()
    if len(text) <= COMPOSED_AT_ONCE:
        return unicodedata.normalize("NFC", text)
    pieces = (text[start : start + COMPOSED_AT_ONCE] for start in range(0, len(text), COMPOSED_AT_ONCE))
    return "".join(unicodedata.normalize("NFC", piece) for piece in pieces)


def unescape(text: str) -> str:
    """Undo OOXML's way of writing characters that XML can't hold (ECMA-376, ST_Xstring); half a surrogate stays."""
    return _ESCAPE.sub(_unescape_one, text) if "_x" in text else text


def _unescape_one(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return match[0] if "\ud800" <= character <= "\udfff" else character


def number_text(raw: str) -> str:
    """Write a stored number exactly: 5.421396386E9 is 5421396386, and 5421396386.0 is too."""
    if raw.isdecimal():
        return Number(raw)
    try:
        number = Decimal(raw)
    except InvalidOperation:
        return NOT_A_NUMBER
    # Beyond that many digits it is no number that a person typed, and 1E+999999 would become a million digits.
    if not number.is_finite() or abs(number.adjusted()) > LONGEST_NUMBER:
        return NOT_A_NUMBER
    return Number(int(number) if number == number.to_integral_value() else f"{number:f}"[:LONGEST_NUMBER])


def phone_text(cell: str) -> str:
    """Take a phone cell as written, or refuse one whose digits Excel has thrown away; never guess them."""
    if type(cell) is Number:
        return ROUNDED_BY_EXCEL if cell.endswith(_MANY_ZEROS) else cell
    if cell.isdecimal() and cell.isascii():
        return cell
    if _SCIENTIFIC.fullmatch(cell):
        return CUT_BY_EXCEL
    if forced := _FORCED_TEXT.fullmatch(cell):
        return forced[1].strip()
    return cell.removeprefix("'") if cell.isascii() else unicodedata.normalize("NFKC", cell)
