"""Messages on their way: the queue of the senders and the record of every attempt.

Each function here is one step of the state machine in `domain.deliveries`; the caller commits between them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from services.invitations.domain.deliveries import Settlement, State
from services.invitations.domain.messages import DeliveryStatus
from services.invitations.domain.pacing import ProviderAccount
from shared.db import Connection, Row


class NewDelivery(NamedTuple):
    """A message as it is stored; the order is that of the columns in `insert_deliveries`."""

    id: UUID
    invitation_id: int
    ordinal: int
    channel: str
    provider: str
    state: State
    claimed_by: str | None
    lease_until: datetime | None
    due_at: datetime


class Answer(NamedTuple):
    """A settlement, and what the attempt is recorded to have brought."""

    settlement: Settlement
    outcome: str


_OUTGOING = """SELECT d.id, d.provider, d.ordinal, d.attempts, d.alone,
                      i.id AS invitation_id, i.status, i.phone, i.farmer_name, i.code_count,
                      i.token_sealed, jobs.custom_message, accounts.full_name AS sponsor_name,
                      s.quiet_from, s.quiet_until
                 FROM deliveries AS d JOIN invitations AS i ON i.id = d.invitation_id
                 JOIN jobs ON jobs.id = i.job_id JOIN accounts ON accounts.id = i.sponsor_id
                 LEFT JOIN sponsor_settings AS s ON s.sponsor_id = i.sponsor_id"""

# What a change of state means is decided by what it belongs to.
_AFFECTED = (
    """RETURNING d.id, d.state, d.provider, d.ordinal, d.channel, d.error_code, d.error_message, d.invitation_id"""
)


async def insert_deliveries(conn: Connection, deliveries: Sequence[NewDelivery]) -> None:
    """Store new messages."""
    await conn.copy_records_to_table("deliveries", columns=NewDelivery._fields, records=deliveries)


async def claim_due(conn: Connection, provider: str, sender: str, limit: int, lease_seconds: float) -> list[UUID]:
    """Take messages that are due; nobody else takes them until the lease is over."""
    rows = await conn.fetch(
        """WITH due AS MATERIALIZED (
               SELECT id FROM deliveries WHERE state = 'queued' AND provider = $1 AND due_at <= now()
                ORDER BY due_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
           UPDATE deliveries AS d SET state = 'claimed', claimed_by = $2, updated_at = now(),
                  lease_until = now() + make_interval(secs => $4)
             FROM due WHERE d.id = due.id RETURNING d.id""",
        provider,
        sender,
        limit,
        lease_seconds,
    )
    return [row["id"] for row in rows]


async def claim_spoilt(conn: Connection, delivery_ids: Sequence[UUID], sender: str, lease_seconds: float) -> list[UUID]:
    """Take those of the messages whose request was refused as a whole, before they are due for everybody."""
    rows = await conn.fetch(
        """UPDATE deliveries SET state = 'claimed', claimed_by = $2, updated_at = now(),
                  lease_until = now() + make_interval(secs => $3)
            WHERE id = ANY ($1) AND state = 'queued' AND alone RETURNING id""",
        delivery_ids,
        sender,
        lease_seconds,
    )
    return [row["id"] for row in rows]


async def list_outgoing(conn: Connection, delivery_ids: Sequence[UUID]) -> list[Row]:
    """Give what must be known to write the messages."""
    return await conn.fetch(f"{_OUTGOING} WHERE d.id = ANY ($1)", delivery_ids)


async def begin_sending(
    conn: Connection, batch_of: Mapping[UUID, UUID | None], sender: str, lease_seconds: float
) -> dict[UUID, int]:
    """Mark messages as being sent and open an attempt for each; gives its number where the message is still ours."""
    rows = await conn.fetch(
        """WITH begun AS (
               UPDATE deliveries AS d SET state = 'sending', attempts = attempts + 1, updated_at = now(),
                      batch_id = s.batch_id, lease_until = now() + make_interval(secs => $4)
                 FROM unnest($1::uuid[], $2::uuid[]) AS s (id, batch_id)
                WHERE d.id = s.id AND d.state = 'claimed' AND d.claimed_by = $3 AND d.lease_until > now()
            RETURNING d.id, d.attempts, d.provider),
           opened AS (
               INSERT INTO delivery_attempts (delivery_id, number, provider, sender)
               SELECT id, attempts, provider, $3 FROM begun)
           SELECT id, attempts FROM begun""",
        list(batch_of),
        list(batch_of.values()),
        sender,
        lease_seconds,
    )
    return {row["id"]: row["attempts"] for row in rows}


async def release_claims(conn: Connection, delivery_ids: Sequence[UUID], sender: str, pause_seconds: float) -> None:
    """Put claimed messages back in line; nothing was sent, and what failed before is not what they wait for now."""
    await conn.execute(
        """UPDATE deliveries SET state = 'queued', claimed_by = NULL, lease_until = NULL, updated_at = now(),
                  due_at = now() + make_interval(secs => $3), error_code = NULL, error_message = NULL
            WHERE id = ANY ($1) AND state = 'claimed' AND claimed_by = $2""",
        delivery_ids,
        sender,
        pause_seconds,
    )


async def end_waiting(conn: Connection, sponsor_id: int) -> None:
    """Make what a sponsor's quiet hours hold back due now; what waits after a failure has a code and waits on."""
    await conn.execute(
        """UPDATE deliveries AS d SET due_at = now(), updated_at = now() FROM invitations AS i
            WHERE d.state = 'queued' AND d.due_at > now() AND d.error_code IS NULL
              AND i.id = d.invitation_id AND i.sponsor_id = $1""",
        sponsor_id,
    )


async def close_attempts(conn: Connection, answers: Sequence[Answer]) -> None:
    """Write down what became of attempts."""
    await conn.execute(
        """UPDATE delivery_attempts AS a SET ended_at = now(), outcome = s.outcome, provider_id = s.provider_id,
                  code = s.code, reason = s.reason
             FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[])
                  AS s (id, number, outcome, provider_id, code, reason)
            WHERE a.delivery_id = s.id AND a.number = s.number AND a.ended_at IS NULL""",
        [answer.settlement.delivery_id for answer in answers],
        [answer.settlement.attempt for answer in answers],
        [answer.outcome for answer in answers],
        [answer.settlement.provider_id for answer in answers],
        [answer.settlement.code for answer in answers],
        [answer.settlement.reason for answer in answers],
    )


async def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Row]:
    """Move messages on from `sending` or `unknown`; gives those that moved.

    A callback or the sweeper may have been faster; what has moved past these two states is left alone. Who was held up
    and tells of an earlier attempt is believed only that the provider has the message: to send again or to give up is
    for whoever knows how the last attempt ended.
    """
    return await conn.fetch(
        f"""UPDATE deliveries AS d SET state = s.state, provider_id = coalesce(s.provider_id, d.provider_id),
                   error_code = s.code, error_message = s.reason, updated_at = now(),
                   lease_until = NULL, claimed_by = NULL,
                   due_at = now() + make_interval(secs => s.pause_seconds),
                   alone = d.alone OR s.alone,
                   was_requeued = d.was_requeued OR (d.state = 'unknown' AND s.state = 'queued')
              FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::float8[],
                          $8::bool[]) AS s (id, attempt, state, provider_id, code, reason, pause_seconds, alone)
             WHERE d.id = s.id AND d.state IN ('sending', 'unknown')
               AND (d.attempts = s.attempt OR s.state NOT IN ('queued', 'rejected', 'unknown', 'needs_review'))
               AND NOT (d.state = 'unknown' AND s.state = 'queued' AND d.was_requeued)
            {_AFFECTED}""",  # noqa: S608 - a constant of ours
        [settlement.delivery_id for settlement in settlements],
        [settlement.attempt for settlement in settlements],
        [settlement.state for settlement in settlements],
        [settlement.provider_id for settlement in settlements],
        [settlement.code for settlement in settlements],
        [settlement.reason for settlement in settlements],
        [settlement.pause_seconds for settlement in settlements],
        [settlement.alone for settlement in settlements],
    )


async def note_provider_ids(conn: Connection, settlements: Sequence[Settlement]) -> None:
    """Keep a provider's id that came after a callback had already moved the message on."""
    known = [settlement for settlement in settlements if settlement.provider_id]
    await conn.execute(
        """UPDATE deliveries AS d SET provider_id = s.provider_id
             FROM unnest($1::uuid[], $2::text[]) AS s (id, provider_id)
            WHERE d.id = s.id AND d.provider_id IS NULL""",
        [settlement.delivery_id for settlement in known],
        [settlement.provider_id for settlement in known],
    )


async def reroute(conn: Connection, channel: str, provider: str, in_use: Sequence[str], limit: int) -> int:
    """Give what waits for a provider that is not in use to another; it was certainly not sent."""
    status = await conn.execute(
        """UPDATE deliveries SET provider = $2, updated_at = now()
            WHERE id = ANY (ARRAY(SELECT id FROM deliveries
                                   WHERE state = 'queued' AND channel = $1 AND provider <> ALL ($3)
                                   LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED))""",
        channel,
        provider,
        in_use,
        limit,
    )
    return int(status.rpartition(" ")[2])


async def requeue_lost_claims(conn: Connection, limit: int) -> int:
    """Put back what a dead sender had claimed and not begun to send."""
    status = await conn.execute(
        """UPDATE deliveries SET state = 'queued', claimed_by = NULL, lease_until = NULL,
                  updated_at = now(), due_at = now()
            WHERE id = ANY (ARRAY(SELECT id FROM deliveries WHERE state = 'claimed' AND lease_until < now()
                                   LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED))""",
        limit,
    )
    return int(status.rpartition(" ")[2])


async def doubt_lost_sends(conn: Connection, limit: int) -> list[Row]:
    """Mark as unknown what a dead sender was sending, due for a look-up at once; gives those."""
    return await conn.fetch(
        f"""WITH lost AS MATERIALIZED (
                SELECT id FROM deliveries WHERE state = 'sending' AND lease_until < now()
                 LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED),
            closed AS (
                UPDATE delivery_attempts SET ended_at = now(), outcome = 'lost',
                       reason = 'the sender died or gave no sign'
                 WHERE delivery_id IN (SELECT id FROM lost) AND ended_at IS NULL)
            UPDATE deliveries AS d SET state = 'unknown', lease_until = NULL, claimed_by = NULL, updated_at = now(),
                   due_at = now(), error_code = 'LOST', error_message = 'the sender died or gave no sign'
              FROM lost WHERE d.id = lost.id {_AFFECTED}""",  # noqa: S608 - a constant of ours
        limit,
    )


async def count_due_look_ups(conn: Connection) -> list[tuple[str, int]]:
    """Count, per provider, the requests of which some message's look-up is due."""
    rows = await conn.fetch(
        """SELECT provider, count(DISTINCT coalesce(batch_id, id)) AS requests FROM deliveries
            WHERE state = 'unknown' AND due_at <= now() GROUP BY provider ORDER BY provider"""
    )
    return [(row["provider"], row["requests"]) for row in rows]


async def claim_look_ups(conn: Connection, provider: str, requests: int, lease_seconds: float) -> list[Row]:
    """Take messages of unknown outcome whose look-up is due, all those of a request; nobody else asks meanwhile."""
    return await conn.fetch(
        """WITH line AS (
               SELECT coalesce(batch_id, id) AS request FROM deliveries
                WHERE state = 'unknown' AND due_at <= now() AND provider = $1
                GROUP BY request ORDER BY min(due_at) LIMIT $2),
           due AS MATERIALIZED (
               SELECT id FROM deliveries
                WHERE state = 'unknown' AND due_at <= now() AND provider = $1
                  AND coalesce(batch_id, id) IN (SELECT request FROM line) FOR NO KEY UPDATE SKIP LOCKED)
           UPDATE deliveries AS d SET due_at = now() + make_interval(secs => $3)
             FROM due JOIN deliveries AS x ON x.id = due.id JOIN invitations AS i ON i.id = x.invitation_id
            WHERE d.id = due.id
        RETURNING d.id, d.provider, d.provider_id, d.batch_id, d.attempts, d.look_ups, d.was_requeued,
                  i.id AS invitation_id, i.phone, i.token_sealed,
                  (SELECT max(started_at) FROM delivery_attempts WHERE delivery_id = d.id) AS started_at""",
        provider,
        requests,
        lease_seconds,
    )


async def count_look_ups(conn: Connection, delivery_ids: Sequence[UUID]) -> None:
    """Note that the provider answered look-ups."""
    await conn.execute("UPDATE deliveries SET look_ups = look_ups + 1 WHERE id = ANY ($1)", delivery_ids)


async def lock_reported(conn: Connection, delivery_id: UUID | None, provider_id: str | None) -> Row | None:
    """Find the message that a report is about, by our id or by the provider's, and hold it."""
    return await conn.fetchrow(
        """SELECT id, state FROM deliveries
            WHERE id = $1 OR ($1::uuid IS NULL AND provider_id = $2) LIMIT 1 FOR NO KEY UPDATE""",
        delivery_id,
        provider_id,
    )


async def move_forward(
    conn: Connection, delivery_id: UUID, status: DeliveryStatus, provider_id: str | None, error_code: str | None
) -> Row | None:
    """Set what a report says; the caller holds the message and knows that this is forward."""
    return await conn.fetchrow(
        f"""UPDATE deliveries AS d SET state = $2, provider_id = coalesce(d.provider_id, $3), error_code = $4,
                   error_message = NULL, updated_at = now(), lease_until = NULL, claimed_by = NULL
             WHERE d.id = $1 {_AFFECTED}""",  # noqa: S608 - a constant of ours
        delivery_id,
        status,
        provider_id,
        error_code,
    )


async def cancel_unsent(conn: Connection, invitation_ids: Sequence[int]) -> list[int]:
    """Take back messages that nobody has begun to send; gives the invitations of those."""
    rows = await conn.fetch(
        """UPDATE deliveries SET state = 'cancelled', updated_at = now(), lease_until = NULL, claimed_by = NULL
            WHERE invitation_id = ANY ($1) AND state IN ('queued', 'claimed') RETURNING invitation_id""",
        invitation_ids,
    )
    return [row["invitation_id"] for row in rows]


async def list_unsent_of_job(conn: Connection, job_id: int) -> list[int]:
    """Find the invitations of a job whose message nobody has begun to send.

    Invitations are held before their messages, as by whoever ends a single one: else the two wait for each other.
    """
    await conn.execute(
        """SELECT 1 FROM job_rows AS r JOIN invitations AS i ON i.id = r.invitation_id
            WHERE r.job_id = $1 AND r.outcome = 'sending' ORDER BY i.id FOR NO KEY UPDATE OF i""",
        job_id,
    )
    rows = await conn.fetch(
        """SELECT d.invitation_id FROM job_rows AS r JOIN deliveries AS d ON d.invitation_id = r.invitation_id
            WHERE r.job_id = $1 AND r.outcome = 'sending' AND d.state IN ('queued', 'claimed')
            ORDER BY d.id FOR NO KEY UPDATE OF d""",
        job_id,
    )
    return [row["invitation_id"] for row in rows]


async def list_attempts(conn: Connection, invitation_id: int) -> list[Row]:
    """Give every message of an invitation with every attempt to send it."""
    return await conn.fetch(
        """SELECT d.id, d.ordinal, d.channel, d.state, d.created_at, d.updated_at, d.provider_id,
                  d.error_code, d.error_message,
                  coalesce(jsonb_agg(jsonb_build_object(
                           'number', a.number, 'provider', a.provider, 'startedAt', a.started_at,
                           'endedAt', a.ended_at, 'outcome', a.outcome, 'code', a.code, 'reason', a.reason)
                           ORDER BY a.number) FILTER (WHERE a.number IS NOT NULL), '[]') AS attempts
             FROM deliveries AS d LEFT JOIN delivery_attempts AS a ON a.delivery_id = d.id
            WHERE d.invitation_id = $1 GROUP BY d.id ORDER BY d.ordinal""",
        invitation_id,
    )


async def find_last(conn: Connection, invitation_id: int) -> Row | None:
    """Give the last message of an invitation; one that was held back, by quiet hours say, went out late."""
    return await conn.fetchrow(
        """SELECT id, ordinal, state, coalesce(
                      (SELECT max(started_at) FROM delivery_attempts WHERE delivery_id = d.id), created_at) AS went_at
             FROM deliveries AS d WHERE invitation_id = $1 ORDER BY ordinal DESC LIMIT 1""",
        invitation_id,
    )


async def lock_provider_account(conn: Connection, provider: str, burst: float) -> tuple[ProviderAccount, datetime]:
    """Hold the shared state of a provider account; gives it with the database's time, which all senders share."""
    row = await conn.fetchrow(
        "SELECT *, clock_timestamp() AS now FROM provider_accounts WHERE provider = $1 FOR NO KEY UPDATE", provider
    )
    if row is None:
        await conn.execute(
            "INSERT INTO provider_accounts (provider, tokens) VALUES ($1, $2) ON CONFLICT DO NOTHING", provider, burst
        )
        return await lock_provider_account(conn, provider, burst)
    return ProviderAccount(row["tokens"], row["refilled_at"], row["failures"], row["paused_until"]), row["now"]


async def save_provider_account(conn: Connection, provider: str, account: ProviderAccount) -> None:
    """Keep the shared state of a provider account."""
    await conn.execute(
        """UPDATE provider_accounts SET tokens = $2, refilled_at = $3, failures = $4, paused_until = $5
            WHERE provider = $1""",
        provider,
        account.tokens,
        account.refilled_at,
        account.failures,
        account.paused_until,
    )


async def list_belongings(conn: Connection, invitation_ids: Sequence[int]) -> dict[int, Row]:
    """Give what messages belong to: invitation, row, job, sponsor, phone."""
    rows = await conn.fetch(
        "SELECT id, job_id, row_no, sponsor_id, phone FROM invitations WHERE id = ANY ($1)", invitation_ids
    )
    return {row["id"]: row for row in rows}
