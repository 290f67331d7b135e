"""What can go wrong in auth, in words that anybody may read."""

from __future__ import annotations

from shared.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, Unauthenticated


class InvalidCredentials(Unauthenticated):
    """One answer for a wrong password, an unknown, disabled or paused account (OWASP: authentication responses)."""

    code, message = "INVALID_CREDENTIALS", "The e-mail address or the password is wrong."


class SecondFactorRequired(Unauthenticated):
    """The password is right and the account also asks for a code."""

    code, message = "SECOND_FACTOR_REQUIRED", "Send the code of your authenticator app, or a recovery code, as `code`."


class SecondFactorInvalid(Unauthenticated):
    """The code is wrong, or was used before."""

    code, message = "SECOND_FACTOR_INVALID", "The code is wrong or was used before."


class RefreshTokenInvalid(Unauthenticated):
    """One answer for an unknown, spent or ended refresh token."""

    code, message = "REFRESH_TOKEN_INVALID", "The session has ended. Sign in again."


class SessionEnded(Unauthenticated):
    """The access token is genuine, its session is over."""

    code, message = "SESSION_ENDED", "The session has ended. Sign in again."


class ResetTokenInvalid(BadRequest):
    """One answer for forged, expired, used, superseded and wrong-type tokens (ASVS 16.5.1)."""

    code, message = "RESET_TOKEN_INVALID", "The reset token is not valid. Ask for a new one."


class PasswordTooWeak(Invalid):
    """The new password breaks the policy; the reasons are in the fields."""

    code, message = "PASSWORD_TOO_WEAK", "The new password is too weak."


class CurrentPasswordWrong(Forbidden):
    """Changing something that protects the account needs its password."""

    code, message = "CURRENT_PASSWORD_WRONG", "The current password is wrong."


class UserNotFound(NotFound):
    """There is no such account."""

    code, message = "USER_NOT_FOUND", "There is no such user."


class SessionNotFound(NotFound):
    """The caller has no such session."""

    code, message = "SESSION_NOT_FOUND", "You have no such session."


class EmailTaken(Conflict):
    """Addresses are unique."""

    code, message = "EMAIL_TAKEN", "Another user has this e-mail address."


class LastAdmin(Conflict):
    """Somebody must be able to sign in as admin."""

    code, message = "LAST_ADMIN", "This is the last active admin: it can't be disabled or demoted."


class GrantsNotYours(Forbidden):
    """Grants decide whose codes an admin may spend, so not every admin may give them."""

    code, message = "GRANTS_NOT_YOURS", 'Only an admin who may act for all sponsors ("all") may change grants.'


class NotAnAdmin(Conflict):
    """Only admins act on behalf of sponsors, and only an admin's role can be confirmed."""

    code, message = "NOT_AN_ADMIN", "This user is not an admin."


class NothingToConfirm(Conflict):
    """The admin's role has no end."""

    code, message = "NOTHING_TO_CONFIRM", "This user's admin role is not a temporary one."


class ConfirmationBySelf(Forbidden):
    """A second person confirms."""

    code, message = "CONFIRMATION_BY_SELF", "A second admin must confirm; nobody confirms their own role."


class SecondFactorActive(Conflict):
    """Enrolling again would silently replace a working factor."""

    code, message = "SECOND_FACTOR_ACTIVE", "A second factor is active. Remove it first."


class OwnSecondFactor(Forbidden):
    """An admin helps others whose factor is lost; a stolen session must not get rid of its owner's."""

    code, message = "OWN_SECOND_FACTOR", "Remove your own second factor with your password and a code."


class SecondFactorNotEnrolled(Conflict):
    """There is nothing to confirm or remove."""

    code, message = "SECOND_FACTOR_NOT_ENROLLED", "There is no second factor."


class BreakGlassRefused(Conflict):
    """Break-glass is for when nobody can get in."""

    code, message = "BREAK_GLASS_REFUSED", "An admin can sign in. Use --force if that admin can't be reached."


class KeyNotFound(NotFound):
    """There is no such signing key."""

    code, message = "KEY_NOT_FOUND", "There is no such signing key."
