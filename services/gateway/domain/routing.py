"""The routing table: which service answers which path, and under which terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from services.gateway.domain.refusals import UnknownArea

Upstream = Literal["auth", "referrals", "invitations", "audit"]
Limit = Literal["sign_in", "reset", "public", "callback", "account", "address"]

UPSTREAMS: Final[tuple[Upstream, ...]] = ("auth", "referrals", "invitations", "audit")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

JSON_BODY: Final = 64 * 1024
LIST_BODY: Final = 1024 * 1024  # a JSON list of up to 1,000 recipients or codes does not fit into 64 KiB
UPLOAD_BODY: Final = 20 * 1024 * 1024 + 64 * 1024  # a 20 MiB file, plus the framing of multipart/form-data around it


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a route is served."""

    label: str
    public: bool = False
    limit: Limit = "account"
    max_body: int = JSON_BODY
    answer_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Area:
    """A part of the address space that one service answers.

    `routes` have terms of their own, by their path below the area; `terms` hold for the rest.
    """

    name: str
    upstream: Upstream
    path: bytes
    terms: Terms
    routes: Mapping[bytes, Terms] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """Where one request goes: the service, the path as the service knows it, the terms."""

    upstream: Upstream
    path: bytes
    terms: Terms


_UPLOAD: Final = Terms("sponsorship.upload", max_body=UPLOAD_BODY, answer_seconds=120)

AREAS: Final = (
    Area(
        "auth",
        "auth",
        b"/api/v1/auth",
        Terms("auth", answer_seconds=15),
        {
            b"/login": Terms("auth.login", public=True, limit="sign_in", answer_seconds=15),
            b"/refresh": Terms("auth.refresh", public=True, limit="public", answer_seconds=15),
            b"/request-password-reset": Terms("auth.request-password-reset", public=True, limit="reset"),
            b"/reset-password": Terms("auth.reset-password", public=True, limit="reset"),
            b"/cancel-password-reset": Terms("auth.cancel-password-reset", public=True, limit="reset"),
        },
    ),
    Area("referrals", "referrals", b"/api/referrals", Terms("referrals")),
    Area(
        "Sponsorship",
        "invitations",
        b"/api/Sponsorship",
        Terms("sponsorship"),
        {
            b"/farmer/invitations/bulk": _UPLOAD,
            b"/admin/farmer/invitations/bulk/excel": _UPLOAD,
            b"/admin/farmer/invitations/bulk": Terms(
                "sponsorship.on-behalf-of", max_body=LIST_BODY, answer_seconds=120
            ),
            b"/admin/codes": Terms("sponsorship.codes", max_body=LIST_BODY),
        },
    ),
    Area("audit", "audit", b"/api/v1/audit", Terms("audit", answer_seconds=60)),
)

# Where the name of the area stands in a path.
_API, _VERSIONED = 2, 3

_BY_NAME: Final = {area.name.lower().encode(): area for area in AREAS}

# Outside the areas: what people and providers reach without an account. The path goes on as it is.
_PUBLIC: Final[tuple[tuple[re.Pattern[bytes], Upstream, Terms], ...]] = (
    (re.compile(rb"/ref/.+"), "invitations", Terms("ref", public=True, limit="public")),
    (re.compile(rb"/callbacks/.+"), "invitations", Terms("callbacks", public=True, limit="callback")),
    (re.compile(rb"/\.well-known/jwks\.json"), "auth", Terms("jwks", public=True, limit="public")),
)

_SECRET_PATH: Final = re.compile(rb"(?i)(?:[/\\]|%(?:25)*(?:2f|5c))ref(?:[/\\]|%(?:25)*(?:2f|5c))")

PUBLIC_TERMS: Final = tuple(terms for _, _, terms in _PUBLIC)


def find_route(raw_path: bytes) -> Route:
    """Find who answers a path that has passed `check_path`; raises UnknownArea, which names the areas.

    `/api/<area>/…` and `/api/v1/<area>/…` are the same, the words before the rest in any case.
    """
    words = raw_path.split(b"/", 4)
    if len(words) > _API and words[1].lower() == b"api":
        at = _VERSIONED if words[2].lower() == b"v1" and len(words) > _VERSIONED else _API
        if area := _BY_NAME.get(words[at].lower()):
            rest = raw_path[sum(map(len, words[: at + 1])) + at :]
            return Route(area.upstream, area.path + rest, area.routes.get(rest, area.terms))
    for pattern, upstream, terms in _PUBLIC:
        if pattern.fullmatch(raw_path):
            return Route(upstream, raw_path, terms)
    names = ", ".join(area.path.decode() for area in AREAS)
    raise UnknownArea(f"There is no such area. The areas are: {names}.", areas=[area.path.decode() for area in AREAS])


def holds_secret(raw_path: bytes) -> bool:
    """Tell whether the path itself opens something (an invitation's token), so that no log line may hold it.

    A link that was mangled on its way, and so is refused, holds the token as well.
    """
    return _SECRET_PATH.search(raw_path) is not None
