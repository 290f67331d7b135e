"""Rules of the bulk doors: what may be asked, what each result is called, and the Turkish words that clients know."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from services.invitations.domain.codes import Shortage, Tier
from shared.errors import BadRequest, Conflict, FieldError, Forbidden, Invalid, NotFound, Unavailable, UnsupportedMedia

MOST_RECIPIENTS: Final = 1_000
MOST_CODES_EACH: Final = 100
MOST_ROWS: Final = 100_000
MOST_FILE_BYTES: Final = 20 * 1024 * 1024
OBO_ENDPOINT: Final = "POST /api/Sponsorship/admin/farmer/invitations/bulk"
OBO_EXCEL_ENDPOINT: Final = "POST /api/Sponsorship/admin/farmer/invitations/bulk/excel?onBehalfOfSponsorId="


class Channel(StrEnum):
    """How a farmer is reached."""

    SMS = "SMS"
    WHATSAPP = "WhatsApp"


class Door(StrEnum):
    """Where a job came in."""

    SPONSOR_EXCEL = "sponsor_excel"
    ADMIN_JSON = "admin_json"
    ADMIN_EXCEL = "admin_excel"
    SINGLE = "single"

    @property
    def is_on_behalf(self) -> bool:
        """Whether an admin acts for a sponsor here."""
        return self in {Door.ADMIN_JSON, Door.ADMIN_EXCEL}


class RowOutcome(StrEnum):
    """What became of one row of a job."""

    WAITING = "waiting"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_REVIEW = "needs_review"


class Refusal(StrEnum):
    """Why a row failed."""

    INVALID_PHONE = "INVALID_PHONE"
    INVALID_TIER = "INVALID_TIER"
    INVALID_ROW = "INVALID_ROW"
    DUPLICATE_IN_FILE = "DUPLICATE_IN_FILE"
    ALREADY_INVITED = "ALREADY_INVITED"
    OPTED_OUT = "OPTED_OUT"
    INSUFFICIENT_CODES = "INSUFFICIENT_CODES"
    SPONSOR_DISABLED = "SPONSOR_DISABLED"
    DELIVERY = "DELIVERY"


REASONS: Final = {
    Refusal.DUPLICATE_IN_FILE: "Bu telefon numarası listede birden fazla kez var.",
    Refusal.ALREADY_INVITED: "Bu çiftçiye gönderilmiş, henüz yanıtlanmamış bir davet var.",
    Refusal.OPTED_OUT: "Bu çiftçi mesaj almak istemiyor.",
    Refusal.DELIVERY: "Mesaj gönderilemedi.",
}

CANCELLED: Final = "Davet iptal edildi."
NEEDS_REVIEW: Final = "Mesajın gönderilip gönderilmediği belirlenemedi; sağlayıcının panelinden kontrol edilmelidir."

_STATUS_OF_REFUSAL: Final = {
    Refusal.INVALID_PHONE: "Failed - Invalid Phone",
    Refusal.INVALID_TIER: "Failed - Invalid Tier",
    Refusal.INVALID_ROW: "Failed - Invalid Row",
    Refusal.DUPLICATE_IN_FILE: "Failed - Duplicate",
    Refusal.ALREADY_INVITED: "Failed - Duplicate",
    Refusal.OPTED_OUT: "Failed - Opted Out",
    Refusal.INSUFFICIENT_CODES: "Failed - Insufficient Codes",
    Refusal.SPONSOR_DISABLED: "Failed - Sponsor Disabled",
    Refusal.DELIVERY: "Failed - Delivery",
}
_STATUS_OF_OUTCOME: Final = {RowOutcome.SENT: "Sent", RowOutcome.CANCELLED: "Cancelled"}


def delivery_status(outcome: RowOutcome, refusal: Refusal | None) -> str:
    """Name a row's state as clients read it; what is not settled yet is `Pending`."""
    if outcome is RowOutcome.FAILED:
        return _STATUS_OF_REFUSAL[refusal or Refusal.DELIVERY]
    return _STATUS_OF_OUTCOME.get(outcome, "Pending")


def bulk_message(success_count: int, channel: Channel) -> str:
    """Sum up an on-behalf-of call as existing clients show it."""
    return f"📱 {success_count} davet başarıyla gönderildi via {channel}"


class AdminRequired(Forbidden):
    """The caller is no admin."""

    code = "ADMIN_REQUIRED"
    message = "Admin yetkisi gereklidir"


class SponsorRoleRequired(Forbidden):
    """The caller is neither sponsor nor admin."""

    code = "SPONSOR_REQUIRED"
    message = "Sponsor veya Admin yetkisi gereklidir"


class SponsorOnly(Forbidden):
    """The caller is no sponsor."""

    code = "SPONSOR_ONLY"
    message = "Sponsor yetkisi gereklidir"


class OnBehalfOfNotPermitted(Forbidden):
    """This admin holds no grant for this sponsor."""

    code = "OBO_NOT_PERMITTED"
    message = "Bu sponsor adına işlem yapma yetkiniz yok"


class OnBehalfOfNotSupported(BadRequest):
    """A door was asked by a query parameter that it does not know, such as to act for somebody else."""

    code = "ON_BEHALF_OF_NOT_SUPPORTED"

    def __init__(self, parameters: Iterable[str]) -> None:
        names = ", ".join(sorted(parameters))
        super().__init__(
            f"Bu uç nokta bilinmeyen sorgu parametresi kabul etmez ({names}); hiçbir işlem yapılmadı. "
            f"Sponsor adına JSON ile davet göndermek için {OBO_ENDPOINT} ({{sponsorId, recipients}}), "
            f"Excel ile {OBO_EXCEL_ENDPOINT}<sponsorId> kullanın."
        )


class SponsorParameterRequired(BadRequest):
    """The admin's Excel door was not told for which sponsor."""

    code = "ON_BEHALF_OF_REQUIRED"
    message = "onBehalfOfSponsorId parametresi zorunludur"


class NoRecipients(BadRequest):
    """An empty list."""

    code = "NO_RECIPIENTS"
    message = "Hiç alıcı belirtilmedi"


class TierUnknown(BadRequest):
    """No such package."""

    code = "TIER_INVALID"

    def __init__(self, tier: str) -> None:
        super().__init__(f"Geçersiz tier: {tier}")


class CodesInsufficient(BadRequest):
    """Not one recipient can be served for want of codes."""

    code = "CODES_INSUFFICIENT"

    def __init__(self, available: int, wanted: int) -> None:
        super().__init__(f"Yetersiz kod. Mevcut: {available}, İstenen: {wanted}", available=available, requested=wanted)


class SponsorUnknown(NotFound):
    """No account with that id."""

    code = "SPONSOR_NOT_FOUND"
    message = "Belirtilen sponsor bulunamadı"


class NotASponsor(BadRequest):
    """That account is no sponsor."""

    code = "NOT_A_SPONSOR"
    message = "Belirtilen kullanıcı sponsor değil"


class SponsorDisabled(Conflict):
    """The sponsor's account is disabled."""

    code = "SPONSOR_DISABLED"
    message = "Sponsor hesabı aktif değil"


class JsonRequired(UnsupportedMedia):
    """The on-behalf-of door takes JSON, not a file."""

    code = "JSON_REQUIRED"
    message = (
        "Bu uç nokta application/json bekler: "
        "{sponsorId, channel, recipients: [{phone, farmerName, codeCount, packageTier}]}. "
        f"Excel ile sponsor adına göndermek için {OBO_EXCEL_ENDPOINT}<sponsorId> kullanın."
    )


class MultipartRequired(UnsupportedMedia):
    """The Excel doors take a file, not JSON."""

    code = "MULTIPART_REQUIRED"
    message = (
        "Bu uç nokta multipart/form-data bekler: excelFile, channel, customMessage, packageTier. "
        f"JSON ile sponsor adına göndermek için {OBO_ENDPOINT} kullanın."
    )


class FileRequired(BadRequest):
    """No file came along."""

    code = "FILE_REQUIRED"
    message = "Excel dosyası zorunludur"


class ReadersBusy(Unavailable):
    """More files came at once than are read at once."""

    code = "READERS_BUSY"
    message = "Şu anda çok sayıda dosya okunuyor; lütfen biraz sonra yeniden deneyin."


class IdempotencyKeyReused(Invalid):
    """The same key came with another body."""

    code = "IDEMPOTENCY_KEY_REUSED"
    message = "Bu Idempotency-Key başka bir istekle kullanılmış. Yeni bir anahtar kullanın."


class IdempotencyKeyInvalid(Invalid):
    """The key is empty or too long."""

    code = "IDEMPOTENCY_KEY_INVALID"

    def __init__(self) -> None:
        reason = "Idempotency-Key 1-255 görünür ASCII karakter olmalıdır."
        super().__init__(reason, fields=[FieldError("Idempotency-Key", reason, self.code)])


class StillRunning(Conflict):
    """The first request with this key has not ended yet."""

    code = "IDEMPOTENCY_KEY_IN_PROGRESS"
    message = "Aynı Idempotency-Key ile gönderilen istek hâlâ işleniyor."


def read_tier(text: str | None) -> Tier | None:
    """Read a package as the JSON doors take it; raises TierUnknown."""
    if text is None:
        return None
    try:
        return Tier(text)
    except ValueError:
        raise TierUnknown(text) from None


def total_shortage(shortages: list[Shortage]) -> CodesInsufficient:
    """Say how many codes there are and how many were asked for, when nobody could be served."""
    available = {shortage.tier: shortage.available for shortage in shortages}
    return CodesInsufficient(sum(available.values()), sum(shortage.wanted for shortage in shortages))
