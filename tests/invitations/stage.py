"""What tests of invitations do again and again: accounts, stock, calls, and looking at what came of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from services.invitations.app import create_app
from services.invitations.commands import accounts, placing
from services.invitations.context import Context
from services.invitations.settings import InvitationsSettings
from services.invitations.store import deliveries, jobs
from shared.db import Row
from shared.events import UserRegistered
from tests.support.builders import a_user_registered
from tests.support.tokens import Issuer

BULK = "/api/Sponsorship/farmer/invitations/bulk"
OBO = "/api/Sponsorship/admin/farmer/invitations/bulk"
OBO_EXCEL = "/api/Sponsorship/admin/farmer/invitations/bulk/excel"
INVITE = "/api/Sponsorship/farmer/invite"
LIST = "/api/Sponsorship/farmer/invitations"


def phone(number: int) -> str:
    """Give the n-th allotted mobile number, as people write it."""
    return f"0542{number:07d}"


def recipients(number: int, *, first: int = 0, code_count: int = 1, tier: str | None = "M") -> list[dict[str, Any]]:
    """Give so many recipients with different phones."""
    return [
        {"phone": phone(index), "farmerName": f"Çiftçi {index}", "codeCount": code_count, "packageTier": tier}
        for index in range(first, first + number)
    ]


@dataclass
class Stage:
    """A running HTTP door and what stands behind it."""

    http: httpx.AsyncClient
    context: Context
    issuer: Issuer

    async def register(self, user_id: int, *roles: str, **changes: Any) -> None:
        """Tell the service of an account."""
        event: UserRegistered = a_user_registered(user_id, roles=list(roles), **changes)
        async with self.context.database.transaction() as conn:
            await accounts.copy_account(conn, event)

    def admin(self, **claims: Any) -> dict[str, str]:
        """Sign in as admin 166, who may act for sponsor 6."""
        return self.issuer.headers(166, "Admin", **({"on_behalf_of": [6]} | claims))

    def sponsor(self, user_id: int = 6) -> dict[str, str]:
        """Sign in as a sponsor."""
        return self.issuer.headers(user_id, "Sponsor")

    async def stock(self, tier: str = "M", count: int = 100, sponsor_id: int = 6) -> None:
        """Fill a sponsor's stock."""
        body = {"sponsorId": sponsor_id, "tier": tier, "count": count}
        answer = await self.http.post("/api/Sponsorship/admin/codes", json=body, headers=self.admin())
        assert answer.status_code == 201, answer.text

    async def left(self, tier: str = "M", sponsor_id: int = 6) -> dict[str, int]:
        """Count a sponsor's codes of a tier."""
        answer = await self.http.get(
            "/api/Sponsorship/admin/codes", params={"sponsorId": sponsor_id}, headers=self.admin()
        )
        return next(stock for stock in answer.json()["tiers"] if stock["tier"] == tier)

    async def invite(self, invited: Sequence[dict[str, Any]], *, key: str | None = None, **body: Any) -> httpx.Response:
        """Make an admin's call for sponsor 6."""
        headers = self.admin() | ({"idempotency-key": key} if key else {})
        return await self.http.post(OBO, json={"sponsorId": 6, "recipients": list(invited)} | body, headers=headers)

    async def upload(
        self,
        content: bytes,
        *,
        path: str = BULK,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Upload a list as sponsor 6."""
        return await self.http.post(
            path, files={"excelFile": ("list.xlsx", content)}, data=fields or {}, headers=headers or self.sponsor()
        )

    async def place_all(self, job_id: int) -> None:
        """Place a job's rows as a worker that dies before it sends would, in the order of the outbox."""
        terms = self.context.terms()
        for event in await self.events("invitations.bulk_chunk.queued.v1"):
            if event["job_id"] == job_id:
                async with self.context.database.transaction() as conn:
                    placed = await placing.place_chunk(conn, job_id, event["first_row"], event["last_row"], terms)
                    await deliveries.release_claims(conn, placed.delivery_ids, terms.claimed_by, 0)

    async def events(self, routing_key: str) -> list[dict[str, Any]]:
        """Read the events of a kind that wait in the outbox (nobody relays them here)."""
        rows = await self.query("SELECT envelope FROM outbox WHERE routing_key = $1 ORDER BY id", routing_key)
        return [orjson.loads(row["envelope"])["data"] for row in rows]

    async def audit(self, action: str) -> list[dict[str, Any]]:
        """Read the audit records of an action."""
        records = await self.events("invitations.audit.recorded.v1")
        return [record for record in records if record["action"] == action]

    async def query(self, sql: str, *values: Any) -> list[Row]:
        """Look into the database."""
        async with self.context.database.connection() as conn:
            return await conn.fetch(sql, *values)

    async def progress(self, job_id: int) -> dict[str, Any]:
        """Ask the status URL."""
        answer = await self.http.get(f"{BULK}/{job_id}", headers=self.sponsor())
        data: dict[str, Any] = answer.json()["data"]
        return data

    async def last_job(self) -> int:
        """Give the job of the last call; the on-behalf-of answer does not name it."""
        async with self.context.database.connection() as conn:
            job_id: int = await conn.fetchval("SELECT max(id) FROM jobs")
            return job_id

    async def outcomes(self, job_id: int) -> dict[str, int]:
        """Count a job's rows by outcome."""
        async with self.context.database.connection() as conn:
            return {outcome.value: number for outcome, number in (await jobs.get_progress(conn, job_id)).counts.items()}


@asynccontextmanager
async def opened(settings: InvitationsSettings, issuer: Issuer) -> AsyncIterator[Stage]:
    """Open the service's HTTP door in this process."""
    app: FastAPI = create_app(settings, verifier=issuer.verifier())
    async with app.router.lifespan_context(app) as state:
        assert state is not None

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(app=with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service.test", timeout=60) as client:
            yield Stage(client, state["context"], issuer)
