"""The numbers that govern accounts, as the operator set them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from services.auth.domain.lockout import ThrottleRules
from services.auth.domain.sessions import SessionLimits
from services.auth.domain.tokens import TokenLifetimes

# Verifiers fetch keys at the latest a minute after they meet an unknown one; the rest covers skewed clocks.
KEY_LEAD: Final = timedelta(minutes=5)
BREAK_GLASS_LASTS: Final = timedelta(hours=24)
# Mails per address: five, then a pause. Nothing of it shows in the answer to the request. No pause is longer than a
# token lives, so that a stranger who keeps asking leaves the owner a live link at any time.
RESET_MAILS: Final = ThrottleRules(
    free_failures=5,
    first_pause=timedelta(minutes=15),
    longest_pause=timedelta(minutes=30),
    forgotten_after=timedelta(hours=1),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that a command needs to know besides its input."""

    issuer: str
    audience: str
    lifetimes: TokenLifetimes = field(default_factory=TokenLifetimes)
    sessions: SessionLimits = field(default_factory=SessionLimits)
    sign_ins: ThrottleRules = field(default_factory=ThrottleRules)
    reset_mails: ThrottleRules = RESET_MAILS
    key_lead: timedelta = KEY_LEAD
    admins_need_second_factor: bool = False
