"""The sign-in half: device codes, people's decisions, access tokens and refresh tokens."""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sandbox.microsoft.knobs import IdentityFault, Knobs, SignedInAs

Answer = tuple[int, dict[str, str], dict[str, Any] | str]  # status, headers, body: JSON, or text that is none
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ23456789"  # no vowels and look-alikes, as Entra's codes

_DEVICE_ERRORS: dict[str, tuple[str, int]] = {
    "authorization_pending": ("AADSTS70016: OAuth 2.0 device flow error. Authorization is pending.", 70016),
    "slow_down": ("AADSTS70016: The client polls too often.", 70016),
    "authorization_declined": ("AADSTS70018: The end-user denied the authorization request.", 70018),
    "expired_token": ("AADSTS70020: The provided value for the input parameter 'device_code' has expired.", 70020),
    "bad_verification_code": ("AADSTS70000: The device_code is unknown or was used already.", 70000),
}


@dataclass
class Device:
    """One device code and what became of it."""

    user_code: str
    client_id: str
    scope: str
    tenant: str
    expires_at: float
    state: Literal["pending", "approved", "declined", "used"] = "pending"
    polls: int = 0
    account: SignedInAs | None = None


@dataclass(frozen=True)
class Grant:
    """Whom a token speaks for, to whom, and for how long."""

    account: SignedInAs
    client_id: str
    tenant: str
    with_mfa: bool
    expires_at: float = float("inf")


@dataclass
class Identity:
    """What the sign-in endpoints remember."""

    knobs: Knobs
    devices: dict[str, Device] = field(default_factory=dict)
    access_tokens: dict[str, Grant] = field(default_factory=dict)
    refresh_tokens: dict[str, Grant] = field(default_factory=dict)

    def begin(self, client_id: str, scope: str, tenant: str, host: str) -> Answer:
        """Make a device code and the code that a person types."""
        if fault := self.fault("devicecode"):
            return fault
        device_code = secrets.token_urlsafe(48)
        user_code = "".join(secrets.choice(_USER_CODE_LETTERS) for _ in range(9))
        expires_in = self.knobs.device_code_expires_in
        self.devices[device_code] = Device(user_code, client_id, scope, tenant, time.time() + expires_in)
        address = f"https://{host}/devicelogin"
        body = {
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": address,
            "expires_in": expires_in,
            "interval": self.knobs.device_code_interval,
            "message": f"To sign in, open the page {address} and enter the code {user_code} to authenticate.",
        }
        return 200, {}, body

    def decide(self, user_code: str, *, approve: bool) -> str:
        """Take a person's answer on the page; the text is what the browser then shows."""
        device = next((d for d in self.devices.values() if d.user_code == user_code.strip().upper()), None)
        if device is None or device.state != "pending" or device.expires_at < time.time():
            return "That code did not work. Check the code and try again."
        if self.knobs.conditional_access_block:
            return "You cannot access this right now. Error code: 53003."
        device.state = "approved" if approve else "declined"
        device.account = self.knobs.account
        return (
            "You have signed in. You can close this window."
            if approve
            else "You have declined. You can close this window."
        )

    def exchange(self, form: dict[str, str], tenant: str) -> Answer:
        """Answer at the token endpoint."""
        grant = {DEVICE_GRANT: "device_code"}.get(form.get("grant_type", ""), form.get("grant_type", ""))
        if fault := self.fault("token", grant):
            return fault
        if grant == "device_code":
            return self._poll(form)
        if grant == "refresh_token":
            return self._refresh(form, tenant)
        return _refusal("unsupported_grant_type", "AADSTS70003: The grant type is not supported.", [70003])

    def revoke_everything(self) -> None:
        """End every session, as an administrator or a changed password does."""
        self.access_tokens.clear()
        self.refresh_tokens.clear()

    def grant_of(self, access_token: str) -> Grant | None:
        """Whom an access token speaks for, as long as it lives."""
        grant = self.access_tokens.get(access_token)
        return grant if grant and grant.expires_at > time.time() else None

    def _poll(self, form: dict[str, str]) -> Answer:
        device = self.devices.get(form.get("device_code", ""))
        if device is None or device.state == "used" or device.client_id != form.get("client_id"):
            return _device_refusal("bad_verification_code")
        if device.expires_at < time.time():
            return _device_refusal("expired_token")
        device.polls += 1
        if self.knobs.slow_down_polls > 0:
            self.knobs.slow_down_polls -= 1
            return _device_refusal("slow_down")
        if self.knobs.auto_approve and device.polls > self.knobs.auto_approve_after_polls:
            self.decide(device.user_code, approve=True)
        if device.state == "declined":
            return _device_refusal("authorization_declined")
        if device.account is None:
            return _device_refusal("authorization_pending")
        device.state = "used"
        grant = Grant(device.account, device.client_id, device.tenant, self.knobs.with_mfa)
        return self._issue(grant, device.scope)

    def _refresh(self, form: dict[str, str], tenant: str) -> Answer:
        token = form.get("refresh_token", "")
        grant = self.refresh_tokens.get(token)
        if grant is None or grant.client_id != form.get("client_id") or grant.tenant != tenant:
            text = "AADSTS70000: The refresh token is unknown, revoked, or was redeemed already."
            return _refusal("invalid_grant", text, [70000], suberror="bad_token")
        if self.knobs.one_time_refresh_tokens:
            del self.refresh_tokens[token]
        return self._issue(grant, form.get("scope", ""))

    def _issue(self, grant: Grant, scope: str) -> Answer:
        lifetime = self.knobs.access_token_expires_in
        access_token, refresh_token = f"at-{secrets.token_urlsafe(48)}", f"rt-{secrets.token_urlsafe(48)}"
        expires_at = time.time() + lifetime
        self.access_tokens[access_token] = Grant(
            grant.account, grant.client_id, grant.tenant, grant.with_mfa, expires_at
        )
        self.refresh_tokens[refresh_token] = grant
        body = {
            "token_type": "Bearer",
            "scope": self.knobs.granted_scope or scope,
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": access_token,
            "refresh_token": refresh_token,
            "id_token": _id_token(grant),
            "client_info": _encoded({"uid": grant.account.object_id, "utid": _tenant_of(grant)}),
        }
        if self.knobs.refresh_in is not None:
            body["refresh_in"] = self.knobs.refresh_in
        return 200, {}, {name: value for name, value in body.items() if name not in self.knobs.omitted_fields}

    def fault(self, endpoint: str, grant: str | None = None) -> Answer | None:
        """Give the fault that was asked for at this endpoint, as often as it was asked for."""
        for fault in self.knobs.identity_faults:
            if fault.times > 0 and fault.endpoint == endpoint and fault.grant in {None, grant}:
                fault.times -= 1
                return _fault_answer(fault)
        return None


def _tenant_of(grant: Grant) -> str:
    return grant.account.tenant_id or grant.tenant


def _id_token(grant: Grant) -> str:
    """MSAL reads the claims and checks no signature (measured: since 1.38 not even a claim)."""
    now = int(time.time())
    claims = {
        "iss": f"https://login.microsoftonline.com/{_tenant_of(grant)}/v2.0",
        "aud": grant.client_id,
        "sub": grant.account.object_id,
        "oid": grant.account.object_id,
        "tid": _tenant_of(grant),
        "name": grant.account.name,
        "preferred_username": grant.account.username,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    }
    return ".".join([_encoded({"typ": "JWT", "alg": "RS256"}), _encoded(claims), "c2FuZGJveA"])


def _encoded(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _device_refusal(error: str) -> Answer:
    text, code = _DEVICE_ERRORS[error]
    return _refusal(error, text, [code])


def _fault_answer(fault: IdentityFault) -> Answer:
    headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
    if fault.text is not None:
        return fault.status, headers, fault.text
    more = {name: value for name in ("suberror", "claims") if (value := getattr(fault, name))}
    return fault.status, headers, _refusal_body(fault.error, fault.description, fault.codes) | more


def _refusal(error: str, description: str, codes: list[int], **more: str) -> Answer:
    return 400, {}, _refusal_body(error, description, codes) | more


def _refusal_body(error: str, description: str, codes: list[int]) -> dict[str, Any]:
    return {
        "error": error,
        "error_description": description,
        "error_codes": codes,
        "timestamp": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }
