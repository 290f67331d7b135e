"""What a running referrals process holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.referrals.commands.connection import Access
from services.referrals.commands.sync import SyncRules
from services.referrals.microsoft import Microsoft
from services.referrals.partner_center import PartnerCenter
from services.referrals.settings import ReferralsSettings
from shared.db import Database
from shared.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that routes and consumers work with."""

    access: Access
    partner_center: PartnerCenter
    rules: SyncRules

    @property
    def database(self) -> Database:
        """Give the service's database."""
        return self.access.database

    async def close(self) -> None:
        """Give everything back."""
        await self.partner_center.close()
        await self.database.close()


def make_context(settings: ReferralsSettings) -> Context:
    """Make the context that the settings describe; nothing is connected yet."""
    database = Database(
        settings.database_url.get_secret_value(),
        schema="referrals",
        pool_size=settings.database_pool_size,
        migrations=Path(__file__).parent / "migrations",
    )
    proxy_url = settings.proxy_url.get_secret_value() if settings.proxy_url else None
    microsoft = Microsoft(
        authority=settings.tenant_authority,
        client_id=str(settings.client_id) if settings.client_id else None,
        scope=settings.scope,
        ca_file=settings.ca_file,
        proxy_url=proxy_url,
    )
    partner_center = PartnerCenter(
        api_url=settings.api_url,
        ca_file=settings.ca_file,
        proxy_url=proxy_url,
        next_link=settings.next_link,
        attempts=settings.request_attempts,
        backoff_seconds=settings.backoff_seconds,
    )
    return Context(
        access=Access(
            database,
            microsoft,
            Sealer(settings.key_bytes),
            tenant_id=str(settings.tenant_id) if settings.tenant_id else None,
        ),
        partner_center=partner_center,
        rules=SyncRules(
            is_enabled=settings.enabled,
            interval=timedelta(seconds=settings.sync_interval_seconds),
            overlap=timedelta(seconds=settings.overlap_seconds),
            sweep_interval=timedelta(seconds=settings.full_sweep_interval_seconds),
            quoted_dates=settings.quoted_dates,
        ),
    )
