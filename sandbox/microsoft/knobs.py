"""Everything that can be switched on a running sandbox, through `POST /_sandbox/knobs`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ApiFaultKind = Literal[
    "throttled",  # 429 in the referrals API's own error shape
    "throttled_sister_host",  # 429 in the other documented shape: {"statusCode", "message"}
    "server_error",
    "dropped_connection",  # half of the body, then the connection breaks
    "silence",  # the request is taken and never answered
    "unauthenticated",  # an access token that Microsoft no longer takes
    "mfa_required",  # 401 with error 900421
    "claims_challenge",  # 401 with a claims challenge (continuous access evaluation)
    "insufficient_claims",  # 403 by Conditional Access
    "forbidden",
]


class ApiFault(BaseModel):
    """A fault of the referrals API, for a given page or any, a given number of times."""

    model_config = ConfigDict(extra="forbid")

    kind: ApiFaultKind
    page: int | None = None
    times: int = 1
    retry_after: str | None = None  # seconds or an HTTP date, sent as it is
    status: int = 503  # for server_error


class IdentityFault(BaseModel):
    """A fault of the sign-in endpoints, a given number of times."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Literal["discovery", "devicecode", "token"]
    grant: Literal["device_code", "refresh_token"] | None = None
    status: int = 400
    error: str = "invalid_grant"
    suberror: str | None = None
    description: str = "AADSTS50173: The provided grant has expired due to it being revoked."
    codes: list[int] = [50173]
    claims: str | None = None
    retry_after: str | None = None
    text: str | None = None  # in place of the JSON, as a proxy on the way answers
    times: int = 1


class SignedInAs(BaseModel):
    """The account that approves device codes; without a tenant it is one of the tenant asked for."""

    model_config = ConfigDict(extra="forbid")

    username: str = "ops@contoso.example"
    name: str = "Contoso Operations"
    object_id: str = "6f6e4a52-0d4b-4f3a-9c1e-2b6f0a7d1c55"
    tenant_id: str | None = None


class Knobs(BaseModel):
    """The sandbox's behaviour; the defaults are the documented one."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    # Sign-in
    auto_approve: bool = False
    auto_approve_after_polls: int = 1
    account: SignedInAs = SignedInAs()
    device_code_expires_in: int = 900
    device_code_interval: int = 1
    slow_down_polls: int = 0
    conditional_access_block: bool = False  # the browser says 53003, the poller sees pending until the end
    one_time_refresh_tokens: bool = True
    access_token_expires_in: int = 3600
    refresh_in: int | None = None
    granted_scope: str | None = None  # None: what was asked for
    omitted_fields: list[str] = []  # of the token response: client_info, id_token, refresh_token
    with_mfa: bool = True
    identity_faults: list[IdentityFault] = []
    token_delay_seconds: float = Field(default=0, ge=0, le=60)  # between the decision and its answer

    # The referrals API
    api_faults: list[ApiFault] = []
    page_size: int = Field(default=100, ge=1, le=100)
    page_delay_seconds: float = Field(default=0, ge=0, le=60)
    next_link: Literal["documented", "complete", "foreign_host", "own_page", "circle"] = "documented"
    foreign_host: str = "referrals.attacker.example"
    skip_token_honoured_on: Literal["both", "known_path", "given_path"] = "both"
    date_filter: Literal["both", "unquoted", "quoted", "refused", "ignored"] = "both"
    order_by: Literal["both", "created_only"] = "both"
    malformed_every: int = Field(default=0, ge=0)
    unknown_every: int = Field(default=0, ge=0)
    ids_shape: Literal["mixed", "list", "object", "empty_list"] = "mixed"
