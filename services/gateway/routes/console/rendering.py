"""From a template to a page: the words of the visitor's language, times and numbers as they are written there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.gateway.context import PAGES
from services.gateway.domain.console.texts import Language, Texts, number

# Everything that a page needs comes from this host, and nothing of it stands in the page itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGES: Final = Environment(
    loader=PackageLoader("services.gateway", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(texts: Texts, language: Language, template: str, values: Mapping[str, Any]) -> str:
    """Fill a template in."""
    return _PAGES.get_template(template).render(
        values,
        t=partial(texts.say, language),
        label=partial(texts.label, language),
        knows=texts.__contains__,
        number=partial(number, language),
        when=partial(_when, texts, language),
        day=lambda text: _moment(text).strftime("%d.%m"),
        asset=asset,
        pretty=_pretty,
    )


@cache
def asset(name: str) -> str:
    """Give the address of a static file, which changes with its content, so that browsers may keep it for ever."""
    digest = hashlib.sha256((PAGES / "static" / name).read_bytes()).hexdigest()
    return f"/static/{name}?v={digest[:12]}"


def _when(texts: Texts, language: Language, text: str | None) -> str:
    """Write a moment of the interface as people here read it, with the exact one behind it."""
    if not text:
        return "–"
    moment = _moment(text)
    shown = texts.moment(language, moment)
    exact = moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(exact, shown)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
