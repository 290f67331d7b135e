"""A sponsor's stock of codes."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from services.invitations.store import codes
from services.invitations.store.codes import StockMovedError
from tests.invitations.stage import Stage, recipients

CODES = "/api/Sponsorship/admin/codes"


async def test_an_admin_fills_a_sponsors_stock(stage: Stage) -> None:
    answer = await stage.http.post(CODES, json={"sponsorId": 6, "tier": "XL", "count": 12}, headers=stage.admin())
    assert (answer.status_code, answer.json()["message"]) == (201, "12 kod eklendi")
    own = await stage.http.get("/api/Sponsorship/codes", headers=stage.sponsor())
    assert [(tier["tier"], tier["available"]) for tier in own.json()["tiers"]] == [
        ("S", 0),
        ("M", 0),
        ("L", 0),
        ("XL", 12),
    ]
    assert await stage.events("invitations.codes.added.v1") == [{"sponsor_id": 6, "package_tier": "XL", "count": 12}]
    (record,) = await stage.audit("invitations.codes.added")
    assert (record["actor"]["id"], record["target"], record["details"]["count"]) == (
        166,
        {"kind": "sponsor", "id": "6"},
        12,
    )


async def test_given_codes_are_taken_all_or_none(stage: Stage) -> None:
    body = {"sponsorId": 6, "tier": "S", "codes": ["S-AAAA-1", "S-AAAA-2"]}
    assert (await stage.http.post(CODES, json=body, headers=stage.admin())).status_code == 201
    body["codes"] = ["S-AAAA-3", "S-AAAA-2"]
    answer = await stage.http.post(CODES, json=body, headers=stage.admin())
    assert (answer.status_code, answer.json()["code"]) == (409, "CODE_ALREADY_KNOWN")
    assert (await stage.left("S"))["available"] == 2


async def test_codes_that_expired_are_not_given_out(stage: Stage) -> None:
    await stage.stock("M", 3)
    async with stage.context.database.transaction() as conn:
        await conn.execute(
            "UPDATE codes SET expires_at = now() - interval '1 s' WHERE id IN (SELECT id FROM codes LIMIT 2)"
        )
    assert await stage.left("M") == {"tier": "M", "available": 1, "reserved": 0, "spent": 0, "expired": 2}
    answer = await stage.invite(recipients(2))
    statuses = [result["deliveryStatus"] for result in answer.json()["data"]["results"]]
    assert statuses == ["Sent", "Failed - Insufficient Codes"]


async def test_codes_that_expire_first_are_given_out_first(stage: Stage) -> None:
    for expires in (None, "2099-01-01T00:00:00Z", "2098-01-01T00:00:00Z"):
        body = {"sponsorId": 6, "tier": "M", "count": 1, "expiresAt": expires}
        assert (await stage.http.post(CODES, json=body, headers=stage.admin())).status_code == 201
    await stage.invite(recipients(1))
    (reserved,) = await stage.query("SELECT expires_at FROM codes WHERE state = 'reserved'")
    assert reserved["expires_at"].year == 2098


async def test_a_wrong_order_of_codes_is_refused(stage: Stage) -> None:
    cases: list[Any] = [
        ({"count": 0}, 422, "count"),
        ({"count": 100_001}, 422, "count"),
        ({"count": "5"}, 422, "count"),
        ({"count": None}, 422, ""),
        ({"codes": ["S-1234"]}, 422, ""),
        ({"count": None, "codes": ["S-1234", "S-1234"]}, 422, ""),
        ({"count": None, "codes": ["a b c d"]}, 422, "codes.0"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, 422, "expiresAt"),
        ({"expiresAt": "2099-01-01T00:00:00"}, 422, "expiresAt"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, 422, "expiresAt"),
        ({"tier": "Z"}, 400, None),
        ({"sponsorId": 404}, 404, None),
        ({"sponsorId": 166}, 400, None),
    ]
    for change, status, field in cases:
        body = {"sponsorId": 6, "tier": "S", "count": 5} | change
        answer = await stage.http.post(CODES, json=body, headers=stage.admin())
        assert answer.status_code == status, answer.text
        if field is not None:
            assert answer.json()["errors"][0]["field"] == (field or "body")
        assert await stage.query("SELECT 1 FROM codes") == []


async def test_only_admins_see_and_fill_the_stock_of_others(stage: Stage) -> None:
    for call in (
        stage.http.post(CODES, json={"sponsorId": 6, "tier": "S", "count": 5}, headers=stage.sponsor()),
        stage.http.get(CODES, params={"sponsorId": 6}, headers=stage.sponsor()),
    ):
        answer = await call
        assert (answer.status_code, answer.json()["message"]) == (403, "Admin yetkisi gereklidir")
    answer = await stage.http.get(CODES, params={"sponsorId": 404}, headers=stage.admin())
    assert (answer.status_code, answer.json()["message"]) == (404, "Belirtilen sponsor bulunamadı")


async def test_the_database_itself_refuses_that_two_invitations_hold_one_code(stage: Stage) -> None:
    await stage.stock("M", 2)
    results = (await stage.invite(recipients(2))).json()["data"]["results"]
    with pytest.raises(asyncpg.UniqueViolationError, match="invitation_codes_held_once"):
        async with stage.context.database.transaction() as conn:
            await conn.execute(
                """INSERT INTO invitation_codes SELECT code_id, $2 FROM invitation_codes WHERE invitation_id = $1""",
                results[0]["invitationId"],
                results[1]["invitationId"],
            )


async def test_an_allocation_that_finds_less_than_was_counted_changes_nothing(stage: Stage) -> None:
    await stage.stock("M", 2)
    invitation_id = (await stage.invite(recipients(1))).json()["data"]["results"][0]["invitationId"]
    (free,) = await stage.query("SELECT id FROM codes WHERE state = 'available'")
    (other,) = await stage.query("INSERT INTO codes (sponsor_id, tier, code, state, added_by) VALUES"
                                 " (6, 'M', 'M-TAKEN', 'reserved', 166) RETURNING id")  # fmt: skip
    with pytest.raises(StockMovedError):
        async with stage.context.database.transaction() as conn:
            await codes.reserve_codes(conn, [free["id"], other["id"]], [invitation_id, invitation_id])
    assert (await stage.left("M"))["available"] == 1
