"""Syncing referrals: asking for it, and going through the pages, each of which is one transaction."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from services.referrals.commands.connection import SERVICE, Access, get_credential, require_sign_in
from services.referrals.domain.failures import (
    AccessDenied,
    NextLinkRefused,
    PartnerCenterDisabled,
    PartnerCenterNotConfigured,
    PartnerCenterThrottled,
    QueryRefused,
    SignInRequired,
    SyncOvertaken,
    SyncStuck,
    TokenCacheInvalid,
    TokenCacheKeyMismatch,
    TokenRefused,
)
from services.referrals.domain.referrals import Referral, Rejected, changed_fields, newest_of_each, read_items
from services.referrals.domain.syncs import Counts, Listing, Mode, Sync, SyncState
from services.referrals.microsoft import Token
from services.referrals.partner_center import PartnerCenter, ReadAhead
from services.referrals.store import connections as connection_store
from services.referrals.store import referrals as referral_store
from services.referrals.store import syncs as store
from shared import audit, outbox
from shared.db import Connection, Database, DatabaseUnavailable, Row
from shared.errors import Failure, Unavailable
from shared.events import (
    Event,
    ReferralChanged,
    ReferralReceived,
    ReferralsAudit,
    ReferralSyncCompleted,
    ReferralSyncFailed,
    ReferralSyncRequested,
)
from shared.events.audit import Actor, Target
from shared.identifiers import uuid7
from shared.identity import Principal

log = logging.getLogger(__name__)

# What no further attempt cures; the task ends and says why.
_FINAL: Final = (
    AccessDenied,
    NextLinkRefused,
    QueryRefused,
    TokenCacheKeyMismatch,
    TokenCacheInvalid,
    PartnerCenterNotConfigured,
)
# Nobody documents which address takes a $skiptoken (facts 1.2).
_CONTINUATION_CURE: Final = (
    "No page after the first one is given: set HUNTER_PARTNER_CENTER_NEXT_LINK to the other of lift and follow."
)
# Longer than every wait inside one attempt; beyond it the message must have been lost with a dead letter or a queue.
_STALLED_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class SyncRules:
    """How often and how far back."""

    is_enabled: bool
    interval: timedelta
    overlap: timedelta
    sweep_interval: timedelta
    quoted_dates: bool


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page that was fetched and read."""

    referrals: list[Referral]
    rejected: list[Rejected]
    next_target: str | None


async def request_sync(
    conn: Connection, rules: SyncRules, *, mode: Mode, asked_by: Principal | Actor
) -> tuple[Sync, bool]:
    """Queue a sync, or give the one that is queued or running and False."""
    if not rules.is_enabled:
        raise PartnerCenterDisabled
    actor = audit.actor_of(asked_by) if isinstance(asked_by, Principal) else asked_by
    while True:
        sync = await store.insert_sync(conn, uuid7(), mode, actor)
        if sync is not None:
            await outbox.add(conn, ReferralSyncRequested(task_id=sync.task_id, mode=mode))
            await _record(conn, sync, actor, "requested")
            return sync, True
        if sync := await store.find_open_sync(conn):
            return sync, False


async def request_due_sync(database: Database, rules: SyncRules) -> None:
    """Ask for a sync when the interval is over, and again for one that had to wait or whose message was lost."""
    if not rules.is_enabled:
        return
    async with database.transaction() as conn:
        if idle := await store.take_idle_sync(conn, _STALLED_SECONDS):
            log.info("partner_center_sync_revived task_id=%s", idle.task_id)
            await outbox.add(conn, ReferralSyncRequested(task_id=idle.task_id, mode=idle.mode))
            return
        connection = await connection_store.find_connection(conn)
        if connection is None or connection.refused_because is not None:
            return  # without a sign-in there is nothing to try; that one is needed has been told
        last = await store.find_last_request(conn)
        if datetime.now(UTC) - max(last or connection.connected_at, connection.connected_at) >= rules.interval:
            await request_sync(conn, rules, mode="incremental", asked_by=SERVICE)


async def run_sync(access: Access, partner_center: PartnerCenter, rules: SyncRules, task_id: UUID) -> None:
    """Carry a sync out, from the page where another worker left it; raises Unavailable to be called again later."""
    sync = await _take_up(access, rules, task_id)
    if sync is None:
        return
    pages = ReadAhead(functools.partial(_read_page, partner_center))
    try:
        is_done = sync.is_read  # a worker died between the last page and the end
        while not is_done:
            sync, page = await _fetch_page(access, partner_center, pages, rules, sync)
            sync, is_done = await _store_page(access.database, sync, page)
        await _succeed(access.database, sync)
    except SignInRequired as error:
        log.warning("partner_center_sync_skipped reason=sign_in_required task_id=%s", task_id)
        await _end(access.database, sync, SyncState.SIGN_IN_REQUIRED, error)
    except _FINAL as error:
        await _end(access.database, sync, SyncState.FAILED, error)
    except DatabaseUnavailable:
        raise  # the consumer waits for it and calls again
    except Unavailable as error:
        if sync.is_worn_out:
            await _end(access.database, sync, SyncState.FAILED, error)
            return
        await _note_wait(access.database, sync, error)
        if not isinstance(error, PartnerCenterThrottled):
            raise  # the ladder brings the message back; after a long wait the schedule asks again
    finally:
        await pages.close()


async def _take_up(access: Access, rules: SyncRules, task_id: UUID) -> Sync | None:
    now = datetime.now(UTC)
    async with access.database.transaction() as conn:
        sync = await store.lock_sync(conn, task_id)
        if not sync.state.is_open or (sync.wait_until and sync.wait_until > now):
            return None
        is_first = sync.state is SyncState.QUEUED
        was_worn_out = sync.is_worn_out
        sync = sync.take_up(now)
        await store.save_sync(conn, sync)
    log.info("partner_center_sync_task_started task_id=%s pages_done=%d", task_id, sync.pages)
    if not rules.is_enabled:
        log.warning("partner_center_sync_skipped reason=disabled task_id=%s", task_id)
        await _end(access.database, sync, SyncState.FAILED, PartnerCenterDisabled())
        return None
    if was_worn_out:
        # An error that nobody foresaw, or a worker that dies at this page again and again.
        await _end(access.database, sync, SyncState.FAILED, SyncStuck())
        return None
    if is_first:
        log.info("partner_center_sync_started mode=%s task_id=%s", sync.mode, task_id)
    return sync


async def _fetch_page(
    access: Access, partner_center: PartnerCenter, pages: ReadAhead[ReadPage], rules: SyncRules, sync: Sync
) -> tuple[Sync, ReadPage]:
    """Fetch the next page; a refused query is asked in the next simpler way, a refused token is renewed once."""
    refused: Token | None = None
    while True:
        credential = await get_credential(access, refused=refused)
        if sync.account_id != credential.account.home_account_id:
            # At the start; or in the middle, when somebody else has signed in: they may see other referrals, and a
            # listing that is half of each would mark the wrong ones as missing.
            sync = await _plan(access.database, rules, sync, credential.account.home_account_id)
        target = sync.next_target or _first_target(partner_center, rules, sync)
        try:
            return sync, await pages.get_page(target, credential.token.access_token)
        except TokenRefused as error:
            is_beyond_renewal = refused is not None or error.kind != "expired"
            if is_beyond_renewal and await require_sign_in(access, credential, error.message):
                raise SignInRequired(error.message) from error
            refused = credential.token
        except QueryRefused as error:
            simpler = sync.fall_back()
            if simpler is None and sync.next_target is not None:
                raise QueryRefused(f"{error.message} {_CONTINUATION_CURE}") from error
            if simpler is None:
                raise
            log.warning("partner_center_query_refused listing=%s next=%s", sync.listing, simpler.listing)
            sync = simpler


async def _plan(database: Database, rules: SyncRules, sync: Sync, account_id: str) -> Sync:
    """Decide how to ask: for changes since the watermark of this account, or for everything."""
    now = datetime.now(UTC)
    async with database.transaction() as conn:
        # Else a slow worker would take away what a faster one has seen, and that would count as missing.
        await _hold(conn, sync)
        await referral_store.delete_sightings(conn, sync.task_id)
        watermark = await store.find_watermark(conn, account_id)
        last_sweep = await store.find_last_sweep(conn, account_id)
    is_sweep_due = last_sweep is None or now - last_sweep >= rules.sweep_interval
    if sync.mode == "full" or watermark is None or is_sweep_due:
        return sync.list_by(Listing.EVERYTHING, since=None, account_id=account_id)
    return sync.list_by(Listing.FILTERED, since=watermark - rules.overlap, account_id=account_id)


def _first_target(partner_center: PartnerCenter, rules: SyncRules, sync: Sync) -> str:
    if sync.listing is Listing.FILTERED and sync.since is not None:
        moment = sync.since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        value = f"'{moment}'" if rules.quoted_dates else moment
        # `ge`, never `gt`: the stored time is cut to microseconds and so lies before the true one.
        return partner_center.first_target(filtered_by=f"updatedDateTime ge {value}", ordered_by="updatedDateTime asc")
    if sync.listing is Listing.DESCENDING:
        return partner_center.first_target(ordered_by="updatedDateTime desc")
    return partner_center.first_target(ordered_by="createdDateTime asc")


async def _read_page(partner_center: PartnerCenter, target: str, access_token: str) -> ReadPage:
    """Fetch a page and read it, which is the dearer half: done ahead, it costs no time while Postgres is busy."""
    page = await partner_center.get_page(target, access_token)
    referrals, rejected = read_items(page.items)
    for item in rejected:
        log.warning("partner_center_referral_rejected position=%d reason=%s", item.position, item.reason)
    return ReadPage(referrals, rejected, page.next_target)


async def _store_page(database: Database, sync: Sync, page: ReadPage) -> tuple[Sync, bool]:
    """Store a page and the position behind it in one transaction: whoever dies, no page is lost or counted twice."""
    newest = max(page.referrals, key=lambda referral: referral.updated_at, default=None)
    async with database.transaction() as conn:
        await _hold(conn, sync)
        created, updated, known_ids = await _store_referrals(conn, newest_of_each(page.referrals))
        for item in page.rejected:
            await referral_store.save_rejected(conn, sync.task_id, sync.pages + 1, item)
        if sync.listing is Listing.EVERYTHING:
            # What has become malformed is there all the same.
            seen = known_ids + [item.referral_id for item in page.rejected if item.referral_id]
            await referral_store.insert_sightings(conn, sync.task_id, seen)
        found = Counts(
            fetched=len(page.referrals) + len(page.rejected),
            created=created,
            updated=updated,
            unchanged=len(page.referrals) - created - updated,
            rejected=len(page.rejected),
        )
        is_done = sync.is_done_after(page.referrals, page.next_target)
        sync = sync.turn_page(found, newest=newest, next_target=None if is_done else page.next_target)
        await store.save_sync(conn, sync)
    return sync, is_done


async def _hold(conn: Connection, sync: Sync) -> None:
    """Keep others off the task until the transaction ends; raises SyncOvertaken where another one is further."""
    known = await store.lock_sync(conn, sync.task_id)
    if known.pages != sync.pages or not known.state.is_open:
        raise SyncOvertaken


async def _store_referrals(conn: Connection, referrals: list[Referral]) -> tuple[int, int, list[str]]:
    """Insert, update or leave alone; gives how many were created and updated, and which were known before."""
    known = await referral_store.find_referrals(conn, [referral.referral_id for referral in referrals])
    created = [referral for referral in referrals if referral.referral_id not in known]
    updated = [
        referral
        for referral in referrals
        if (row := known.get(referral.referral_id)) is not None
        and row["digest"] != referral.digest
        and row["updated_at"] <= referral.updated_at
    ]
    before = await referral_store.find_raw(conn, [referral.referral_id for referral in updated])
    changed = [_changed(known[referral.referral_id], before[referral.referral_id], referral) for referral in updated]
    moved = [
        referral
        for referral, event in zip(updated, changed, strict=True)
        if event.changes.keys() & {"status", "substatus"}
    ]
    await referral_store.save_referrals(conn, created + updated)
    await referral_store.insert_statuses(conn, created + moved)
    if reappeared := [referral_id for referral_id, row in known.items() if row["missing_since"]]:
        await referral_store.note_seen(conn, reappeared)
    await outbox.add_many(conn, [*map(_received, created), *changed])
    return len(created), len(updated), list(known)


def _received(referral: Referral) -> Event:
    return ReferralReceived(
        referral_id=referral.referral_id,
        status=referral.status,
        substatus=referral.substatus,
        referral_type=referral.referral_type,
        company_name=referral.company_name,
        country=referral.country,
        updated_at=referral.updated_at,
    )


def _changed(row: Row, raw_before: dict[str, Any], referral: Referral) -> ReferralChanged:
    return ReferralChanged(
        referral_id=referral.referral_id,
        changes=referral_store.changes_between(row, referral),
        fields=changed_fields(raw_before, referral),
        updated_at=referral.updated_at,
    )


async def _succeed(database: Database, sync: Sync) -> None:
    counts = sync.counts
    log.info("partner_center_referrals_fetched count=%d", counts.fetched)
    async with database.transaction() as conn:
        known = await store.lock_sync(conn, sync.task_id)
        if not known.state.is_open:
            raise SyncOvertaken
        missing = await referral_store.mark_missing(conn, sync.task_id) if sync.listing is Listing.EVERYTHING else 0
        await referral_store.delete_sightings(conn, sync.task_id)
        await store.save_sync(conn, sync.finish(SyncState.SUCCEEDED, datetime.now(UTC)))
        await outbox.add(
            conn,
            ReferralSyncCompleted(
                task_id=sync.task_id,
                fetched=counts.fetched,
                created=counts.created,
                updated=counts.updated,
                unchanged=counts.unchanged,
                rejected=counts.rejected,
            ),
        )
        await _record(conn, sync, await store.asked_by(conn, sync.task_id), "completed")
    if missing:
        log.warning("partner_center_referrals_missing count=%d", missing)
    _log_summary(sync, "succeeded")


async def _end(database: Database, sync: Sync, state: SyncState, error: Failure) -> None:
    async with database.transaction() as conn:
        known = await store.lock_sync(conn, sync.task_id)
        if not known.state.is_open:
            return
        sync = sync.finish(state, datetime.now(UTC), code=error.code, error=error.message)
        await referral_store.delete_sightings(conn, sync.task_id)
        await store.save_sync(conn, sync)
        await outbox.add(conn, ReferralSyncFailed(task_id=sync.task_id, error=f"{error.code}: {error.message}"))
        actor = await store.asked_by(conn, sync.task_id)
        await _record(conn, sync, actor, state.value, outcome="failure", reason=error.message, severity="warning")
    log.error("partner_center_sync_failed task_id=%s code=%s error=%s", sync.task_id, error.code, error.message)
    _log_summary(sync, state.value)


async def _note_wait(database: Database, sync: Sync, error: Unavailable) -> None:
    """Note why the sync waits, and until when, if Microsoft said so."""
    until = None
    if isinstance(error, PartnerCenterThrottled) and error.retry_after:
        until = datetime.now(UTC) + timedelta(seconds=error.retry_after)
    async with database.transaction() as conn:
        known = await store.lock_sync(conn, sync.task_id)
        if not known.state.is_open:
            return
        await store.save_sync(conn, replace(known, wait_until=until, error_code=error.code, error=error.message))
    log.warning("partner_center_sync_waits task_id=%s reason=%s", sync.task_id, error.message)


def _log_summary(sync: Sync, state: str) -> None:
    counts = sync.counts
    log.info(
        "partner_center_sync_summary total_referrals=%d success_count=%d failure_count=%d skipped_count=%d",
        counts.fetched,
        counts.created + counts.updated,
        counts.rejected,
        counts.unchanged,
    )
    log.info("partner_center_sync_task_completed task_id=%s state=%s", sync.task_id, state)


async def _record(conn: Connection, sync: Sync, actor: Actor, what: str, **more: Any) -> None:
    await audit.record(
        conn,
        ReferralsAudit,
        action=f"partner_center.sync.{what}",
        actor=actor,
        target=Target(kind="sync", id=str(sync.task_id)),
        details={"mode": sync.mode, "fetched": sync.counts.fetched},
        **more,
    )
