"""The first visible sheet of an .xlsx or .xlsm file: its visible rows, their cells, and what is hidden."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO
from xml.etree.ElementTree import Element

from services.invitations.spreadsheet import xml
from services.invitations.spreadsheet.cells import LONGEST_CELL, NEVER_CALCULATED, Flaw, clean, number_text, unescape
from services.invitations.spreadsheet.container import Container
from services.invitations.spreadsheet.errors import FileDamaged, FileEmpty, FileRefused
from services.invitations.spreadsheet.headers import FIELDS

MOST_ROW_NUMBER = 1_048_576
MOST_COLUMNS = 200  # Further right there is nothing to invite, only a stray cell.
MOST_CELLS = 3_000_000  # 100,000 rows of 30 columns
MOST_SHARED_STRINGS = 2_000_000
MOST_SHARED_CHARACTERS = 64 * 1024 * 1024
MOST_MERGES = 10_000
LONGEST_SHEET_NAME = 31  # Excel's own limit
MOST_SHEETS = 20  # named among those that were not read
DIGITS = "0123456789"
COLUMN = re.compile("[A-Z]{0,3}")
TRUE = frozenset({"1", "true"})
Row = Element | xml.Groups
# How Excel, LibreOffice, Google Sheets and the common libraries write strings, rows and cells.
_CELL = rb'<c r="([A-Z]{1,3})\d{1,7}"(?: s="\d++")?(?: t="([a-z]++)")?(?:/>|>(?:<v>([^<&]*+)</v>)?</c>)'
_CELLS = re.sub(rb"\((?!\?)", b"(?:", _CELL)  # the same without groups
PLAIN_CELL = re.compile(_CELL)
PLAIN_ROWS = xml.Plain(  # groups: whole, number, attributes, cells
    parent=b"sheetData",
    child=re.compile(rb'(<row r="(\d{1,10})"(' + xml.ATTRIBUTES + rb")(?:/>|>((?:" + _CELLS + rb")*+)</row>))"),
    end=b"</row>",
)
PLAIN_STRINGS = xml.Plain(  # groups: whole, text
    parent=b"sst",
    child=re.compile(rb'(<si><t(?: xml:space="preserve")?(?:/>|>([^<&]*+)</t>)</si>)'),
    end=b"</si>",
)
HIDDEN = re.compile(rb' (?:hidden="(?:1|true)"|ht="0")')
# Without a bound each of a million openings would be searched to the end of the file.
_MERGE = re.compile(rb'<(?:\w{1,20}:)?mergeCell\s[^<>]{0,100}?ref="([A-Z]{1,3})(\d{1,7}):([A-Z]{1,3})(\d{1,7})"')
_LONGEST_MERGE_TAG = 200


class Workbook:
    """A table of visible rows, in file order, each with its number as Excel shows it."""

    kind = "xlsx"

    def __init__(self, file: BinaryIO) -> None:
        self._container = Container(file)
        book = next((part for kind, part in self._container.related("").values() if kind == "officeDocument"), None)
        if book is None:
            raise FileDamaged
        parts = self._container.related(book)
        self.sheet, self.other_sheets, self._sheet_part = self._choose_sheet(book, parts)
        self._merges = self._check_sheet()
        strings = next((part for kind, part in parts.values() if kind == "sharedStrings"), None)
        self._strings = self._read_strings(strings) if strings and self._container.has(strings) else []
        self._hidden: set[int] | None = None
        self._namespace = ""
        self.hidden_rows = 0

    def _choose_sheet(self, book: str, parts: Mapping[str, tuple[str, str]]) -> tuple[str, tuple[str, ...], str]:
        visible: list[tuple[str, str]] = []
        root = self._container.document(book)
        for sheet in root.iterfind(f"{xml.namespace(root)}sheets/{xml.namespace(root)}sheet"):
            reference = next((value for name, value in sheet.items() if name.endswith("}id")), "")
            kind, part = parts.get(reference, ("", ""))
            if kind == "worksheet" and sheet.get("state", "visible") == "visible" and self._container.has(part):
                visible.append((sheet.get("name", ""), part))
        if not visible:
            raise FileEmpty("Dosyada görünür bir çalışma sayfası yok.")
        (name, part), *others = visible
        return name[:LONGEST_SHEET_NAME], tuple(other[:LONGEST_SHEET_NAME] for other, _ in others[:MOST_SHEETS]), part

    def _check_sheet(self) -> list[tuple[int, int, int]]:
        # Inflating once before reading costs a tenth of the reading, refuses a damaged file before a row of it is used,
        # and finds the merged cells, which a sheet lists only after its rows: as (column, first row, last row).
        merges: list[tuple[int, int, int]] = []
        tail = b""
        for piece in self._container.pieces(self._sheet_part):
            window = tail + piece
            if b"mergeCell" in window:
                found = (match.groups() for match in _MERGE.finditer(window))
                merges += [(column_index(left.decode()), int(top), int(bottom)) for left, top, _, bottom in found]
                if len(merges) > MOST_MERGES:
                    raise FileRefused
            tail = window[-_LONGEST_MERGE_TAG:]
        return [merge for merge in merges if merge[1] < merge[2]]

    def _read_strings(self, part: str) -> list[str]:
        strings: list[str] = []
        characters = 0
        for items in xml.children(self._container.pieces(part), lambda root: root, PLAIN_STRINGS):
            texts = [clean(unescape(_text_of(item)[:LONGEST_CELL])) for item in items]
            characters += sum(map(len, texts))
            if len(strings) + len(texts) > MOST_SHARED_STRINGS or characters > MOST_SHARED_CHARACTERS:
                raise FileRefused
            strings += texts
        return strings

    @property
    def hidden_columns(self) -> int:
        """How many columns within sight are hidden."""
        return len(self._hidden or ())

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Give the visible rows; the numbers strictly grow."""
        row_no = cells = 0
        for rows in xml.children(self._container.pieces(self._sheet_part), self._find_rows, PLAIN_ROWS):
            for row in rows:
                number, is_hidden, size = _facts_of(row)
                following = row_no + 1 if number is None else number
                if following > MOST_ROW_NUMBER:
                    raise FileRefused
                if following <= row_no:
                    raise FileDamaged
                row_no = following
                cells += size
                if cells > MOST_CELLS:
                    raise FileRefused
                if is_hidden:
                    self.hidden_rows += 1
                else:
                    yield row_no, row

    def _find_rows(self, root: Element) -> Element | None:
        if self._hidden is None:
            rows = root.find(f"{xml.namespace(root)}sheetData")
            if rows is None:
                return None
            self._namespace = xml.namespace(root)
            self._hidden = _hidden_columns(root, self._namespace)
            return rows
        return root.find(f"{self._namespace}sheetData")

    def header_texts(self, rows: Sequence[tuple[int, Row]]) -> Iterator[tuple[int, dict[int, str]]]:
        """Give the visible cells of the first rows; a vertically merged cell says its text in each of its rows."""
        visible = [index for index in range(MOST_COLUMNS) if index not in (self._hidden or ())]
        pick = self._picker({column_letters(index): index for index in visible}, MOST_COLUMNS)
        merged: dict[tuple[int, int, int], str] = {}
        for row_no, row in rows:
            texts = {index: text for index, text in enumerate(pick(row)) if text}
            for merge in self._merges:
                column, first, last = merge
                if row_no == first and column in texts:
                    merged[merge] = texts[column]
                elif first < row_no <= last and merge in merged:
                    texts[column] = merged[merge]
            yield row_no, texts

    def picker(self, columns: Mapping[int, int]) -> Callable[[Row], list[str]]:
        """Give a function that picks the wanted cells out of a row; `columns` is column index → place in the result."""
        return self._picker({column_letters(column): place for column, place in columns.items()}, len(FIELDS))

    def _picker(self, wanted: Mapping[str, int], width: int) -> Callable[[Row], list[str]]:
        wanted_bytes = {letters.encode(): place for letters, place in wanted.items()}
        strings, count = self._strings, len(self._strings)

        def pick(row: Row) -> list[str]:
            picked = [""] * width
            if isinstance(row, tuple):
                for letters, kind, value in PLAIN_CELL.findall(row[3]):
                    place = wanted_bytes.get(letters)
                    if place is None or not value:
                        continue
                    if kind == b"s" and value.isdigit() and (index := int(value)) < count:  # as nearly all cells are
                        picked[place] = strings[index]
                    else:
                        picked[place] = self._value(kind.decode() or "n", value.decode())
                return picked
            letters = ""
            for cell in row:
                reference = cell.get("r")
                letters = reference.rstrip(DIGITS) if reference else _column_after(letters)
                if letters in wanted:
                    picked[wanted[letters]] = self._text(cell)
            return picked

        return pick

    def _text(self, cell: Element) -> str:
        value, kind = cell.findtext(f"{self._namespace}v"), cell.get("t", "n")
        if value:
            return self._value(kind, value)
        inline = cell.find(f"{self._namespace}is")
        if inline is not None:
            return clean(unescape(_text_of(inline)[:LONGEST_CELL]))
        has_formula = cell.find(f"{self._namespace}f") is not None
        return NEVER_CALCULATED if has_formula and kind != "str" else ""

    def _value(self, kind: str, value: str) -> str:
        if kind == "s":
            if not value.isdecimal() or int(value) >= len(self._strings):
                raise FileDamaged
            return self._strings[int(value)]
        if kind == "n":
            return number_text(value)
        if kind == "b":
            return "TRUE" if value in TRUE else "FALSE"
        if kind == "e":
            return Flaw(f"Hücrede bir hata değeri var: {value[:16]}")
        return clean(unescape(value[:LONGEST_CELL]))


def _facts_of(row: Row) -> tuple[int | None, bool, int]:
    """Give a row's number, whether it is hidden, and how many cells it has."""
    if isinstance(row, tuple):
        _, number, attributes, cells = row
        return int(number), bool(attributes) and HIDDEN.search(attributes) is not None, cells.count(b"<c ")
    reference = row.get("r", "")
    is_hidden = row.get("hidden") in TRUE or row.get("ht") == "0"
    return int(reference) if reference.isdecimal() else None, is_hidden, len(row)


def column_letters(index: int) -> str:
    """Name a column as Excel does: 0 is A, 26 is AA."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters


def column_index(letters: str) -> int:
    """Give the number of a column: A is 0; no letters at all is the place left of A."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def _column_after(letters: str) -> str:
    if not COLUMN.fullmatch(letters):
        raise FileDamaged
    return column_letters(column_index(letters) + 1)


def _text_of(item: Row) -> str:
    if isinstance(item, tuple):
        return item[1].decode()
    # Plain text is one <t>; rich text is runs <r><t>; phonetic hints <rPh> are no part of the text.
    parts = []
    for child in item:
        name = child.tag.rpartition("}")[2]
        if name == "t":
            parts.append(child.text or "")
        elif name == "r":
            parts += [grandchild.text or "" for grandchild in child if grandchild.tag.endswith("}t")]
    return "".join(parts)


def _hidden_columns(worksheet: Element, namespace: str) -> set[int]:
    hidden: set[int] = set()
    for columns in worksheet.iterfind(f"{namespace}cols/{namespace}col"):
        if columns.get("hidden") in TRUE or columns.get("width") == "0":
            first, last = (int(columns.get(end, "0")) for end in ("min", "max"))
            hidden.update(range(max(first, 1) - 1, min(last, MOST_COLUMNS)))
    return hidden
