"""Log lines for people who tail logs; the four of an on-behalf-of call read exactly as operators grep for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.audit.domain.personal import mask_phone

# C0, DEL and C1 (terminal escapes, line breaks), line and paragraph separators, and every invisible character, among
# them those that reorder text on a screen (CVE-2021-42574): any of them could forge or hide a line.
_DANGEROUS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_Phone = Callable[[str], str]
_Line = Callable[[Mapping[str, Any], Mapping[str, str], _Phone], str]


def neutralise(text: str) -> str:
    r"""Write characters that act on a terminal or break a line as \uXXXX, which reads as the same text inside JSON."""
    return _DANGEROUS.sub(lambda found: "".join(f"\\u{unit:04x}" for unit in _utf16(found[0])), text)


def _utf16(char: str) -> tuple[int, ...]:
    encoded = char.encode("utf-16-be", "surrogatepass")
    return tuple(int.from_bytes(encoded[at : at + 2], "big") for at in range(0, len(encoded), 2))


def line_for(content: Mapping[str, Any], personal: Mapping[str, str], *, full_phones: bool) -> str:
    """Write one record as one line."""
    shown: _Phone = str if full_phones else mask_phone
    try:
        line = _LINES.get(str(content.get("action")), _plain_line)(content, personal, shown)
    except KeyError:  # a refused call has no counts to tell of
        line = _plain_line(content, personal, shown)
    return neutralise(line)


def _started(content: Mapping[str, Any], _: Mapping[str, str], __: _Phone) -> str:
    details = content["details"]
    return (
        f"📤 ADMIN {content['actor'].get('id')} creating {details['count']} farmer invitations "
        f"on behalf of sponsor {content.get('on_behalf_of')} via {details['channel']}"
    )


def _created(content: Mapping[str, Any], personal: Mapping[str, str], shown: _Phone) -> str:
    return f"✅ ADMIN created invitation {_invitation(content)} for {shown(personal.get('phone', ''))}"


def _sent(content: Mapping[str, Any], personal: Mapping[str, str], shown: _Phone) -> str:
    return f"✅ ADMIN sent invitation {_invitation(content)} to {shown(personal.get('phone', ''))}"


def _completed(content: Mapping[str, Any], _: Mapping[str, str], __: _Phone) -> str:
    details = content["details"]
    return (
        f"📧 ADMIN bulk farmer invitations completed. "
        f"Success: {details['success_count']}, Failed: {details['failed_count']}"
    )


def _plain_line(content: Mapping[str, Any], _: Mapping[str, str], __: _Phone) -> str:
    actor, target = content["actor"], content.get("target")
    who = actor.get("kind", "") if actor.get("id") is None else f"{actor.get('kind')} {actor['id']}"
    parts = [f"{_MARKS.get(str(content['outcome']), '•')} {content['action']} by {who}"]
    if target:
        parts.append(f"on {target['kind']} {target['id']}")
    if content.get("on_behalf_of") is not None:
        parts.append(f"for sponsor {content['on_behalf_of']}")
    parts.append(f"({content['outcome']}{_because(content)})")
    return " ".join(parts)


def _because(content: Mapping[str, Any]) -> str:
    return f": {content['reason']}" if content.get("reason") else ""


def _invitation(content: Mapping[str, Any]) -> Any:
    return content["details"]["invitation_id"]


_MARKS: Final = {"success": "✅", "failure": "❌", "denied": "⛔"}
_LINES: Final[Mapping[str, _Line]] = {
    "invitations.bulk.started_on_behalf": _started,
    "invitations.invitation.created_on_behalf": _created,
    "invitations.invitation.sent_on_behalf": _sent,
    "invitations.bulk.sent_on_behalf": _completed,
}
