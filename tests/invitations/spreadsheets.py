"""Builds spreadsheet files by hand, so that a test can make exactly the file that no program would write."""

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
CONTENT_TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")


def cell(reference: str, value: object) -> str:
    """One cell: a text inline, a number as a number; a text that starts with `<c` is taken as it is."""
    if isinstance(value, str):
        if value.startswith("<c"):
            return value
        return f'<c r="{reference}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{reference}"><v>{value}</v></c>'


def row(number: int, values: Sequence[object], attributes: str = "") -> str:
    """One row from column A on; None leaves a cell out."""
    cells = (cell(f"{chr(65 + column)}{number}", value) for column, value in enumerate(values) if value is not None)
    return f'<row r="{number}"{attributes and " " + attributes}>{"".join(cells)}</row>'


def sheet(rows: Iterable[str], *, before: str = "", after: str = "", namespace: str = MAIN) -> str:
    """A worksheet part."""
    return f'<worksheet xmlns="{namespace}">{before}<sheetData>{"".join(rows)}</sheetData>{after}</worksheet>'


def table(*rows: Sequence[object]) -> str:
    """A worksheet part of rows numbered from 1."""
    return sheet(row(number, values) for number, values in enumerate(rows, start=1))


def relations(items: Mapping[str, tuple[str, str]], base: str = RELATIONS) -> str:
    """A part of relationships: id → (kind, target)."""
    entries = "".join(
        f'<Relationship Id="{name}" Type="{base}/{kind}" Target="{target}"/>' for name, (kind, target) in items.items()
    )
    return f'<Relationships xmlns="{PACKAGE_RELATIONS}">{entries}</Relationships>'


def parts(worksheet: str | bytes, *, shared_strings: str | bytes | None = None) -> dict[str, str | bytes]:
    """The parts of the smallest workbook with this worksheet."""
    sheets = '<sheets><sheet name="Liste" sheetId="1" r:id="rId1"/></sheets>'
    workbook = f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}">{sheets}</workbook>'
    related = {"rId1": ("worksheet", "worksheets/sheet1.xml")}
    made: dict[str, str | bytes] = {
        "[Content_Types].xml": CONTENT_TYPES,
        "_rels/.rels": relations({"rId1": ("officeDocument", "xl/workbook.xml")}),
        "xl/workbook.xml": workbook,
        "xl/worksheets/sheet1.xml": worksheet,
    }
    if shared_strings is not None:
        made["xl/sharedStrings.xml"] = shared_strings
        related["rId2"] = ("sharedStrings", "sharedStrings.xml")
    return made | {"xl/_rels/workbook.xml.rels": relations(related)}


def zipped(contents: Mapping[str, str | bytes]) -> bytes:
    """Pack parts."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def workbook(worksheet: str | bytes, *, shared_strings: str | bytes | None = None) -> bytes:
    """A whole .xlsx file."""
    return zipped(parts(worksheet, shared_strings=shared_strings))
