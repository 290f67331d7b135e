"""Points in time as clients write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def _written_out(value: Any) -> Any:
    """Refuse numbers: pydantic counts them in seconds from 1970, so `2026` would silently mean half past midnight."""
    try:
        float(value)
    except (TypeError, ValueError):
        return value
    raise ValueError("write date and time, such as 2027-01-01T00:00:00Z")


def in_utc(moment: datetime) -> datetime:
    """Take a time without a zone for UTC, as all our times are; raises ValueError."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1 and 9999 in UTC") from None


def read_moment(text: str) -> datetime:
    """Read a point in time that we have written, or somebody else in its place; raises ValueError."""
    return in_utc(datetime.fromisoformat(text))


def write_moment(moment: datetime | None) -> str | None:
    """Write a point in time as all our answers do: UTC, RFC 3339, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


Moment = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(in_utc)]
