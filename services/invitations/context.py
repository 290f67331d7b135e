"""What a running invitations process holds."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from services.invitations.commands.placing import Terms
from services.invitations.commands.sending import Sender
from services.invitations.domain.bulk import Channel
from services.invitations.domain.messages import Provider
from services.invitations.domain.throttle import Throttle
from services.invitations.message_log import MessageLog
from services.invitations.settings import InvitationsSettings
from services.invitations.twilio import Twilio
from services.invitations.verimor import Verimor
from shared.db import Database
from shared.identifiers import uuid7
from shared.sealing import Sealer


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that routes and consumers work with."""

    database: Database
    settings: InvitationsSettings
    sealer: Sealer
    verimor: Verimor | None
    twilio: Twilio | None
    sender: Sender
    throttle: Throttle
    providers: Mapping[str, Provider]
    reading: asyncio.Semaphore

    def terms(self) -> Terms:
        """Say how invitations are made now."""
        return Terms(
            sealer=self.sealer,
            providers={channel: self.settings.provider_of(channel) for channel in Channel},
            expiry=timedelta(days=self.settings.expiry_days),
            claimed_by=self.sender.name,
            lease=timedelta(seconds=self.settings.lease_seconds),
            is_commercial=self.settings.verimor_commercial,
        )


@asynccontextmanager
async def open_context(settings: InvitationsSettings) -> AsyncIterator[Context]:
    """Open what the settings describe; give it all back at the end, after the messages at hand are settled."""
    database = Database(
        settings.database_url.get_secret_value(),
        schema="invitations",
        pool_size=settings.database_pool_size,
        migrations=Path(__file__).parent / "migrations",
    )
    sealer = settings.make_sealer()
    verimor, twilios = verimor_of(settings), _twilios(settings)
    providers: list[Provider] = [*([verimor] if verimor else []), *twilios, MessageLog()]
    by_name = {provider.name: provider for provider in providers}
    sender = Sender(
        database,
        by_name,
        sealer=sealer,
        settings=settings,
        # Never the same after a restart: a claim belongs to one life of one process.
        name=f"{socket.gethostname()}/{os.getpid()}/{uuid7().hex[-8:]}",
    )
    try:
        async with sender.settling():
            yield Context(
                database,
                settings,
                sealer,
                verimor,
                twilios[0] if twilios else None,
                sender,
                Throttle(settings.accept_attempts_per_minute),
                by_name,
                asyncio.Semaphore(settings.files_at_once),
            )
    finally:
        for provider in providers:
            await provider.close()
        await database.close()


def verimor_of(settings: InvitationsSettings) -> Verimor | None:
    """Make the client of Verimor that the settings describe."""
    if settings.verimor_url is None:
        return None
    return Verimor(
        url=settings.verimor_url,
        username=settings.verimor_username,
        password=settings.verimor_password.get_secret_value(),
        sender=settings.verimor_sender,
        commercial=settings.verimor_commercial,
        answer_seconds=settings.provider_seconds,
    )


def _twilios(settings: InvitationsSettings) -> list[Twilio]:
    """Make a client for each channel that goes out by Twilio; each can read the callbacks of both."""
    if settings.twilio_url is None:
        return []
    url = settings.twilio_url

    def client(sender: str, content_sid: str | None) -> Twilio:
        return Twilio(
            url=url,
            account_sid=settings.twilio_account_sid,
            auth_token=settings.twilio_auth_token.get_secret_value(),
            sender=sender,
            callback_url=f"{settings.callback_base_url.rstrip('/')}/callbacks/twilio",
            content_sid=content_sid,
            answer_seconds=settings.provider_seconds,
        )

    on_whatsapp = [client(settings.twilio_from, settings.twilio_content_sid)] if settings.twilio_content_sid else []
    by_sms = [client(settings.twilio_sms_from, None)] if settings.twilio_sms_from else []
    return on_whatsapp + by_sms
