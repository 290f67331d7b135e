"""Points in time as clients write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.moments import Moment

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


@pytest.mark.parametrize("text", ["2027-01-01T10:00:00Z", "2027-01-01T13:00:00+03:00", "2027-01-01T10:00:00"])
def test_a_moment_without_a_zone_is_in_utc(text: str) -> None:
    assert MOMENT.validate_python(text).astimezone(UTC) == datetime(2027, 1, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_that_is_outside_our_calendar_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="between the years 1 and 9999"):
        MOMENT.validate_python(text)


@pytest.mark.parametrize("text", ["2026", "0.5", "-1", "1e9", 1_800_000_000, "nan"])
def test_a_number_is_no_moment(text: object) -> None:
    with pytest.raises(ValidationError, match="write date and time"):
        MOMENT.validate_python(text)
