"""The second factor: codes of an authenticator app (RFC 6238) and recovery codes."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Final

import pyotp
from pyotp.exceptions import OTPVerificationError

RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 10  # 80 bits; NIST SP 800-63B-4 §4.2.1.1 wants 64
_WINDOW: Final = 1  # one step of 30 s either way, for clocks that are off
_ISSUER: Final = "Partner Hub"


def new_seed() -> str:
    """Make the secret that the app and we share."""
    return pyotp.random_base32()


def provisioning_uri(seed: str, email: str) -> str:
    """Give what the app reads from a QR code."""
    return pyotp.TOTP(seed).provisioning_uri(name=email, issuer_name=_ISSUER)


def accepted_step(seed: str, code: str, *, after: int | None, now: datetime) -> int | None:
    """Give the time step of a right code that is newer than the last one used, else None (each code works once)."""
    if not (code.isascii() and code.isdigit()):
        return None
    try:
        step = pyotp.TOTP(seed).verify_and_get_timecode(code, for_time=now, valid_window=_WINDOW)
    except OTPVerificationError:
        return None
    return step if after is None or step > after else None


def new_recovery_codes() -> list[str]:
    """Make a sheet of recovery codes, grouped for people who copy by hand."""
    codes = [secrets.token_hex(_RECOVERY_BYTES) for _ in range(RECOVERY_CODES)]
    return ["-".join(code[at : at + 5] for at in range(0, len(code), 5)) for code in codes]


def recovery_code_hash(code: str) -> bytes:
    """Give the form in which the database knows a recovery code; 80 random bits need no slow hash."""
    return hashlib.sha256(code.replace("-", "").replace(" ", "").lower().encode("utf-8", "surrogatepass")).digest()
