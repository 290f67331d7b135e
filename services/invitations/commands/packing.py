"""Packing messages into requests, for providers that take many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.invitations.domain.messages import BatchProvider, Provider
from shared.db import Row
from shared.identifiers import uuid7


@dataclass(frozen=True, slots=True)
class Parcel:
    """What goes out in one request; without a batch id, one message under its own id."""

    batch_id: UUID | None
    rows: Sequence[Row]


def pack(provider: Provider, line: Sequence[Row], requests: int) -> list[Parcel]:
    """Pack the head of the line into so many requests, in its order."""
    most = provider.most_at_once if isinstance(provider, BatchProvider) else 1
    parcels: list[Parcel] = []
    together: list[Row] = []
    for row in line:
        if len(parcels) + bool(together) >= requests and (row["alone"] or len(together) in {0, most}):
            break
        if row["alone"] or len(together) == most:
            parcels += _parcel_of(together)
            together = []
        if row["alone"]:
            parcels.append(Parcel(None, [row]))
        else:
            together.append(row)
    return parcels + _parcel_of(together)


def _parcel_of(rows: Sequence[Row]) -> list[Parcel]:
    """Make a request of these; a single message needs no batch, its own id is enough."""
    return [Parcel(uuid7() if len(rows) > 1 else None, rows)] if rows else []


def first_of(parcels: Sequence[Parcel], granted: int) -> list[Parcel]:
    """Cut what may go now off what would go."""
    kept: list[Parcel] = []
    for parcel in parcels:
        rows = parcel.rows[: max(0, granted)]
        granted -= len(rows)
        if rows:
            kept.append(Parcel(parcel.batch_id, rows))
    return kept
