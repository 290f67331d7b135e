"""Sign-in at Microsoft by device code, and tokens from the cache that it leaves (MSAL; facts 2).

MSAL is blocking: each call runs in a thread and has a time limit on every request. Each call makes a new application
object, because MSAL replays a 429, a 5xx or an `invalid_grant` from the old one's memory (measured: 60 s and more).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msal
import requests

from services.referrals.domain.failures import (
    MicrosoftUnavailable,
    PartnerCenterNotConfigured,
    SignInRefused,
    SignInRequired,
    TokenCacheInvalid,
    in_one_line,
)
from services.referrals.domain.sign_ins import Account

if TYPE_CHECKING:
    from pathlib import Path

# To connect, and to hear something. Three requests at most happen while a row is locked; together they stay below the
# 30 s of idling that Postgres allows.
_REQUEST_SECONDS: Final = (3, 6)
# MSAL renews a token with less than 5 minutes left; the same limit here, so that the row is locked only for that.
_COMFORTABLE_SECONDS: Final = 300
_RETRYABLE: Final = frozenset({"temporarily_unavailable", "server_error", "service_unavailable"})
# How discovery, the first request of each application, answers for a tenant that is not there.
_UNKNOWN_TENANT: Final = ([400], [404])
# It logs a token response that it can't read, whole.
logging.getLogger("msal").setLevel(logging.CRITICAL)

Flow = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a person needs to sign in, and the flow (secret) that any process can go on polling."""

    flow: Flow = field(repr=False)
    user_code: str = field(repr=False)
    verification_uri: str
    interval_seconds: float
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """Nobody has decided yet; the flow may ask for a slower pace than before."""

    flow: Flow = field(repr=False)
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody signed in; the token cache is a secret."""

    account: Account
    token_cache: str = field(repr=False)
    token_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and the changed token cache if it had to be renewed."""

    access_token: str = field(repr=False)
    expires_at: datetime
    renewed_cache: str | None = field(repr=False, default=None)


class Microsoft:
    """The one public client application that we are at Microsoft."""

    def __init__(
        self,
        *,
        authority: str | None,
        client_id: str | None,
        scope: str,
        ca_file: Path | None = None,
        proxy_url: str | None = None,
    ) -> None:
        self._authority = authority
        self._client_id = client_id
        self._scope = scope
        self._ca_file = ca_file
        self._proxy_url = proxy_url

    async def begin_sign_in(self) -> DeviceCode:
        """Ask for a device code; raises SignInRefused with Microsoft's reason in words."""
        flow = await asyncio.to_thread(self._begin)
        return DeviceCode(
            flow=flow,
            user_code=flow["user_code"],
            verification_uri=flow["verification_uri"],
            interval_seconds=float(flow["interval"]),
            expires_at=datetime.fromtimestamp(flow["expires_at"], UTC),
        )

    async def poll_sign_in(self, flow: Flow) -> SignedIn | Pending:
        """Ask once whether somebody has decided; raises SignInRefused, or MicrosoftUnavailable to ask again."""
        return await asyncio.to_thread(self._poll, flow)

    async def renew(self, token_cache: str, *, force: bool = False) -> Token:
        """Give a token from the cache, renewed if need be; raises SignInRequired when a person must act."""
        return await asyncio.to_thread(self._renew, token_cache, force=force)

    def comfortable_token(self, token_cache: str) -> Token | None:
        """Give the cached token if it has life enough left, without network or lock."""
        cache = _open(token_cache)
        found = cache.search(cache.CredentialType.ACCESS_TOKEN, query={"client_id": self._client_id})
        ours = [entry for entry in found if self._is_for_us(entry.get("target", "").split())]
        newest = max(ours, key=lambda entry: int(entry["expires_on"]), default=None)
        if newest is None:
            return None
        expires_on = int(newest["expires_on"])
        is_aging = int(newest.get("refresh_on", expires_on)) < time.time()
        if is_aging or expires_on - time.time() <= _COMFORTABLE_SECONDS:
            return None
        return Token(newest["secret"], datetime.fromtimestamp(expires_on, UTC))

    def account_of(self, token_cache: str) -> Account:
        """Say whose sign-in a cache holds; raises TokenCacheInvalid unless it is one account's that we can renew."""
        cache = _open(token_cache)
        found = list(cache.search(cache.CredentialType.ACCOUNT))
        if len(found) != 1:
            raise TokenCacheInvalid(f"The token cache holds {len(found)} accounts; exactly one is expected.")
        home_account_id = str(found[0].get("home_account_id"))
        query = {"client_id": self._client_id, "home_account_id": home_account_id}
        if not any(token.get("secret") for token in cache.search(cache.CredentialType.REFRESH_TOKEN, query=query)):
            raise TokenCacheInvalid(f"The token cache holds no refresh token of application {self._client_id}.")
        tenant = str(found[0].get("realm") or home_account_id.partition(".")[2])
        return Account(home_account_id, str(found[0].get("username", "")), tenant)

    def _is_for_us(self, granted: list[str]) -> bool:
        """Tell whether a token is for our API: Microsoft may grant `.default` under another name (facts 2.2)."""
        resource = self._scope.rpartition("/")[0]
        return self._scope in granted or bool(resource and any(scope.startswith(f"{resource}/") for scope in granted))

    def _begin(self) -> Flow:
        with self._application(msal.SerializableTokenCache()) as application:
            flow: Flow = application.initiate_device_flow(scopes=[self._scope])
        if "user_code" not in flow:
            raise _failure(flow) or _refusal(flow)
        return flow

    def _poll(self, flow: Flow) -> SignedIn | Pending:
        cache = msal.SerializableTokenCache()
        with self._application(cache) as application:
            # `exit_condition` true at once: exactly one poll, no sleeping in the thread.
            result = application.acquire_token_by_device_flow(flow, exit_condition=lambda _: True)
        if "access_token" in result:
            return self._signed_in(result, cache)
        if result.get("error") in {"authorization_pending", "slow_down"}:
            return Pending(flow, float(flow.get("interval", 5)))  # MSAL adds 5 s to it on slow_down
        raise _failure(result) or _refusal(result)

    def _signed_in(self, result: dict[str, Any], cache: msal.SerializableTokenCache) -> SignedIn:
        token_cache = cache.serialize()
        try:
            account = self.account_of(token_cache)
        except TokenCacheInvalid as error:
            # Without client_info and id_token MSAL knows no account; without a refresh token all ends within the hour.
            raise SignInRefused(
                f"Microsoft's answer is incomplete, try again: {error.message}", error="incomplete_answer"
            ) from error
        tenant = str(result.get("id_token_claims", {}).get("tid") or account.tenant_id)
        expires_at = datetime.now(UTC) + timedelta(seconds=int(result["expires_in"]))
        return SignedIn(Account(account.home_account_id, account.username, tenant), token_cache, expires_at)

    def _renew(self, token_cache: str, *, force: bool) -> Token:
        cache = _open(token_cache)
        with self._application(cache) as application:
            accounts = application.get_accounts()
            result = application.acquire_token_silent_with_error(
                [self._scope],
                account=accounts[0] if accounts else None,
                force_refresh=force,
            )
        if result is None:
            raise SignInRequired("The stored sign-in holds no token that could be renewed: sign in again.")
        if "access_token" not in result:
            raise _failure(result) or SignInRequired(_in_words(result, otherwise="Sign in again."))
        return Token(
            result["access_token"],
            datetime.now(UTC) + timedelta(seconds=int(result["expires_in"])),
            cache.serialize() if cache.has_state_changed else None,
        )

    @contextmanager
    def _application(self, cache: msal.SerializableTokenCache) -> Iterator[msal.PublicClientApplication]:
        """Lend a new application; what it raises when Microsoft is away becomes one error that may be tried again."""
        if self._client_id is None or self._authority is None:
            raise PartnerCenterNotConfigured
        statuses: list[int] = []

        def look_at_status(response: requests.Response, **_: Any) -> None:
            statuses.append(response.status_code)
            if (
                response.status_code == HTTPStatus.TOO_MANY_REQUESTS
                or response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            ):
                # MSAL would take the body of a 429 for a refusal that only a person can mend, and a 5xx, unlike this,
                # as a reason not to use an aging token on (measured).
                raise requests.HTTPError(response=response)

        with requests.Session() as session:
            session.hooks["response"].append(look_at_status)
            # REQUESTS_CA_BUNDLE in the environment would silently beat `verify` (measured).
            session.trust_env = False
            session.proxies = {"https": self._proxy_url} if self._proxy_url else {}
            session.verify = str(self._ca_file) if self._ca_file else True
            # MSAL passes no time limit (its default is none), so the session adds one to each request.
            session.request = functools.partial(session.request, timeout=_REQUEST_SECONDS)  # type: ignore[method-assign]
            try:
                # Without instance discovery, MSAL asks no host but the authority.
                yield msal.PublicClientApplication(
                    self._client_id,
                    authority=self._authority,
                    instance_discovery=False,
                    http_client=session,
                    token_cache=cache,
                )
            except (requests.RequestException, ValueError, KeyError, RuntimeError) as error:
                # MSAL: ValueError when discovery refuses or is no JSON, KeyError and RuntimeError on half an answer.
                if isinstance(error, ValueError) and statuses in _UNKNOWN_TENANT:
                    raise PartnerCenterNotConfigured(
                        "Microsoft knows no such tenant: check HUNTER_PARTNER_CENTER_TENANT_ID "
                        "and HUNTER_PARTNER_CENTER_AUTHORITY."
                    ) from error
                raise MicrosoftUnavailable(f"Microsoft's sign-in did not answer ({_why(error)}).") from error


def _open(token_cache: str) -> msal.SerializableTokenCache:
    # MSAL takes "[]" and crashes later (measured), so the shape is checked here.
    try:
        content = json.loads(token_cache)
    except ValueError as error:
        raise TokenCacheInvalid("The token cache is not JSON.") from error
    sections = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(section, dict) and _is_section(section) for section in sections):
        raise TokenCacheInvalid("The token cache is none of MSAL's: objects of objects are expected.")
    cache = msal.SerializableTokenCache()
    cache.deserialize(token_cache)
    return cache


def _is_section(section: dict[str, Any]) -> bool:
    return all(isinstance(entry, dict) for entry in section.values())


def _why(error: Exception) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted; a proxy's own authority goes into HUNTER_PARTNER_CENTER_CA_FILE"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    return type(error).__name__


# What Microsoft's numbers mean to an operator. The docs warn not to branch on them; they only choose the words.
_CURES: Final = {
    50076: "Microsoft asks for a second factor: sign in again and complete it.",
    50079: "The account must enrol a second factor at Microsoft, then sign in again.",
    50097: "A Conditional Access policy wants a known device: ask to be excluded from it.",
    53003: "A Conditional Access policy blocks device codes: ask to be excluded from it.",
    65001: "The application lacks consent: a tenant administrator must grant it.",
    70043: "The sign-in frequency policy ended the session: sign in again.",
    70016: "Nobody has entered the code yet.",
    700016: "No such application in this tenant: check HUNTER_PARTNER_CENTER_CLIENT_ID and the tenant.",
    700082: "The sign-in expired because it was not used for too long: sign in again.",
    50173: "The sign-in was revoked (for example by a changed password): sign in again.",
    90002: "No such tenant: check HUNTER_PARTNER_CENTER_TENANT_ID.",
    7000218: "Set 'Allow public client flows' to Yes in the application's registration.",
}
_STATES: Final = {
    "authorization_declined": ("declined", "The person declined the sign-in. Ask for a new code."),
    "expired_token": ("expired", "The code expired before anybody entered it. Ask for a new code."),
    "bad_verification_code": ("failed", "The code was used already or is unknown. Ask for a new code."),
}


def _failure(result: dict[str, Any]) -> MicrosoftUnavailable | None:
    """Tell an error that passes by itself from a refusal."""
    return MicrosoftUnavailable(_first_line(result)) if result.get("error") in _RETRYABLE else None


def _refusal(result: dict[str, Any]) -> SignInRefused:
    error = in_one_line(result.get("error", "unknown"))
    state, words = _STATES.get(error, ("failed", None))
    return SignInRefused(words or _in_words(result), state=state, error=error)


def _in_words(result: dict[str, Any], *, otherwise: str = "") -> str:
    codes = [code for code in result.get("error_codes") or [] if isinstance(code, int)]
    cures = " ".join(_CURES[code] for code in codes if code in _CURES) or otherwise
    return f"{cures} Microsoft says: {_first_line(result)}".strip()


def _first_line(result: dict[str, Any]) -> str:
    lines = str(result.get("error_description") or result.get("error") or "no reason").splitlines()
    return in_one_line(lines[0]) if lines else "no reason"
