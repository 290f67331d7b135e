"""Invitations: a farmer is invited, accepts, or the offer ends."""

from enum import StrEnum
from typing import Final

from shared.errors import Conflict, Failure, Forbidden, NotFound, TooMany


class Status(StrEnum):
    """Where an invitation stands, as the database keeps it."""

    PENDING = "Pending"
    ACCEPTED = "Accepted"
    EXPIRED = "Expired"
    CANCELLED = "Cancelled"


class InvitationUnknown(NotFound):
    """No such invitation, or not the caller's."""

    code = "INVITATION_NOT_FOUND"
    message = "Davet bulunamadı"


class LinkUnknown(NotFound):
    """No invitation has this token."""

    code = "INVITATION_LINK_UNKNOWN"
    message = "Bu davet bağlantısı geçersiz"


class AlreadyAccepted(Conflict):
    """The codes are spent."""

    code = "INVITATION_ALREADY_ACCEPTED"
    message = "Bu davet daha önce kabul edilmiş"


class InvitationExpired(Failure):
    """Too late."""

    status, title = 410, "Gone"
    code = "INVITATION_EXPIRED"
    message = "Bu davetin süresi dolmuş"


class InvitationCancelled(Failure):
    """The offer was taken back."""

    status, title = 410, "Gone"
    code = "INVITATION_CANCELLED"
    message = "Bu davet iptal edilmiş"


class NotPending(Conflict):
    """The invitation has ended one way or another."""

    code = "INVITATION_NOT_PENDING"
    message = "Bu davet artık beklemede değil"


class MessageUnsettled(Conflict):
    """The last message may still be on its way."""

    code = "MESSAGE_UNSETTLED"
    message = "Bu davetin önceki mesajının sonucu henüz belli değil"


class ResentTooSoon(TooMany):
    """The cool-down between two messages is not over."""

    code = "RESEND_TOO_SOON"
    message = "Bu davet kısa süre önce gönderildi; lütfen bekleyin"


class TriedTooOften(TooMany):
    """Too many links were tried from one address."""

    code = "LINK_TRIED_TOO_OFTEN"
    message = "Çok fazla deneme yapıldı; lütfen bekleyin"


class FarmerOptedOut(Forbidden):
    """The farmer wants no messages."""

    code = "FARMER_OPTED_OUT"
    message = "Bu çiftçi mesaj almak istemiyor"


_ENDED: Final[dict[Status, type[Failure]]] = {
    Status.ACCEPTED: AlreadyAccepted,
    Status.EXPIRED: InvitationExpired,
    Status.CANCELLED: InvitationCancelled,
}


def check_open(status: Status) -> None:
    """Raise what the farmer is told unless the invitation can still be accepted."""
    ended = _ENDED.get(status)
    if ended:
        raise ended
