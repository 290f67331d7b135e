"""What a running gateway holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.gateway.domain.addresses import Networks
from services.gateway.domain.breaker import Breaker
from services.gateway.domain.limits import TokenBuckets
from services.gateway.domain.revocations import Revocations
from services.gateway.domain.routing import AREAS, PUBLIC_TERMS, Limit, Terms
from services.gateway.proxy import PoolLimits, Timeouts, Upstream
from services.gateway.settings import GatewaySettings, split
from shared.health import Health
from shared.identity import TokenVerifier, keys_from


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

    def close(self) -> None:
        """Close every connection to the services."""
        for upstream in self.upstreams.values():
            upstream.pool.close()


def make_gateway(settings: GatewaySettings, *, verifier: TokenVerifier | None = None) -> Gateway:
    """Build what the settings describe; raises ValueError, naming what makes no sense."""
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
