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


def _in_utc(moment: datetime) -> datetime:
    """Take a time without a zone for UTC, as all our times are."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
