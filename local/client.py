"""A client of the gateway, as small as one can be: what it sends, and what came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from local.errors import LocalError


@dataclass
class Client:
    """One caller of the gateway, signed in or not."""

    url: str
    token: str | None = None
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120, trust_env=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        """Call the gateway once."""
        own = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return self.http.request(method, f"{self.url}{path}", headers={**own, **(headers or {})}, **more)

    def sign_in(self, email: str, password: str) -> Self:
        """Sign in and go on as that person."""
        answer = self.call("POST", "/api/v1/auth/login", json={"email": email, "password": password})
        if answer.status_code != httpx.codes.OK:
            raise LocalError(f"{email} cannot sign in: {answer.status_code} {answer.text}")
        self.token = answer.json()["access_token"]
        return self
