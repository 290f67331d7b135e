"""Events for tests that need some event."""

from __future__ import annotations

from typing import Any

from shared.events import Envelope, UserRegistered, decode, encode


def a_user_registered(user_id: int = 6, **changes: Any) -> UserRegistered:
    """Make an event of a new sponsor."""
    facts: dict[str, Any] = {
        "user_id": user_id,
        "version": 1,
        "email": f"sponsor{user_id}@example.com",
        "full_name": "Deniz Örnek",
        "roles": ["Sponsor"],
        "is_active": True,
        "status": "active",
    }
    return UserRegistered(**(facts | changes))


def an_envelope(user_id: int = 6, **changes: Any) -> tuple[Envelope, bytes]:
    """Make an event in its envelope, decoded and as it travels."""
    _, body = encode(a_user_registered(user_id, **changes))
    return decode(body), body
