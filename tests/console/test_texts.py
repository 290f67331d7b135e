"""Every word of the console is there in both languages, and no page holds what its policy forbids."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from services.gateway.context import PAGES, read_texts
from services.gateway.domain.console.texts import LANGUAGES, number
from services.gateway.routes.console import signing_in

TEXTS = read_texts()
ROUTES = Path(signing_in.__file__).parent
TEMPLATES = sorted(PAGES.rglob("*.html"))
USED = re.compile(r"""\b(?:t|say)\(\s*["']([a-z_]+\.[A-Za-z0-9_ -]+)["']\s*[,)]""")

# Keys that are put together while a page is made: `t("place." ~ name)`, `say(f"error.{text}")`.
BEGUN = re.compile(r"""["']([a-z_]+\.[a-z_]*)(?:["']|\{)""")
LABELLED = re.compile(r"""\blabel(?:led)?\(\s*["']([a-z_]+)["']""")


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", sorted(TEXTS.keys))
def test_a_text_is_there_in_each_language_with_the_same_values(key: str) -> None:
    texts = TEXTS.keys[key]
    assert len(texts) == len(LANGUAGES)
    assert all(text.strip() for text in texts)
    assert len({frozenset(placeholders(text)) for text in texts}) == 1


def test_every_text_that_a_page_or_route_names_exists() -> None:
    sources = [*TEMPLATES, *sorted(ROUTES.glob("*.py"))]
    named = {key for path in sources for key in USED.findall(path.read_text())}
    assert len(named) > 40
    assert {key for key in named if key not in TEXTS} == set()


def test_no_text_is_left_that_nothing_names() -> None:
    sources = "\n".join(path.read_text() for path in [*TEMPLATES, *sorted(ROUTES.glob("*.py"))])
    begun = set(BEGUN.findall(sources))
    areas = set(LABELLED.findall(sources))
    unnamed = {
        key
        for key in TEXTS.keys
        if f'"{key}"' not in sources
        and f"'{key}'" not in sources
        and key.partition(".")[0] not in areas
        and not any(key.startswith(start) for start in begun)
    }
    assert unnamed == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(PAGES)))
def test_a_template_holds_no_style_no_script_and_no_words_of_its_own(path: Path) -> None:
    html = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)", html)
    assert "| safe" not in html
    assert "|safe" not in html
    if path.name != "docs.html":
        filled = re.sub(r"{%.*?%}|{{.*?}}|{[a-zA-Z]+}", "", html, flags=re.DOTALL)
        words = re.sub(r"<[^>]*>|&\w+;", " ", filled)
        assert (
            re.findall(r"\w{3,}", words.replace("Partner Hub", "").replace("Türkçe", "").replace("English", "")) == []
        )


@pytest.mark.parametrize(
    ("language", "value", "written"),
    [
        ("tr", 1234567, "1.234.567"),
        ("en", 1234567, "1,234,567"),
        ("tr", 1234.5, "1.234,50"),
        ("en", 1234.5, "1,234.50"),
    ],
)
def test_numbers_are_written_as_people_here_read_them(language: str, value: float, written: str) -> None:
    assert number(language, value) == written  # type: ignore[arg-type]
