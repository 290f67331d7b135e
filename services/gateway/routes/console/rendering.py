"""From a template to a page: the words of the visitor's language, times and numbers as they are written there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Final
from urllib.parse import urlencode

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


_PAGES.filters["query"] = lambda filters: urlencode({name: value for name, value in filters.items() if value})
_PAGES.filters["dict_with"] = lambda values, **more: {**values, **more}

# Which colour a state has.
_KINDS: Final = {
    "job": {
        "Queued": "info", "Processing": "info", "Completed": "good", "CompletedWithErrors": "warn", "Cancelled": "",
        "Failed": "bad",
    },
    "outcome": {"success": "good", "failure": "warn", "denied": "bad"},
    "referral": {"New": "info", "Active": "good"},
    "connection": {"healthy": "good", "expiring": "warn", "sign_in_required": "bad"},
    "sign_in": {"pending": "info", "succeeded": "good", "declined": "bad", "expired": "warn", "failed": "bad"},
    "sync": {"queued": "info", "running": "info", "succeeded": "good", "failed": "bad", "sign_in_required": "bad"},
    "invitation": {"Pending": "info", "Accepted": "good", "Cancelled": "", "Expired": "warn"},
    "delivery": {
        "delivered": "good", "read": "good", "sent": "good", "accepted": "info", "queued": "info", "claimed": "info",
        "sending": "info", "unknown": "warn", "needs_review": "warn", "undelivered": "bad", "failed": "bad",
        "rejected": "bad", "cancelled": "",
    },
}  # fmt: skip


def kind(area: str, value: str) -> str:
    """Say in which colour a state is shown."""
    return _KINDS[area].get(value, "")


def render(texts: Texts, language: Language, template: str, values: Mapping[str, Any]) -> str:
    """Fill a template in."""
    return _PAGES.get_template(template).render(
        values,
        labelled=lambda area, options: [(option, texts.label(language, area, option)) for option in options],
        t=partial(texts.say, language),
        label=partial(texts.label, language),
        knows=texts.__contains__,
        number=partial(number, language),
        when=partial(_when, texts, language),
        day=lambda moment: moment.strftime("%d.%m" if language == "tr" else "%d %b"),
        asset=asset,
        kind=kind,
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


def _prettied(text: str) -> str:
    """Lay JSON out over several lines; what is none stays as it is."""
    try:
        return _pretty(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text


_PAGES.filters["prettied"] = _prettied
