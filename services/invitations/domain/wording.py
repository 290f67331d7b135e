"""What the message to a farmer says, and how many SMS it takes."""

import re
from typing import Final, NamedTuple

from services.invitations.domain.bulk import Channel
from shared.errors import FieldError, Invalid

DEFAULT_TEMPLATE: Final = (
    "Sayın {farmerName}, {sponsorName} size {codeCount} adet paket hediye etti. Kabul için: {deepLink}"
)
PLACEHOLDERS: Final = ("farmerName", "sponsorName", "codeCount", "deepLink")
LONGEST_TEMPLATE: Final = 500
_NAMELESS: Final = "çiftçimiz"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_STRAY_BRACE: Final = re.compile(r"[{}]")

# GSM 03.38 default alphabet; those of the extension table take two places.
_GSM: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION: Final = frozenset("^{}\\[~]|€\f")
# The Turkish locking shift table holds these too; a message that uses it has five places less.
_TURKISH: Final = frozenset("ŞşĞğçıİ")
# The operator appends its " B0xx" code by law.
_OPERATOR_CODE: Final = 5


class TemplateInvalid(Invalid):
    """The custom message can't be filled in."""

    code = "MESSAGE_TEMPLATE_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, fields=[FieldError("customMessage", reason, self.code)])


# WhatsApp opens a conversation by an approved template only, so no other text can go out there.
_CUSTOM_MESSAGE_UNUSED: Final = (
    "WhatsApp mesajları yalnızca onaylı şablonla gönderilir; customMessage kullanılmadı. "
    "Kendi metniniz için SMS kanalını seçin."
)


def unused_message(channel: Channel, custom_message: str | None) -> list[str]:
    """Warn who wrote a message for a channel that can't carry it."""
    return [_CUSTOM_MESSAGE_UNUSED] if channel is Channel.WHATSAPP and custom_message else []


class Segments(NamedTuple):
    """How a text goes out by SMS: the alphabet it needs, its length in that alphabet and the number of parts."""

    alphabet: str
    length: int
    parts: int


def read_template(text: str | None) -> str | None:
    """Check a custom message; none or blank means the default. Raises TemplateInvalid."""
    if text is None or not text.strip():
        return None
    if len(text) > LONGEST_TEMPLATE:
        raise TemplateInvalid(f"Mesaj en fazla {LONGEST_TEMPLATE} karakter olabilir.")
    unknown = [name for name in _PLACEHOLDER.findall(text) if name not in PLACEHOLDERS]
    allowed = " ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    if unknown:
        raise TemplateInvalid(f"Bilinmeyen alan: {{{unknown[0]}}}. Kullanılabilecek alanlar: {allowed}")
    if _STRAY_BRACE.search(_PLACEHOLDER.sub("", text)):
        raise TemplateInvalid(f"Eşleşmeyen süslü parantez. Kullanılabilecek alanlar: {allowed}")
    return text.strip()


def variables_of(*, farmer_name: str, sponsor_name: str, code_count: int, deep_link: str) -> dict[str, str]:
    """Name the values that fill a template, ours or one that WhatsApp approved.

    `token` is the end of the link, for a template with a button: of its address only the end may vary. Line breaks
    and runs of spaces are not allowed in WhatsApp's values (Twilio's error 21656), and nobody misses them in an SMS.
    """
    return {
        "farmerName": _one_line(farmer_name) or _NAMELESS,
        "sponsorName": _one_line(sponsor_name),
        "codeCount": str(code_count),
        "deepLink": deep_link,
        "token": deep_link.rpartition("/")[2],
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def render(template: str | None, variables: dict[str, str], opt_out_link: str) -> str:
    """Write the message; the link is appended where the template forgot it, the way to refuse always (law 6563)."""
    text = template or DEFAULT_TEMPLATE
    if "{deepLink}" not in text:
        text += " {deepLink}"
    # One pass, so that a farmer's name that looks like a placeholder stays a name.
    filled = _PLACEHOLDER.sub(lambda match: variables[match[1]], text)
    return f"{filled}\nRet: {opt_out_link}"


def segments_of(text: str) -> Segments:
    """Count the SMS parts of a text as a Turkish operator bills them, its own code included."""
    length = len(text) + sum(character in _GSM_EXTENSION for character in text)
    others = {character for character in text if character not in _GSM and character not in _GSM_EXTENSION}
    if not others:
        return _segments("GSM-7", length, single=160, part=153)
    if others <= _TURKISH:
        return _segments("GSM-7 Turkish", length, single=155, part=149)
    return _segments("UCS-2", len(text.encode("utf-16-le")) // 2, single=70, part=67)


def _segments(alphabet: str, length: int, *, single: int, part: int) -> Segments:
    room = length + _OPERATOR_CODE
    return Segments(alphabet, length, 1 if room <= single else -(-room // part))
