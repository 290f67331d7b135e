"""Access tokens for tests, signed as auth signs them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from joserfc import jwt
from joserfc.jwk import OKPKey

from shared.identity import TokenVerifier

ISSUER = "https://partner-hub.local/auth"
AUDIENCE = "partner-hub"


class Issuer:
    """A key and the tokens that it signs."""

    def __init__(self) -> None:
        self.key = OKPKey.generate_key("Ed25519", {"kid": "test-key", "use": "sig"})

    async def keys(self) -> Mapping[str, Any]:
        """Answer as auth's /.well-known/jwks.json does."""
        return {"keys": [self.key.as_dict(private=False)]}

    def verifier(self) -> TokenVerifier:
        """Make a verifier that trusts this key."""
        return TokenVerifier(self.keys, issuer=ISSUER, audience=AUDIENCE)

    def token(
        self,
        user_id: int,
        *roles: str,
        on_behalf_of: list[int] | Literal["all"] = [],  # noqa: B006  never changed
        permissions: list[str] = [],  # noqa: B006  never changed
        typ: str = "at+jwt",
        **claims: Any,
    ) -> str:
        """Sign an access token."""
        now = int(time.time())
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "iat": now,
            "exp": now + 600,
            "jti": uuid.uuid4().hex,
            "sid": str(uuid.uuid4()),
            "roles": list(roles),
            "permissions": permissions,
            "obo": on_behalf_of,
        }
        return jwt.encode(
            {"alg": "EdDSA", "typ": typ, "kid": self.key.kid}, body | claims, self.key, algorithms=["EdDSA"]
        )

    def headers(self, user_id: int, *roles: str, **more: Any) -> dict[str, str]:
        """Make the header that carries such a token."""
        return {"authorization": f"Bearer {self.token(user_id, *roles, **more)}"}
