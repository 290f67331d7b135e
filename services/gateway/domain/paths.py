"""Which paths may pass.

What is checked here is sent on byte for byte, so the check only has to refuse what a service could read differently:
nothing is decoded, nothing is resolved. Traefik and Envoy refuse encoded separators for the same reason.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from services.gateway.domain.refusals import PathRefused

# Nearly every path is as plain as this; only others need the long look.
_PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*)+/?")
_ODD: Final = re.compile(
    rb"[^!$&'()*+,\-./0-9:=@A-Z_a-z~%]"  # backslash, ';' (parameters of a segment), controls, raw non-ASCII, quotes
    rb"|//|(?:\.|%20)(?:/|\Z)"  # empty and dot segments, dots and blanks at an end: some programs drop or resolve them
    rb"|%(?![0-9A-Fa-f]{2})"  # half an escape
    rb"|%[01][0-9A-Fa-f]|%7[Ff]"  # encoded controls, NUL among them
    rb"|%(?:2[5DEFdef]|3[0-9Bb]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
    # the line above: an escaped '%' (double encoding), '/', '\', ';', and every character that needs no escape
    # (RFC 3986, 2.3), so that `/%6cogin` can't be a sign-in that slips past the limit on sign-ins
)


def check_path(raw_path: bytes) -> None:
    """Refuse a path that two programs could read differently; raises PathRefused."""
    if _PLAIN.fullmatch(raw_path):
        return
    if not raw_path.startswith(b"/") or _ODD.search(raw_path):
        raise PathRefused
    if b"%" in raw_path:
        try:
            unquote_to_bytes(raw_path).decode("utf-8")  # overlong forms (%c0%af) are no UTF-8
        except UnicodeDecodeError:
            raise PathRefused from None
