"""Hostile and odd files at the door of a real api process: right rows or a clear 422, and it lives on, and small."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.invitations.settings import InvitationsSettings
from tests.invitations import spreadsheets as build
from tests.invitations.processes import RoleProcess, running_role, serving_keys
from tests.invitations.stage import BULK, Stage

HEADER = ("Telefon", "Çiftçi Adı")
AHMET = ("05421396386", "Ahmet Yılmaz")
GOOD = build.table(HEADER, AHMET)
PROCESSOR_SECONDS = 10.0
MOST_MEGABYTES = 300.0

Rows = Sequence[Sequence[Any]]


def sheet_of(*rows: str, before: str = "", after: str = "") -> bytes:
    return build.workbook(build.sheet([build.row(1, HEADER), *rows], before=before, after=after))


def with_doctype(doctype: str, text: str) -> bytes:
    return build.workbook(
        f"<!DOCTYPE x [{doctype}]>" + build.table(HEADER, ['<c r="A2" t="str"><v>' + text + "</v></c>"])
    )


def with_sizes(declared: int) -> bytes:
    """Say that the sheet is so large when it is not."""
    content = bytearray(build.workbook(GOOD))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        start = archive.getinfo("xl/worksheets/sheet1.xml").header_offset
    central = content.rindex(b"xl/worksheets/sheet1.xml") - 46
    struct.pack_into("<L", content, start + 22, declared)
    struct.pack_into("<L", content, central + 24, declared)
    return bytes(content)


def with_a_second_sheet() -> bytes:
    file = BytesIO(build.workbook(GOOD))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("XL/worksheets/Sheet1.xml", build.table(HEADER, ("0", "Mallory")))
    return file.getvalue()


def of_zeros(megabytes: int) -> bytes:
    """Give one cell of so many megabytes, which a few kilobytes can hold."""
    head, tail = build.table(HEADER, ("@", "x")).encode().split(b"@")
    return build.workbook(head + b"5" * (megabytes * 1024 * 1024) + tail)


LAUGHS = '<!ENTITY l0 "lol">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
REFUSED: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "zip bomb": ("FILE_REFUSED", lambda: sheet_of(after="<x/>" + " " * 200_000_000)),
    "512 MB in one cell": ("FILE_REFUSED", lambda: of_zeros(512)),
    "sizes too small": ("FILE_DAMAGED", lambda: with_sizes(10)),
    "sizes too large": ("FILE_DAMAGED", lambda: with_sizes(1_000_000_000)),
    "huge row index": ("FILE_REFUSED", lambda: sheet_of('<row r="4294967295"><c r="A1"><v>1</v></c></row>')),
    "billion laughs": ("FILE_REFUSED", lambda: with_doctype(LAUGHS, "&l9;")),
    "external entity": (
        "FILE_REFUSED",
        lambda: with_doctype('<!ENTITY x SYSTEM "file:///etc/passwd">', "&x;"),
    ),
    "two parts of one name": ("FILE_REFUSED", with_a_second_sheet),
    "old .xls": ("FILE_NOT_SUPPORTED", lambda: build.COMPOUND_FILE + bytes(600)),
    "password": (
        "FILE_NOT_SUPPORTED",
        lambda: build.COMPOUND_FILE + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600),
    ),
    "renamed picture": ("FILE_NOT_SUPPORTED", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "renamed web page": ("FILE_NOT_SUPPORTED", lambda: b"<html><table><tr><td>Telefon</td></tr></table></html>"),
    "empty": ("FILE_EMPTY", lambda: b""),
    "header only": ("FILE_EMPTY", lambda: build.workbook(build.table(HEADER))),
    "all rows hidden": ("FILE_EMPTY", lambda: sheet_of(build.row(2, AHMET, 'hidden="1"'))),
    "no phone column": ("FILE_HEADER_MISSING", lambda: build.workbook(build.table(("Ad", "Not"), ("Ahmet", "x")))),
}
MERGED = build.sheet(
    [
        build.row(1, ("ÇİFTÇİ", None)),
        build.row(2, (None, "CEP TELEFONU")),
        build.row(3, ("Ahmet Yılmaz", "05421396386")),
    ],
    after='<mergeCells count="1"><mergeCell ref="A1:A2"/></mergeCells>',
)
# Each gives Ahmet's row: right phone, right name.
TAKEN: Mapping[str, Callable[[], bytes]] = {
    "far corner cell": lambda: sheet_of(build.row(2, AHMET), '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'),
    "merged header in capitals": lambda: build.workbook(MERGED),
    "hidden row": lambda: sheet_of(build.row(2, ("05339876543", "Gizli"), 'hidden="1"'), build.row(3, AHMET)),
    "hidden column": lambda: build.workbook(
        build.sheet(
            [build.row(1, ("Cep", *HEADER)), build.row(2, ("05339876543", *AHMET))],
            before='<cols><col min="1" max="1" hidden="1"/></cols>',
        )
    ),
    "number": lambda: sheet_of(build.row(2, ('<c r="A2"><v>5421396386</v></c>', AHMET[1]))),
    "number as a float": lambda: sheet_of(build.row(2, ('<c r="A2"><v>5.421396386E9</v></c>', AHMET[1]))),
    "UTF-16": lambda: f"Telefon\tÇiftçi Adı\r\n{AHMET[0]}\t{AHMET[1]}\r\n".encode("utf-16"),
    "Windows-1254": lambda: f"TELEFON;ÇİFTÇİ ADI\r\n{AHMET[0]};{AHMET[1]}\r\n".encode("windows-1254"),
    "UTF-8 with commas": lambda: f"Çiftçi Adı,GSM\n{AHMET[1]},{AHMET[0]}\n".encode("utf-8-sig"),
}


@dataclass
class Door:
    """A running api and the way to its upload door."""

    api: RoleProcess
    client: httpx.AsyncClient
    headers: dict[str, str]

    async def preview(self, content: bytes) -> httpx.Response:
        """Upload a file for a preview and check that the process is none the worse for it."""
        before = self.api.processor_seconds()
        answer = await self.client.post(
            f"{BULK}?dryRun=true", files={"excelFile": ("liste.xlsx", content)}, headers=self.headers
        )
        assert self.api.process.poll() is None, "the file has ended the service"
        assert self.api.processor_seconds() - before < PROCESSOR_SECONDS
        assert (await self.client.get("/readyz")).status_code == 200
        assert self.api.peak_megabytes() < MOST_MEGABYTES
        return answer


@pytest.fixture
async def door(stage: Stage, settings: InvitationsSettings, tmp_path: Path) -> AsyncIterator[Door]:
    log = tmp_path / "api.log"
    with (
        serving_keys(await stage.issuer.keys()) as jwks_url,
        running_role("api", settings, "amqp://127.0.0.1:1", log, jwks_url=jwks_url) as api,
    ):
        await api.ready()
        async with httpx.AsyncClient(base_url=api.url, timeout=120, trust_env=False) as client:
            yield Door(api, client, stage.sponsor())


async def test_what_no_honest_list_is_gets_a_clear_answer_and_the_service_lives_on(door: Door) -> None:
    for name, (code, make) in REFUSED.items():
        answer = await door.preview(make())
        assert (answer.status_code, answer.json()["code"]) == (422, code), name
        assert answer.json()["errors"][0]["field"] == "excelFile", name
        assert len(answer.json()["message"]) > len("Dosya boş"), name


async def test_odd_but_honest_lists_give_the_right_rows(door: Door) -> None:
    for name, make in TAKEN.items():
        answer = await door.preview(make())
        assert answer.status_code == 200, (name, answer.text)
        data = answer.json()["data"]
        assert [(row["phone"], row["farmerName"]) for row in data["firstRows"] if row["error"] is None] == [
            ("+905421396386", "Ahmet Yılmaz")
        ], name


async def test_a_wrong_cell_is_named_by_row_and_column(door: Door) -> None:
    wrong = {
        "5,42E+09": "kısaltılmış",
        "05421396386, 05339876543": "birden fazla",
        "0850 123 45 67": "cep telefonu",
        "0212 123 45 67": "cep telefonu",
        "0542abc4567": "harf",
        "": "eksik",
    }
    rows: Rows = [(text, f"Satır {number}") for number, text in enumerate(wrong)]
    answer = await door.preview(build.workbook(build.table(HEADER, *rows, AHMET)))
    errors = answer.json()["data"]["errors"]
    assert [(error["row"], error["column"]) for error in errors] == [
        (number + 2, "Phone") for number in range(len(wrong))
    ]
    for error, word in zip(errors, wrong.values(), strict=True):
        assert word in error["reason"], error
