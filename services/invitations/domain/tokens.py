"""The token in a farmer's link: 128 random bits, looked up by hash, kept sealed for the link alone."""

import hashlib
import re
import secrets
from typing import Final

_TOKEN_BYTES: Final = 16
_SHAPE: Final = re.compile(r"[0-9a-f]{32}")


def make_token() -> str:
    """Make a token of 32 hex characters."""
    return secrets.token_hex(_TOKEN_BYTES)


def hash_of(token: str) -> bytes:
    """Give what is stored for look-up. Plain SHA-256 is enough: 128 random bits can't be guessed back."""
    return hashlib.sha256(token.encode()).digest()


def is_token(text: str) -> bool:
    """Say whether a text can be a token at all, before anything is asked of the database."""
    return _SHAPE.fullmatch(text) is not None


def link_to(base_url: str, token: str) -> str:
    """Give the farmer's address."""
    return f"{base_url.rstrip('/')}/ref/{token}"


def opt_out_link_to(base_url: str, token: str) -> str:
    """Give the address where the farmer says that no more messages are wanted."""
    return f"{link_to(base_url, token)}/opt-out"


def seal_name(invitation_id: int) -> str:
    """Name the row that a sealed token belongs to, so that it can't be moved to another."""
    return f"invitation/{invitation_id}"
