"""Cells of CSV files for people, who open them in a spreadsheet: none of them runs as a formula."""

from __future__ import annotations

import re
from typing import Final

# A spreadsheet runs a cell that begins with one of these, some of them also in full width and behind blanks
# (OWASP, CSV injection).
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%")
_ANY_START: Final = re.escape("".join(FORMULA_STARTS))
# Which character separates cells is the reader's locale's business, not the file's: a Turkish Excel begins a cell
# behind each semicolon, an English one behind each comma, whatever is quoted.
_BEHIND: Final = {other: re.compile(rf'{other}(?=[\s"]*[{_ANY_START}])') for other in ",;"}


def harmless(text: str, *, separator: str) -> str:
    """Give a text that spreadsheets take for text, in a file whose cells are separated by `,` or `;`."""
    other = ";" if separator == "," else ","
    starts_a_formula = text.startswith(FORMULA_STARTS) or text.lstrip().startswith(FORMULA_STARTS)
    shown = _BEHIND[other].sub(f"{other}'", text)
    return f"'{shown}" if starts_a_formula else shown
