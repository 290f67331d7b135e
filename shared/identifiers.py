"""Ids of events and tasks."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7 as _uuid7


def uuid7() -> UUID:
    """Make an id that sorts by the time it was made (RFC 9562), so that indexes on it grow at one end."""
    return _uuid7()
