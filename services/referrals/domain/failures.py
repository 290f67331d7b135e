"""What can go wrong between us, Microsoft and the people who ask."""

from __future__ import annotations

from typing import Final, Literal

from shared.errors import BadRequest, Conflict, Failure, NotFound, Unavailable

_LONGEST_WORDS: Final = 300


def in_one_line(words: object) -> str:
    """Take Microsoft's words as far as a database and an event can hold them: no NUL, no half of a character."""
    text = "".join(character if character.isprintable() else " " for character in str(words))
    return " ".join(text.split())[:_LONGEST_WORDS]


class PartnerCenterDisabled(BadRequest):
    """The feature flag is off."""

    code = "PARTNER_CENTER_DISABLED"
    message = "Partner Center integration is disabled. Enable feature flag to use this endpoint."


class PartnerCenterNotConfigured(BadRequest):
    """Nobody has said which tenant and application to sign in with."""

    code = "PARTNER_CENTER_NOT_CONFIGURED"
    message = "Set HUNTER_PARTNER_CENTER_TENANT_ID and HUNTER_PARTNER_CENTER_CLIENT_ID, then restart the service."


class ReferralNotFound(NotFound):
    """No referral has this id."""

    code = "REFERRAL_NOT_FOUND"
    message = "There is no such referral."


class SyncNotFound(NotFound):
    """No sync task has this id."""

    code = "SYNC_NOT_FOUND"
    message = "There is no such sync task."


class SyncOvertaken(Conflict):
    """Another worker carries this sync out; ours has nothing to do."""

    code = "SYNC_OVERTAKEN"
    message = "Another worker carries this sync out."


class SyncStuck(Failure):
    """Every attempt at one page ended in a way that nobody foresaw."""

    code = "SYNC_STUCK"
    message = "Several attempts at the same page failed. The log of the worker says why."


class SignInNotFound(NotFound):
    """No sign-in has this id."""

    code = "SIGN_IN_NOT_FOUND"
    message = "There is no such sign-in."


class SignInRequired(Conflict):
    """A person must sign in at Microsoft before this can go on."""

    code = "SIGN_IN_REQUIRED"
    message = (
        "Nobody has signed in at Partner Center yet: run `python -m services.referrals sign-in`, "
        "or POST /api/referrals/sign-in."
    )


class SignInRefused(BadRequest):
    """Microsoft refused a sign-in, for good."""

    code = "SIGN_IN_REFUSED"

    def __init__(self, message: str, *, state: str = "failed", error: str) -> None:
        super().__init__(message)
        self.state = state
        self.error = error


class TokenCacheInvalid(BadRequest):
    """What should be a token cache is none."""

    code = "TOKEN_CACHE_INVALID"


class TokenCacheKeyMismatch(Conflict):
    """The stored token cache does not open with the configured keys; it is left as it is."""

    code = "TOKEN_CACHE_KEY_MISMATCH"
    message = (
        "The stored sign-in does not open with the configured keys. Put the key that sealed it into "
        "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS, or reset the connection and sign in again."
    )


class MicrosoftUnavailable(Unavailable):
    """Microsoft's sign-in does not answer."""

    code = "MICROSOFT_UNAVAILABLE"


class PartnerCenterUnavailable(Unavailable):
    """The referrals API does not answer."""

    code = "PARTNER_CENTER_UNAVAILABLE"


class PartnerCenterThrottled(Unavailable):
    """The referrals API asks for a long wait."""

    code = "PARTNER_CENTER_THROTTLED"


class TokenRefused(Failure):
    """The referrals API refused the token: expired, or lacking what only a person can add."""

    code = "PARTNER_CENTER_TOKEN_REFUSED"

    def __init__(self, message: str, *, kind: Literal["expired", "mfa", "claims"]) -> None:
        super().__init__(message)
        self.kind = kind


class QueryRefused(Failure):
    """The referrals API does not take this query."""

    code = "PARTNER_CENTER_QUERY_REFUSED"


class AccessDenied(Failure):
    """The signed-in account may not read referrals."""

    code = "PARTNER_CENTER_ACCESS_DENIED"


class NextLinkRefused(Failure):
    """The next page is said to be on a host that must not get the token, or to be one that was read already."""

    code = "PARTNER_CENTER_NEXT_LINK_REFUSED"
