"""Hostile files: each ends as a clear 422 or is harmlessly read, in bounded time, and the service lives on."""

import asyncio
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from services.invitations import spreadsheet
from services.invitations.spreadsheet import reading as parent
from tests.invitations import spreadsheets as build

HEADER = ["Telefon", "Ad"]
AHMET = ["05421396386", "Ahmet"]
PROCESSOR_SECONDS = 10.0
MERGE = '<mergeCell ref="A1:A2"/>'


async def read(path: Path, content: bytes) -> list[spreadsheet.Row]:
    rows: list[spreadsheet.Row] = []
    await read_into(rows, path, content)
    return rows


async def read_into(rows: list[spreadsheet.Row], path: Path, content: bytes) -> None:
    await asyncio.to_thread(path.write_bytes, content)
    before = processor_seconds()
    try:
        async with spreadsheet.read_rows(path, limit=100_000) as reading:
            async for batch in reading:
                rows.extend(batch)
    finally:
        assert processor_seconds() - before < PROCESSOR_SECONDS


def processor_seconds() -> float:
    """Read what ended children have used: the machine may be busy with other things, the reader may not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hostile"


async def test_a_stray_cell_in_the_far_corner_costs_nothing(path: Path) -> None:
    corner = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    rows = await read(path, build.workbook(build.sheet([build.row(1, HEADER), build.row(2, AHMET), corner])))
    assert [row.phone_text for row in rows] == ["05421396386"]


async def test_a_string_that_is_referred_to_thousands_of_times_is_trimmed_once(path: Path) -> None:
    long = f'<sst xmlns="{build.MAIN}"><si><t>Telefon</t></si><si><t>{"9" * 1_000_000}</t></si></sst>'
    cells = [build.row(1, ['<c r="A1" t="s"><v>0</v></c>'])]
    cells += [build.row(number, [f'<c r="A{number}" t="s"><v>1</v></c>']) for number in range(2, 5002)]
    rows = await read(path, build.workbook(build.sheet(cells), shared_strings=long))
    assert len(rows) == 5000
    assert rows[0].problems[0].reason == "Çok uzun: en fazla 64 karakter."


def _rows_of(count: int, row: str) -> str:
    return build.sheet([build.row(1, HEADER), row * count])


def _nested(depth: int) -> str:
    inside = f"{'<a>' * depth}{'</a>' * depth}"
    return build.sheet([build.row(1, HEADER), f'<row r="2"><c r="A2">{inside}</c></row>'])


def _with_doctype(doctype: str, text: str) -> str:
    return f"<!DOCTYPE x [{doctype}]>" + build.table(HEADER, [f'<c r="A2" t="str"><v>{text}</v></c>', "x"])


LAUGHS = '<!ENTITY l0 "lol">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
# Made when the test runs: some are hundreds of megabytes.
HOSTILE_SHEETS: dict[str, Callable[[], str]] = {
    "huge row index": lambda: build.sheet([build.row(1, HEADER), '<row r="4294967295"><c r="A1"><v>1</v></c></row>']),
    "300 MB in one cell": lambda: build.table(HEADER, ["5" * 300_000_000, "x"]),
    "20 million cells in a row": lambda: _rows_of(1, '<row r="2">' + "<c/>" * 20_000_000 + "</row>"),
    "deep nesting": lambda: _nested(200_000),
    "billion laughs": lambda: _with_doctype(LAUGHS, "&l9;"),
    "external entity": lambda: _with_doctype('<!ENTITY x SYSTEM "file:///etc/passwd">', "&x;"),
    "harmless doctype": lambda: "<!DOCTYPE worksheet>" + build.table(HEADER, AHMET),
    "endless columns": lambda: build.sheet([], before="<cols>" + '<col min="1" max="2"/>' * 400_000 + "</cols>"),
    "200 MB after the rows": lambda: build.sheet(
        [build.row(1, HEADER), build.row(2, AHMET)], after="<x/>" + " " * 200_000_000
    ),
    "thousands of merges": lambda: build.sheet([], after="<mergeCells>" + MERGE * 20_000 + "</mergeCells>"),
}


@pytest.mark.parametrize("name", HOSTILE_SHEETS)
async def test_what_no_honest_sheet_contains_is_refused(path: Path, name: str) -> None:
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, build.workbook(HOSTILE_SHEETS[name]()))


MARKS = "a" + "\u0301" * 16_000 + "\u0327" * 16_000  # which Unicode's composition sorts, in quadratic time
# Small files that cost a naive reader minutes; what is asked of each is that it is read like any other.
COSTLY: dict[str, Callable[[], bytes]] = {
    "brackets in headers": lambda: "\n".join([";".join(["(" * 32_000] * 30), "Telefon;Ad", ";".join(AHMET)]).encode(),
    "marks in headers": lambda: "\n".join([";".join([MARKS] * 30), "Telefon;Ad", ";".join(AHMET)]).encode(),
    "marks in phones": lambda: "\n".join(["Telefon;Ad", ";".join(AHMET), *[f"{MARKS};x"] * 200]).encode(),
    "marks in notes": lambda: "\n".join(["Telefon;Ad;Not", ";".join(AHMET), *[f"x;x;{MARKS}"] * 200]).encode(),
    "marks in strings that nobody uses": lambda: build.workbook(
        build.table(HEADER, AHMET),
        shared_strings=f'<sst xmlns="{build.MAIN}">{f"<si><t>{MARKS}</t></si>" * 1_000}</sst>',
    ),
    "columns hidden since for ever": lambda: build.workbook(
        build.sheet(
            [build.row(1, HEADER), build.row(2, AHMET)],
            before='<cols><col min="-9999999999" max="-1" hidden="1"/></cols>',
        )
    ),
}


@pytest.mark.parametrize("name", COSTLY)
async def test_what_a_naive_reader_would_work_on_for_minutes_is_read_like_anything_else(path: Path, name: str) -> None:
    rows = await read(path, COSTLY[name]())
    assert rows[0][1:3] == tuple(AHMET)
    assert {problem.reason for row in rows[1:] for problem in row.problems} <= {
        "Çok uzun: en fazla 64 karakter.",
        "Çok uzun: en fazla 500 karakter.",
    }


async def test_openings_of_merges_that_never_end_are_damage_at_once(path: Path) -> None:
    openings = build.sheet([build.row(1, HEADER), build.row(2, AHMET)], after="<mergeCell " * 12_000_000)
    with pytest.raises(spreadsheet.FileDamaged):
        await read(path, build.workbook(openings))


@pytest.mark.parametrize(
    "reference", ["!1", "a1", "A" * 1_000_000 + "1"], ids=["no letter", "small", "a million letters"]
)
async def test_a_cell_after_one_in_no_column_is_damage(path: Path, reference: str) -> None:
    """The place of a cell without a reference follows from the one before it."""
    cells = f'<row r="2"><c r="{reference}"/><c><v>5421396386</v></c></row>'
    with pytest.raises(spreadsheet.FileDamaged):
        await read(path, build.workbook(build.sheet([build.row(1, HEADER), cells])))


async def test_three_million_cells_are_the_most(path: Path) -> None:
    cells = "<row>" + "<c/>" * 31 + "</row>"
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, build.workbook(_rows_of(99_000, cells)))


async def test_millions_of_cells_stop_at_the_row_limit(path: Path) -> None:
    cells = '<row><c t="n"><v>5421396386</v></c><c/><c/><c/><c/><c/><c/><c/><c/></row>'
    with pytest.raises(spreadsheet.TooManyRows):
        await read(path, build.workbook(_rows_of(600_000, cells)))


async def test_a_bomb_of_shared_strings_is_refused(path: Path) -> None:
    strings = f'<sst xmlns="{build.MAIN}">{"<si><t>x</t></si>" * 3_000_000}</sst>'
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, build.workbook(build.table(HEADER, AHMET), shared_strings=strings))


async def test_two_parts_of_one_name_are_refused(path: Path) -> None:
    file = BytesIO(build.workbook(build.table(HEADER, AHMET)))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("XL/worksheets/Sheet1.xml", build.table(HEADER, ["0", "Mallory"]))
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, file.getvalue())


async def test_more_entries_than_any_workbook_has_are_refused(path: Path) -> None:
    contents = build.parts(build.table(HEADER, AHMET)) | {f"xl/{number}.xml": b"" for number in range(2_000)}
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, build.zipped(contents))


@pytest.mark.parametrize("declared", [10, 1_000_000_000], ids=["smaller", "larger"])
async def test_a_container_that_lies_about_sizes_is_damaged(path: Path, declared: int) -> None:
    content = bytearray(build.workbook(build.table(HEADER, AHMET)))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        start = archive.getinfo("xl/worksheets/sheet1.xml").header_offset
    central = content.rindex(b"xl/worksheets/sheet1.xml") - 46
    struct.pack_into("<L", content, start + 22, declared)
    struct.pack_into("<L", content, central + 24, declared)
    with pytest.raises(spreadsheet.FileDamaged):
        await read(path, bytes(content))


async def test_an_encrypted_entry_is_refused(path: Path) -> None:
    content = bytearray(build.workbook(build.table(HEADER, AHMET)))
    central = content.rindex(b"xl/worksheets/sheet1.xml") - 46
    struct.pack_into("<H", content, central + 8, 1)
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, bytes(content))


async def test_a_wrong_checksum_is_noticed_before_a_single_row_is_used(path: Path) -> None:
    content = bytearray(build.workbook(build.table(HEADER, *[AHMET] * 5_000)))
    central = content.rindex(b"xl/worksheets/sheet1.xml") - 46
    struct.pack_into("<L", content, central + 16, 1)
    rows: list[spreadsheet.Row] = []
    with pytest.raises(spreadsheet.FileDamaged):
        await read_into(rows, path, bytes(content))
    assert rows == []


@pytest.mark.parametrize(
    "worksheet",
    [
        build.table(HEADER, AHMET)[:-30],
        build.table(HEADER, AHMET).replace("<sheetData>", "<sheetData>&undefined;"),
        build.sheet([build.row(1, HEADER), build.row(3, AHMET), build.row(2, AHMET)]),
        build.table(HEADER, ['<c r="A2" t="s"><v>7</v></c>', "Ahmet"]),
        build.table(HEADER, ['<c r="A2" t="s"><v>-1</v></c>', "Ahmet"]),
    ],
    ids=["cut off", "undefined entity", "rows out of order", "no such shared string", "negative shared string"],
)
async def test_a_broken_sheet_is_damaged(path: Path, worksheet: str) -> None:
    with pytest.raises(spreadsheet.FileDamaged):
        await read(path, build.workbook(worksheet))


async def test_half_a_file_is_damaged(path: Path) -> None:
    content = build.workbook(build.table(HEADER, *[AHMET] * 5_000))
    with pytest.raises(spreadsheet.FileDamaged):
        await read(path, content[: len(content) // 2])


CRIMES = {
    "memory": "bytearray(2 * 1024**3)",
    "abort": "__import__('os').abort()",
    "writing": "print('evil', file=open({target!r}, 'w'), flush=True)",
    "files": "[open('/dev/null') for _ in range(100)]",
}


@pytest.mark.parametrize("crime", CRIMES)
async def test_a_child_that_is_taken_over_hits_its_limits(
    path: Path, monkeypatch: pytest.MonkeyPatch, crime: str
) -> None:
    target = path.with_name("evil")
    # The first frame shows that the child had the chance.
    _run_instead(
        monkeypatch,
        "from services.invitations.spreadsheet import child\n"
        "def taken_over(file, limit):\n"
        "    yield 'rows', [[1, 'honest', '', '', '', '', []]]\n"
        f"    {CRIMES[crime].format(target=str(target))}\n"
        "    yield 'rows', [[1, 'evil', '', '', '', '', []]]\n"
        "child._frames = taken_over\n"
        "child.main()",
    )
    rows: list[spreadsheet.Row] = []
    with pytest.raises(spreadsheet.UnreadableFile):
        await read_into(rows, path, b"Telefon\n1\n")
    assert [row.phone_text for row in rows] == ["honest"]
    assert not target.exists() or target.stat().st_size == 0


async def test_a_child_that_says_nothing_is_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "SILENCE_SECONDS", 0.5)
    started = _run_instead(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(spreadsheet.FileRefused):
        await read(path, b"Telefon\n1\n")
    assert [process.returncode for process in started] == [-9]


async def test_the_child_knows_none_of_our_secrets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVITATIONS_SECRET_KEYS", "not for the child")
    environment = "'environment ' + ' '.join(os.environ.values())"
    script = f"import os, json; print(json.dumps(['rows', [[1, {environment}, '', '', '', '', []]]]))"
    _run_instead(monkeypatch, script)
    rows: list[spreadsheet.Row] = []
    with pytest.raises(spreadsheet.FileRefused):  # It ends without saying that it is done.
        await read_into(rows, path, b"Telefon\n1\n")
    assert rows[0].phone_text.startswith("environment ")
    assert "not for the child" not in rows[0].phone_text


def _run_instead(monkeypatch: pytest.MonkeyPatch, script: str) -> list[asyncio.subprocess.Process]:
    start = asyncio.create_subprocess_exec
    started: list[asyncio.subprocess.Process] = []

    async def start_script(*arguments: str, **options: object) -> asyncio.subprocess.Process:
        limit = arguments[-1]
        process = await start(sys.executable, "-E", "-s", "-c", script, limit, **options)  # type: ignore[arg-type]
        started.append(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_script)
    return started
