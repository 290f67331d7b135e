"""Recognises columns by their headers: Turkish or English, any order, any case."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.invitations.spreadsheet.errors import HeaderAmbiguous, HeaderMissing

# In the order of the fields of `Row`.
FIELDS = ("Phone", "FarmerName", "Email", "PackageTier", "Notes")
PHONE = 0
_WORDS = {
    "Phone": """
        phone phonenumber phoneno mobile mobilephone mobilenumber cellphone cell msisdn gsm gsmno gsmnumarasi gsmnumara
        telefon telefonno telefonnumarasi telefonnumara telno tel cep cepno ceptel ceptelefon ceptelefonu ceptelefonno
        ceptelefonnumarasi ciftcitelefon ciftcitelefonu""",
    "FarmerName": """
        farmername farmer name fullname namesurname ciftci ciftciad ciftciadi ciftciadsoyad ciftciadisoyadi ciftciismi
        ciftciisim ad adi adsoyad adisoyadi advesoyad adivesoyadi isim isimsoyisim ismi adsoyisim""",
    "Email": "email emailaddress mail mailadresi eposta epostaadresi elektronikposta",
    "PackageTier": "packagetier package tier packagetype paket pakettipi paketturu paketseviyesi paketadi",
    "Notes": "note notes comment comments description remark remarks not notlar notu aciklama aciklamalar",
}
SYNONYMS = {word: FIELDS.index(field) for field, words in _WORDS.items() for word in words.split()}
# lower() is not Turkish: "ÇİFTÇİ" would become "çi̇ftçi̇" with combining dots and never equal "çiftçi".
_TURKISH = str.maketrans("İIıŞşĞğÜüÖöÇç", "iiissgguuoocc")
_IN_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]")
LONGEST_HEADER = 200  # Bracketed hints included; both the brackets and the composing take quadratic time.
MOST_HEADERS_SHOWN = 20
LONGEST_HEADER_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Header:
    """Which column holds which field; `texts` are the headers as they stand in the file, by column index."""

    row_no: int
    fields: Mapping[int, int]
    texts: Mapping[int, str]

    def mapping(self) -> dict[str, str]:
        """Give field → header text, for the preview."""
        return {FIELDS[field]: self.texts[column][:LONGEST_HEADER_SHOWN] for column, field in self.fields.items()}

    def ignored(self) -> list[str]:
        """Give the headers that mean nothing to us."""
        unknown = [text for column, text in sorted(self.texts.items()) if column not in self.fields and text]
        return [text[:LONGEST_HEADER_SHOWN] for text in unknown[:MOST_HEADERS_SHOWN]]


def field_of(text: str) -> int | None:
    """Say which field a header text means."""
    if len(text) > LONGEST_HEADER:
        return None
    normal = unicodedata.normalize("NFKC", _IN_BRACKETS.sub("", text)).translate(_TURKISH).lower()
    return SYNONYMS.get(_NOT_ALPHANUMERIC.sub("", normal))


def recognise(rows: Iterable[tuple[int, Mapping[int, str]]]) -> Header:
    """Find the header among the first rows: the one with a phone column and the most known columns."""
    best: dict[int, int] = {}
    chosen: tuple[int, Mapping[int, str]] | None = None
    seen: list[str] = []
    for row_no, texts in rows:
        fields = {column: field for column, text in texts.items() if (field := field_of(text)) is not None}
        if PHONE in fields.values() and len(set(fields.values())) > len(set(best.values())):
            best, chosen = fields, (row_no, texts)
        seen = seen or [text[:LONGEST_HEADER_SHOWN] for text in texts.values() if text]
    if chosen is None:
        found = ", ".join(seen[:MOST_HEADERS_SHOWN]) or "yok"
        raise HeaderMissing(f"{HeaderMissing.message} Bulunan ilk satır: {found}.")
    _refuse_doubles(best, chosen[1])
    return Header(chosen[0], best, chosen[1])


def _refuse_doubles(fields: Mapping[int, int], texts: Mapping[int, str]) -> None:
    for field, name in enumerate(FIELDS):
        columns = [texts[column][:LONGEST_HEADER_SHOWN] for column, one in fields.items() if one == field]
        if len(columns) > 1:
            listed = ", ".join(f"«{text}»" for text in columns)
            raise HeaderAmbiguous(
                f"Birden fazla sütun {name} alanını gösteriyor: {listed}. Lütfen yalnızca birini bırakın."
            )
