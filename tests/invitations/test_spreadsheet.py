"""Honest files, however odd: the rows that the sponsor sees are the rows that are read."""

import zipfile
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path

import pytest

from services.invitations import spreadsheet
from services.invitations.spreadsheet import Problem, Row, Summary
from tests.invitations import spreadsheets as build

HEADER = ["Telefon", "Çiftçi Adı", "Email", "PackageTier", "Notes"]
AHMET = ["05421396386", "Ahmet Yılmaz", "ahmet@example.com", "M", "Bölge 1"]
FULL_WIDTH = "".join(chr(ord(digit) + 0xFEE0) for digit in AHMET[0])
Read = Callable[..., Awaitable[tuple[list[Row], Summary]]]


def a_row(row_no: int, cells: list[str]) -> Row:
    return Row._make((row_no, *cells, ()))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    async def read_content(content: bytes, *, limit: int = 100, name: str = "upload") -> tuple[list[Row], Summary]:
        path = tmp_path / name
        path.write_bytes(content)
        async with spreadsheet.read_rows(path, limit=limit) as reading:
            rows = [row async for batch in reading for row in batch]
        return rows, reading.summary

    return read_content


async def test_rows_come_with_the_numbers_that_excel_shows(read: Read) -> None:
    content = build.workbook(build.sheet([build.row(1, HEADER), build.row(5, AHMET), build.row(6, [None, None])]))
    rows, summary = await read(content)
    assert rows == [a_row(5, AHMET)]
    assert summary.rows == 1
    assert summary.sheet == "Liste"
    assert summary.mapping["FarmerName"] == "Çiftçi Adı"


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("TELEFON", "phone_text"),
        ("Tel. No", "phone_text"),
        ("GSM", "phone_text"),
        ("Cep Telefonu (05XXXXXXXXX)", "phone_text"),
        ("Phone *", "phone_text"),
        ("ÇİFTÇİ ADI", "farmer_name"),
        ("çiftçi adı", "farmer_name"),
        ("CIFTCI ADI", "farmer_name"),
        ("İSİM", "farmer_name"),
        ("FarmerName", "farmer_name"),
        ("E-posta", "email"),
        ("PAKET TİPİ", "package_tier"),
        ("Açıklama", "notes"),
    ],
)
async def test_a_header_is_known_in_turkish_and_english_whatever_its_case(read: Read, header: str, field: str) -> None:
    first = ["Başka", "Telefon", header] if field != "phone_text" else ["Başka", "Kod", header]
    rows, summary = await read(build.workbook(build.table(first, ["x", "05421396386", "değer"])))
    assert getattr(rows[0], field) == "değer"
    assert "Başka" in summary.ignored_columns


async def test_columns_may_stand_in_any_order(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER[::-1], AHMET[::-1])))
    assert rows == [a_row(2, AHMET)]


@pytest.mark.parametrize("stored", ["5421396386", "5.421396386E9", "5421396386.0", "5.421396386E+09"])
async def test_a_phone_stored_as_a_number_keeps_its_exact_digits(read: Read, stored: str) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, [f'<c r="A2"><v>{stored}</v></c>', "Ahmet"])))
    assert rows == [Row(2, "5421396386", "Ahmet", "", "", "")]


@pytest.mark.parametrize("text", ["5,42E+09", "5.42E+09", "9,05421E+11", "5e9"])
async def test_a_phone_cut_to_scientific_text_is_refused_with_the_reason(read: Read, text: str) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, [text, "Ahmet"])))
    assert rows[0].phone_text == ""
    assert rows[0].problems[0].column == "Phone"
    assert "kısaltılmış" in rows[0].problems[0].reason


async def test_a_rounded_number_is_refused_but_the_same_digits_as_text_are_taken(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, [5420000000, "Ahmet"], ["5420000000", "Mehmet"])))
    assert "yuvarlanmış" in rows[0].problems[0].reason
    assert rows[1] == Row(3, "5420000000", "Mehmet", "", "", "")


async def test_a_huge_exponent_is_no_number(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, ['<c r="A2"><v>1E+999999</v></c>', "Ahmet"])))
    assert rows[0].problems == (Problem("Phone", "Hücredeki sayı okunamadı."),)


async def test_invisible_characters_and_white_space_are_dropped(read: Read) -> None:
    phone, name = "\u202a0542\u00a0139 63 86\u202c\ufeff", " Ahmet\n\tYılmaz\u200b "
    rows, _ = await read(build.workbook(build.table(HEADER, [phone, name])))
    assert rows[0].phone_text == "0542 139 63 86"
    assert rows[0].farmer_name == "Ahmet Yılmaz"


async def test_full_width_digits_of_a_phone_become_plain(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, [FULL_WIDTH, "Ahmet"])))
    assert rows[0].phone_text == "05421396386"


async def test_escaped_control_characters_never_reach_the_rows(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(HEADER, ["05421396386", "Ah_x0000_met_x0041_ _xD83D_"])))
    assert rows[0].farmer_name == "AhmetA _xD83D_"


async def test_a_formula_counts_by_its_stored_value_and_is_refused_without_one(read: Read) -> None:
    stored = '<c r="A2" t="str"><f>"0"&amp;B9</f><v>05421396386</v></c>'
    never = '<c r="A3"><f>A2</f></c>'
    error = '<c r="B3" t="e"><v>#DIV/0!</v></c>'
    rows, _ = await read(build.workbook(build.table(HEADER, [stored, "Ahmet"], [never, error])))
    assert rows[0].phone_text == "05421396386"
    assert [problem.column for problem in rows[1].problems] == ["Phone", "FarmerName"]
    assert "#DIV/0!" in rows[1].problems[1].reason


async def test_hidden_rows_and_columns_are_not_read_but_counted(read: Read) -> None:
    hidden_column = '<cols><col min="3" max="4" hidden="1"/></cols>'
    rows = [build.row(1, HEADER), build.row(2, AHMET, 'hidden="1"'), build.row(3, AHMET), build.row(4, AHMET, 'ht="0"')]
    read_rows, summary = await read(build.workbook(build.sheet(rows, before=hidden_column)))
    assert read_rows == [Row(3, "05421396386", "Ahmet Yılmaz", "", "", "Bölge 1")]
    assert (summary.hidden_rows, summary.hidden_columns) == (2, 2)


async def test_the_first_visible_sheet_is_read_and_the_others_are_named(read: Read) -> None:
    sheets = "".join(
        f'<sheet name="{name}" sheetId="{number}" state="{state}" r:id="rId{number}"/>'
        for number, (name, state) in enumerate(
            [("Gizli", "hidden"), ("Liste", "visible"), ("Eski", "visible")], start=1
        )
    )
    contents = build.parts(build.table(HEADER, AHMET))
    contents["xl/workbook.xml"] = (
        f'<workbook xmlns="{build.MAIN}" xmlns:r="{build.RELATIONS}"><sheets>{sheets}</sheets></workbook>'
    )
    contents["xl/worksheets/other.xml"] = build.table(HEADER, ["0", "Yanlış"])
    related = {"rId1": "other.xml", "rId2": "sheet1.xml", "rId3": "other.xml"}
    contents["xl/_rels/workbook.xml.rels"] = build.relations(
        {name: ("worksheet", f"/xl/worksheets/{target}") for name, target in related.items()}
    )
    rows, summary = await read(build.zipped(contents))
    assert rows == [a_row(2, AHMET)]
    assert list(summary.other_sheets) == ["Eski"]


async def test_a_title_above_the_header_is_passed_over(read: Read) -> None:
    rows, _ = await read(build.workbook(build.table(["Davet Listesi 2026"], [], HEADER, AHMET)))
    assert rows == [a_row(4, AHMET)]


async def test_a_merged_header_says_its_text_in_each_of_its_rows(read: Read) -> None:
    first, second = ["Telefon", "Çiftçi"], [None, "Adı", "Notlar"]
    merged = '<mergeCells count="2"><mergeCell ref="A1:A2"/><mergeCell ref="B1:C1"/></mergeCells>'
    rows = [build.row(1, first), build.row(2, second), build.row(3, ["05421396386", "Ahmet", "not"])]
    read_rows, summary = await read(build.workbook(build.sheet(rows, after=merged)))
    assert read_rows == [Row(3, "05421396386", "Ahmet", "", "", "not")]
    assert summary.mapping == {"Phone": "Telefon", "FarmerName": "Adı", "Notes": "Notlar"}


async def test_two_columns_for_one_field_are_an_error_of_the_file(read: Read) -> None:
    with pytest.raises(spreadsheet.HeaderAmbiguous, match="«Telefon», «GSM»"):
        await read(build.workbook(build.table(["Telefon", "GSM", "Ad"], ["1", "2", "3"])))


async def test_a_file_without_a_phone_column_says_what_it_found(read: Read) -> None:
    with pytest.raises(spreadsheet.HeaderMissing, match="Bulunan ilk satır: 05421396386, Ahmet") as raised:
        await read(build.workbook(build.table(["05421396386", "Ahmet"])))
    assert raised.value.status == 422
    assert raised.value.fields[0].field == "excelFile"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  \n",
        build.workbook(build.table(HEADER)),
        build.workbook(build.sheet([build.row(1, HEADER), build.row(2, AHMET, 'hidden="1"')])),
        b"Telefon;Ad\n;\n",
    ],
    ids=["no byte", "blank", "header only", "all rows hidden", "csv of blank cells"],
)
async def test_a_file_without_rows_is_refused(read: Read, content: bytes) -> None:
    with pytest.raises(spreadsheet.FileEmpty):
        await read(content)


async def test_one_row_more_than_the_limit_is_refused_and_the_limit_itself_is_not(read: Read) -> None:
    content = build.workbook(build.table(HEADER, *[AHMET] * 700))
    rows, _ = await read(content, limit=700)
    assert [row.row_no for row in rows] == list(range(2, 702))
    with pytest.raises(spreadsheet.TooManyRows, match="699"):
        await read(content, limit=699)


async def test_shared_strings_rich_text_and_phonetic_hints_are_read_as_excel_shows_them(read: Read) -> None:
    strings = (
        f'<sst xmlns="{build.MAIN}" uniqueCount="4294967295"><si><t>Telefon</t></si><si><t>Ad</t></si>'
        "<si><r><t>Ah</t></r><r><t>met</t></r></si>"
        "<si><t>05421396386</t><rPh sb='0' eb='1'><t>gizli</t></rPh></si></sst>"
    )
    cells = [[f'<c r="{column}{number}" t="s"><v>{index}</v></c>' for column, index in pair] for number, pair in
             [(1, (("A", 0), ("B", 1))), (2, (("A", 3), ("B", 2)))]]  # fmt: skip
    rows, _ = await read(build.workbook(build.table(*cells), shared_strings=strings))
    assert rows == [Row(2, "05421396386", "Ahmet", "", "", "")]


async def test_strict_files_prefixed_tags_and_cells_without_references_are_read(read: Read) -> None:
    strict = build.table(HEADER, AHMET).replace(build.MAIN, "http://purl.oclc.org/ooxml/spreadsheetml/main")
    rows, _ = await read(build.workbook(strict))
    assert rows == [a_row(2, AHMET)]
    prefixed = (
        f'<x:worksheet xmlns:x="{build.MAIN}"><x:sheetData>'
        '<x:row><x:c t="str"><x:v>Telefon</x:v></x:c><x:c t="str"><x:v>Ad</x:v></x:c></x:row>'
        '<x:row><x:c t="str"><x:v>05421396386</x:v></x:c><x:c t="str"><x:v>Ahmet</x:v></x:c></x:row>'
        "</x:sheetData></x:worksheet>"
    )
    rows, _ = await read(build.workbook(prefixed))
    assert rows == [Row(2, "05421396386", "Ahmet", "", "", "")]


ROW_3 = '<row r="3"'
WRITTEN_OTHERWISE = {
    "as it is": ("", ""),
    "comment at the start": ("<sheetData>", "<sheetData><!-- <row r='1'/> -->"),
    "comment in the middle": (ROW_3, f"<!-- -->{ROW_3}"),
    "white space": ("</row>", "</row>\n  "),
    "single quotes": (ROW_3, "<row r='3'"),
    "entity": ("<v>3</v>", "<v>&#51;</v>"),
    "character data": ("<v>3</v>", "<v><![CDATA[3]]></v>"),
    "unknown attribute": (ROW_3, f"{ROW_3} x:y='1' xmlns:x='urn:x'"),
    "unknown child": ('</row><row r="3"', '<extra/></row><row r="3"'),
    "attribute of the parent": ("<sheetData>", "<sheetData ><!--<sheetData>--><!-- x -->"),
    "late prolog": ("<worksheet", "<!-- <sheetData> --><worksheet"),
}


@pytest.mark.parametrize("difference", WRITTEN_OTHERWISE)
async def test_a_sheet_reads_the_same_however_its_xml_is_written(read: Read, difference: str) -> None:
    def shared(number: int, *cells: tuple[str, int]) -> str:
        written = "".join(f'<c r="{column}{number}" s="1" t="s"><v>{index}</v></c>' for column, index in cells)
        return f'<row r="{number}" spans="1:3">{written}<c r="E{number}" s="2"/></row>'

    number = '<c r="A4"><v>5421396386</v></c><c r="B4" t="str"><v>Ahmet</v></c>'
    rows = [
        *(shared(1, ("A", 0), ("B", 1)), shared(2, ("A", 2), ("B", 3)), shared(3, ("A", 3), ("B", 2))),
        *(f'<row r="4">{number}</row>', '<row r="5"/>', f'<row r="6" hidden="1">{number}</row>'),
        shared(7, ("B", 3), ("A", 2)),
    ]
    texts = ["Telefon", "Ad", "0542", "Ayşe &amp; Oğulları", ""]
    strings = f'<sst xmlns="{build.MAIN}">{"".join(f"<si><t>{text}</t></si>" for text in texts)}</sst>'
    sheet = build.sheet(rows)
    old, new = WRITTEN_OTHERWISE[difference]
    assert old in sheet
    read_rows, summary = await read(build.workbook(sheet.replace(old, new), shared_strings=strings))
    assert [row[:3] for row in read_rows] == [
        (2, "0542", "Ayşe & Oğulları"),
        (3, "Ayşe & Oğulları", "0542"),
        (4, "5421396386", "Ahmet"),
        (7, "0542", "Ayşe & Oğulları"),
    ]
    assert summary.hidden_rows == 1


@pytest.mark.parametrize("encoding", ["iso-8859-9", "utf-16"])
async def test_a_sheet_in_another_encoding_is_read_by_its_declaration(read: Read, encoding: str) -> None:
    rows = [("Telefon", "Çiftçi Adı"), ("05421396386", "Şükrü Öğüt")]
    cells = [f'<c r="A{number}" t="str"><v>{phone}</v></c><c r="B{number}" t="str"><v>{name}</v></c>'
             for number, (phone, name) in enumerate(rows, start=1)]  # fmt: skip
    sheet = build.sheet(f'<row r="{number}">{row}</row>' for number, row in enumerate(cells, start=1))
    declared = f'<?xml version="1.0" encoding="{encoding}"?>{sheet}'
    read_rows, _ = await read(build.workbook(declared.encode(encoding)))
    assert read_rows[0].farmer_name == "Şükrü Öğüt"


async def test_long_sheets_read_the_same_with_and_without_the_parser(read: Read) -> None:
    import xlsxwriter

    from services.invitations.spreadsheet.container import PIECE_BYTES

    content = BytesIO()
    with xlsxwriter.Workbook(content) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, HEADER)
        for number in range(1, 20_000):
            sheet.write_row(number, 0, [f"0542{number:07}", f"Çiftçi {number}", f"{number}@example.com", "M", number])
    plain, _ = await read(content.getvalue(), limit=20_000)
    assert [row.row_no for row in plain] == list(range(2, 20_001))
    with zipfile.ZipFile(content) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for part, end in (("xl/worksheets/sheet1.xml", b"</row>"), ("xl/sharedStrings.xml", b"</si>")):
        middle = parts[part].index(end, len(parts[part]) // 2)
        assert middle > PIECE_BYTES
        parts[part] = parts[part][:middle] + b"<!-- -->" + parts[part][middle:]
    assert (await read(build.zipped(parts), limit=20_000))[0] == plain


async def test_a_workbook_of_openpyxl_reads_as_it_was_written(read: Read, tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    assert book.active is not None
    lines: list[list[str | float | None]] = [[*HEADER], [*AHMET], [5339876543, "Şükrü Öğüt", None, "XL", 12.5]]
    for values in lines:
        book.active.append(values)
    path = tmp_path / "written.xlsx"
    book.save(path)
    rows, _ = await read(path.read_bytes())
    assert rows == [a_row(2, AHMET), Row(3, "5339876543", "Şükrü Öğüt", "", "XL", "12.5")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1254"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
async def test_csv_is_read_in_every_usual_encoding_and_with_every_usual_delimiter(
    read: Read, encoding: str, delimiter: str
) -> None:
    lines = [HEADER, [*AHMET[:1], f'"Yılmaz{delimiter} Ahmet"', *AHMET[2:]]]
    content = "\r\n".join(delimiter.join(line) for line in lines).encode(encoding)
    rows, summary = await read(content, name="liste.xlsx")
    expected = f"Yılmaz{delimiter} Ahmet".replace("\t ", " ")
    assert rows == [a_row(2, ["05421396386", expected, *AHMET[2:]])]
    assert summary.kind == "csv"


async def test_csv_keeps_line_numbers_and_understands_what_excel_writes_into_it(read: Read) -> None:
    rows, _ = await read(b'sep=;\nTelefon;Ad\n="05421396386";Ahmet\n;\n5,42E+09;Mehmet\n\'+905339876543;Ay\xc5\x9fe\n')
    assert [(row.row_no, row.phone_text, row.farmer_name) for row in rows] == [
        (3, "05421396386", "Ahmet"),
        (5, "", "Mehmet"),
        (6, "+905339876543", "Ayşe"),
    ]


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (build.COMPOUND_FILE + bytes(600), "Eski .xls"),
        (build.COMPOUND_FILE + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600), "parola"),
        (build.zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "<a/>"}), ".ods"),
        (build.zipped({"[Content_Types].xml": "<Types/>", "xl/workbook.bin": b"x"}), ".xlsb"),
        (build.zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": "<a/>"}), "Word"),
        (build.zipped({"readme.txt": "hello"}), "desteklenmiyor"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "desteklenmiyor"),
        (b"%PDF-1.7\n", "desteklenmiyor"),
        (b"<html><table><tr><td>Telefon</td></tr></table></html>", "web sayfas"),
        (b"Telefon;Ad\n\x00\x01\x02", "desteklenmiyor"),
        (b"Telefon;Ad\n\x81\x8d\x8f;x", "desteklenmiyor"),
    ],
    ids=["xls", "password", "ods", "xlsb", "docx", "zip", "png", "pdf", "html", "binary", "not windows-1254"],
)
async def test_other_kinds_are_refused_by_content_with_advice(read: Read, content: bytes, advice: str) -> None:
    with pytest.raises(spreadsheet.FileNotSupported, match=advice):
        await read(content, name="liste.xlsx")


async def test_a_preview_may_leave_after_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "long.xlsx"
    path.write_bytes(build.workbook(build.table(HEADER, *[AHMET] * 20_000)))
    async with spreadsheet.read_rows(path, limit=100_000) as reading:
        async for batch in reading:
            assert len(batch) == 1_000
            assert reading.summary.mapping["Phone"] == "Telefon"
            break
    assert reading._process.returncode is not None
