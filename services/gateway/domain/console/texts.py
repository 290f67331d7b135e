"""The console's words in Turkish and English, by key; and how dates and numbers are written in each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Any, Final, Literal

Language = Literal["tr", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("tr", "en")
_DATES: Final[Mapping[Language, str]] = {"tr": "%d.%m.%Y", "en": "%d %b %Y"}
_SEPARATORS: Final[Mapping[Language, str]] = {"tr": ".", "en": ","}


class Texts:
    """All texts: `area.key` → one text per language."""

    def __init__(self, areas: Mapping[str, Mapping[str, list[str]]], time_zone: tzinfo) -> None:
        self.time_zone = time_zone
        self._texts = {f"{area}.{key}": texts for area, keys in areas.items() for key, texts in keys.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    @property
    def keys(self) -> Mapping[str, list[str]]:
        """Give every key with its texts."""
        return self._texts

    def say(self, language: Language, key: str, **values: Any) -> str:
        """Give a text with its values filled in; raises KeyError for a key that nobody wrote."""
        text = self._texts[key][LANGUAGES.index(language)]
        shown = {name: number(language, value) if isinstance(value, int) else value for name, value in values.items()}
        return text.format(**shown) if values else text

    def label(self, language: Language, area: str, value: object) -> str:
        """Give the word for a value of an enumeration, or the value itself where it is a new one."""
        key = f"{area}.{value}"
        return self.say(language, key) if key in self._texts else str(value)

    def moment(self, language: Language, when: datetime) -> str:
        """Write a time as people here read it."""
        return when.astimezone(self.time_zone).strftime(f"{_DATES[language]} %H:%M")


def number(language: Language, value: float | Decimal) -> str:
    """Write a number with its thousands apart; an id is no number to count with and stays as it is."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", _SEPARATORS[language])
    whole, _, rest = f"{value:,.2f}".partition(".")
    if language == "en":
        return f"{whole}.{rest}"
    return f"{whole.replace(',', '.')},{rest}"
