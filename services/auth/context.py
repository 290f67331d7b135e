"""What a running auth process holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.auth.domain.hashing import HashCost, PasswordHasher
from services.auth.domain.lockout import ThrottleRules
from services.auth.domain.passwords import PasswordPolicy, read_blocklist
from services.auth.domain.rules import Rules
from services.auth.domain.sessions import SessionLimits
from services.auth.domain.tokens import TokenLifetimes
from services.auth.mailer import LogDelivery, Mailer, SmtpDelivery
from services.auth.settings import OperatorSettings
from shared.db import Database
from shared.sealing import Sealer

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that routes and consumers work with."""

    database: Database
    hasher: PasswordHasher
    policy: PasswordPolicy
    sealer: Sealer
    rules: Rules
    mailer: Mailer
    clock: Clock

    async def close(self) -> None:
        """Give everything back."""
        self.hasher.close()
        await self.database.close()


def make_context(settings: OperatorSettings, *, clock: Clock = lambda: datetime.now(UTC)) -> Context:
    """Make the context that the settings describe; nothing is connected yet."""
    return Context(
        database=Database(
            settings.database_url.get_secret_value(),
            schema="auth",
            pool_size=settings.database_pool_size,
            migrations=Path(__file__).parent / "migrations",
        ),
        hasher=PasswordHasher(
            HashCost(settings.hash_memory_kib, settings.hash_passes, settings.hash_lanes), threads=settings.hash_threads
        ),
        policy=_policy(settings),
        sealer=Sealer(settings.key_bytes),
        rules=_rules(settings),
        mailer=_mailer(settings),
        clock=clock,
    )


@asynccontextmanager
async def open_context(settings: OperatorSettings) -> AsyncIterator[Context]:
    """Open what a process holds and give it back at the end."""
    context = make_context(settings)
    try:
        yield context
    finally:
        await context.close()


def _policy(settings: OperatorSettings) -> PasswordPolicy:
    file = settings.password_blocklist_file
    return PasswordPolicy(
        shortest=settings.password_min_length,
        blocked=read_blocklist(file) if file else frozenset(),
        context_words=tuple(word.strip() for word in settings.password_context_words.split(",") if word.strip()),
    )


def _rules(settings: OperatorSettings) -> Rules:
    def seconds(number: int) -> timedelta:
        return timedelta(seconds=number)

    return Rules(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        lifetimes=TokenLifetimes(
            access=seconds(settings.access_token_seconds),
            reset=seconds(settings.reset_token_seconds),
            first_password=seconds(settings.first_password_token_seconds),
        ),
        sessions=SessionLimits(
            lifetime=seconds(settings.session_seconds),
            idle=seconds(settings.session_idle_seconds),
            grace=seconds(settings.refresh_grace_seconds),
        ),
        sign_ins=ThrottleRules(
            free_failures=settings.sign_in_free_failures,
            first_pause=seconds(settings.sign_in_first_pause_seconds),
            longest_pause=seconds(settings.sign_in_longest_pause_seconds),
        ),
        key_lead=seconds(settings.key_lead_seconds),
        admins_need_second_factor=settings.second_factor_for_admins,
    )


def _mailer(settings: OperatorSettings) -> Mailer:
    if settings.smtp_url is None or settings.reset_delivery == "log":
        return LogDelivery()
    return SmtpDelivery(
        settings.smtp_url.get_secret_value(),
        sender=settings.smtp_from,
        public_url=settings.public_url,
        timeout_seconds=settings.smtp_timeout_seconds,
        tls_required=settings.environment == "production",
    )
