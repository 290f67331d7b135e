"""What a running gateway holds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

from services.gateway.domain.addresses import Networks
from services.gateway.domain.breaker import Breaker
from services.gateway.domain.console.texts import Texts
from services.gateway.domain.limits import TokenBuckets
from services.gateway.domain.revocations import Revocations
from services.gateway.domain.routing import AREAS, PUBLIC_TERMS, Limit, Terms
from services.gateway.own_door import OwnDoor
from services.gateway.proxy import PoolLimits, Recently, Timeouts, Upstream
from services.gateway.settings import GatewaySettings, split
from shared.health import Health
from shared.identity import TokenVerifier, keys_from
from shared.sealing import Sealer

PAGES = Path(__file__).parent / "pages"


@dataclass(frozen=True, slots=True)
class Gateway:
    """The services behind it, who may pass, how often, and what it knows of itself."""

    settings: GatewaySettings
    upstreams: Mapping[str, Upstream]
    timeouts: Mapping[str, Timeouts]
    buckets: Mapping[Limit, TokenBuckets]
    verifier: TokenVerifier
    proxies: Networks
    operators: Networks
    origins: frozenset[bytes]
    revocations: Revocations = field(default_factory=Revocations)
    health: Health = field(default_factory=Health)
    recently: Recently = field(default_factory=Recently)

    def close(self) -> None:
        """Close every connection to the services."""
        for upstream in self.upstreams.values():
            upstream.pool.close()


@dataclass(frozen=True, slots=True)
class Console:
    """What the pages for people work with: the way into the gateway, the seal of their sessions, their words."""

    settings: GatewaySettings
    own_door: OwnDoor
    sealer: Sealer
    texts: Texts


def make_console(settings: GatewaySettings, own_door: OwnDoor) -> Console:
    """Build the console of a gateway."""
    return Console(settings, own_door, Sealer(settings.key_bytes), read_texts(settings.time_zone))


def read_texts(time_zone: str = "Europe/Istanbul") -> Texts:
    """Read the console's texts, one file per part of the console; raises ValueError for an area that two files hold."""
    areas: dict[str, Mapping[str, list[str]]] = {}
    for path in sorted((PAGES / "texts").glob("*.toml")):
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        if twice := areas.keys() & found.keys():
            raise ValueError(f"{path.name}: {', '.join(sorted(twice))} stands in another file as well")
        areas |= found
    return Texts(areas, ZoneInfo(time_zone))


def make_gateway(settings: GatewaySettings, *, verifier: TokenVerifier | None = None) -> Gateway:
    """Build what the settings describe."""
    return Gateway(
        settings=settings,
        upstreams={name: _upstream(name, url, settings) for name, url in settings.service_urls.items()},
        timeouts={terms.label: _timeouts(terms, settings) for terms in _all_terms()},
        buckets=_buckets(settings),
        verifier=verifier
        or TokenVerifier(keys_from(settings.jwks_url), issuer=settings.token_issuer, audience=settings.token_audience),
        proxies=Networks(split(settings.trusted_proxies)),
        operators=Networks(split(settings.operator_networks)),
        origins=frozenset(origin.encode() for origin in split(settings.cors_origins)),
    )


def _all_terms() -> list[Terms]:
    in_areas = [terms for area in AREAS for terms in (area.terms, *area.routes.values())]
    return in_areas + list(PUBLIC_TERMS)


def _upstream(name: str, url: str, settings: GatewaySettings) -> Upstream:
    limits = PoolLimits(
        connections=settings.connections_per_service,
        waiting=settings.waiting_per_service,
        connect_seconds=settings.connect_seconds,
    )
    breaker = Breaker(
        threshold=settings.breaker_failures,
        first_seconds=settings.breaker_pause_seconds,
        max_seconds=settings.breaker_longest_pause_seconds,
    )
    return Upstream(name, url, limits, breaker)


def _timeouts(terms: Terms, settings: GatewaySettings) -> Timeouts:
    return Timeouts(
        answer=terms.answer_seconds,
        idle=settings.idle_seconds,
        event_stream_idle=settings.event_stream_idle_seconds,
    )


def _buckets(settings: GatewaySettings) -> dict[Limit, TokenBuckets]:
    return {
        "sign_in": TokenBuckets(settings.sign_ins_per_minute),
        "reset": TokenBuckets(settings.resets_per_minute),
        "public": TokenBuckets(settings.public_calls_per_minute),
        "callback": TokenBuckets(settings.callbacks_per_minute),
        "address": TokenBuckets(settings.address_calls_per_minute),
        "account": TokenBuckets(settings.account_calls_per_minute),
    }
