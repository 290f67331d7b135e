"""Microsoft Partner Center's referrals API: one page at a time, patient, and careful where the token goes (facts 1)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import orjson
from prometheus_client import Counter, Histogram

from services.referrals.domain.failures import (
    AccessDenied,
    NextLinkRefused,
    PartnerCenterThrottled,
    PartnerCenterUnavailable,
    QueryRefused,
    TokenRefused,
    in_one_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

REQUESTS = Counter("partner_center_requests_total", "Calls to Partner Center by outcome", ["outcome"])
SECONDS = Histogram("partner_center_request_seconds", "Time of one call to Partner Center")

_PATH: Final = "/v1.0/engagements/referrals"
_TIMEOUT: Final = httpx.Timeout(30, connect=10)
_LONGEST_BACKOFF_SECONDS: Final = 30.0
# A longer wait is not slept through while a message is held; the sync notes it and comes back.
_LONGEST_WAIT_SECONDS: Final = 60.0
# More than that is nobody's will, and would keep every later sync waiting behind this one.
_LONGEST_RETRY_AFTER_SECONDS: Final = 86_400.0
# Below 500, and yet nothing is wrong with the query: too slow, locked, too early, too many.
_PASSING: Final = frozenset({408, 423, 425, 429})
_MFA_MISSING: Final = "900421"
_CLAIMS_MISSING: Final = "insufficient_claims"


@dataclass(frozen=True, slots=True)
class Page:
    """Items as they came, and where the next page is; None on the last one."""

    items: list[Any]
    next_target: str | None


@dataclass(frozen=True, slots=True)
class _Problem:
    """What an answer that is no page says."""

    status: int
    codes: tuple[str, ...]
    message: str
    request_id: str

    def __str__(self) -> str:
        return f"HTTP {self.status} {'/'.join(self.codes)}: {self.message} (request-id {self.request_id})"


class PartnerCenter:
    """The referrals of the partner whose token is given."""

    def __init__(
        self,
        *,
        api_url: str,
        ca_file: Path | None = None,
        proxy_url: str | None = None,
        next_link: Literal["lift", "follow"] = "lift",
        attempts: int = 6,
        backoff_seconds: float = 1.0,
    ) -> None:
        url = urlsplit(api_url)
        self._origin = f"https://{url.netloc}"
        self._hostname, self._port = url.hostname, url.port or 443
        self._path = url.path.rstrip("/") or _PATH
        self._next_link = next_link
        self._attempts = attempts
        self._backoff_seconds = backoff_seconds
        # The environment's proxies and CA bundles are not ours to trust with a token: both are settings of ours.
        trust = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        self._http = httpx.AsyncClient(
            verify=trust, trust_env=False, proxy=proxy_url, timeout=_TIMEOUT, follow_redirects=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def first_target(self, *, filtered_by: str | None = None, ordered_by: str) -> str:
        """Say where the first page of a listing is."""
        query = f"$orderby={quote(ordered_by)}"
        return f"{self._path}?$filter={quote(filtered_by)}&{query}" if filtered_by else f"{self._path}?{query}"

    async def get_page(self, target: str, access_token: str) -> Page:
        """Fetch one page; waits and tries again when throttled or when Microsoft is away."""
        for attempt in range(1, self._attempts + 1):
            retry_after: float | None = None
            try:
                response = await self._send(target, access_token)
                if response.status_code == httpx.codes.OK:
                    return self._page_of(response)
                problem = _problem_of(response)
                self._raise_if_final(problem, response)
                retry_after = _retry_after(response)
                reason = str(problem)
            except (httpx.TransportError, _NoPageError) as error:
                # A connection that breaks inside a page is a RemoteProtocolError: the page is asked for again.
                reason = f"{type(error).__name__}: {error}"
            REQUESTS.labels("retried").inc()
            await self._wait(attempt, retry_after, reason)
        raise PartnerCenterUnavailable(f"Partner Center did not answer after {self._attempts} attempts: {reason}")

    async def _send(self, target: str, access_token: str) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {access_token}",
            "Accept": "application/json",
            "client-request-id": str(uuid.uuid4()),
        }
        started = time.perf_counter()
        try:
            # The target holds a $skiptoken of about 900 characters, percent-encoded: it is sent as it came.
            response = await self._http.get(self._origin + target, headers=headers)
        except httpx.TransportError as error:
            log.warning(
                "partner_center_request_failed reason=%s client_request_id=%s",
                type(error).__name__,
                headers["client-request-id"],
            )
            raise
        finally:
            SECONDS.observe(time.perf_counter() - started)
        if response.status_code != httpx.codes.OK:
            log.warning(
                "partner_center_request_failed status=%d request_id=%s client_request_id=%s",
                response.status_code,
                response.headers.get("request-id", ""),
                headers["client-request-id"],
            )
        return response

    def _page_of(self, response: httpx.Response) -> Page:
        try:
            body = _parsed(response.content)
        except (ValueError, RecursionError) as error:
            raise _NoPageError("the answer is not JSON") from error
        items = body.get("value") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise _NoPageError("the answer holds no list of referrals")
        REQUESTS.labels("ok").inc()
        link = body.get("@odata.nextLink")
        return Page(items, self._target_of(link) if link else None)

    def _target_of(self, next_link: Any) -> str:
        """Take path and query of a nextLink if it names our host; it comes as `http://` and without `/engagements`."""
        try:
            url = urlsplit(str(next_link))
            # Without a port, or with the one of http, it means the host that we know; the scheme is forced anyway.
            is_same_port = url.port in {None, 80, self._port}
        except ValueError:
            raise NextLinkRefused("The nextLink is no address.") from None
        if url.hostname != self._hostname or not is_same_port or url.username is not None:
            raise NextLinkRefused(f"The nextLink points to {url.netloc}; the token is only sent to {self._hostname}.")
        if "$skiptoken=" not in url.query.replace("%24", "$"):
            raise NextLinkRefused("The nextLink holds no $skiptoken.")
        path = self._path if self._next_link == "lift" else url.path
        return f"{path}?{url.query}"

    def _raise_if_final(self, problem: _Problem, response: httpx.Response) -> None:
        """Raise for answers that no waiting cures."""
        challenge = response.headers.get("www-authenticate", "")
        if _MFA_MISSING in problem.codes:
            cure = "enrol the account for one, then sign in again"
            raise TokenRefused(f"Partner Center asks for a second factor: {cure} ({problem}).", kind="mfa")
        if _CLAIMS_MISSING in challenge or _CLAIMS_MISSING in problem.codes:
            raise TokenRefused(f"Partner Center asks for further proof: sign in again ({problem}).", kind="claims")
        if problem.status == httpx.codes.UNAUTHORIZED:
            raise TokenRefused(f"Partner Center refused the token: sign in again ({problem}).", kind="expired")
        if problem.status == httpx.codes.FORBIDDEN:
            raise AccessDenied(
                f"The account needs the role Referral Admin or Referral User in Partner Center ({problem})."
            )
        if problem.status < httpx.codes.INTERNAL_SERVER_ERROR and problem.status not in _PASSING:
            raise QueryRefused(f"Partner Center refused the query ({problem}).")

    async def _wait(self, attempt: int, retry_after: float | None, reason: str) -> None:
        if retry_after is not None and retry_after > _LONGEST_WAIT_SECONDS:
            raise PartnerCenterThrottled(f"Partner Center asks to wait ({reason}).", retry_after=int(retry_after))
        if attempt == self._attempts:
            return
        # Full jitter, so that replicas do not come back together; Retry-After is the least that is waited.
        backoff = min(_LONGEST_BACKOFF_SECONDS, self._backoff_seconds * 2 ** (attempt - 1))
        seconds = (retry_after or 0.0) + random.uniform(0, backoff)
        log.info("partner_center_waits seconds=%.1f attempt=%d reason=%s", seconds, attempt, reason)
        await asyncio.sleep(seconds)


class Continued(Protocol):
    """Whatever is made of a page, as long as it says where the next one is."""

    @property
    def next_target(self) -> str | None:
        """Say where the next page is; None on the last one."""


P = TypeVar("P", bound=Continued)


class ReadAhead(Generic[P]):
    """Fetches the page behind the one that was just given, so that Microsoft, we and Postgres work at the same time.

    It holds two pages at most, so memory stays flat however many there are, and goes round in no circle.
    """

    def __init__(self, fetch: Callable[[str, str], Coroutine[Any, Any, P]]) -> None:
        self._fetch = fetch
        self._ahead: tuple[str, str] | None = None
        self._task: asyncio.Task[P] | None = None
        self._named: set[str] = set()

    async def get_page(self, target: str, access_token: str) -> P:
        """Give a page, fetched already or now; what went wrong ahead is raised here, and asked anew the next time.

        Raises NextLinkRefused when a page leads back.
        """
        task, self._task = self._task, None
        # Also by the same token: the refusal of an old one must not be taken for that of the one which has replaced it.
        if task is None or self._ahead != (target, access_token):
            await _drop(task)
            self._named.clear()  # a listing begins, perhaps anew
            page = await self._fetch(target, access_token)
        else:
            page = await task
        if page.next_target is not None:
            if page.next_target in self._named:
                raise NextLinkRefused("The nextLink leads to a page that was read already; it would never end.")
            self._named.add(page.next_target)
            self._ahead = page.next_target, access_token
            self._task = asyncio.create_task(self._fetch(page.next_target, access_token))
        return page

    async def close(self) -> None:
        """Drop what was fetched for nothing."""
        task, self._task = self._task, None
        await _drop(task)


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError:
        # The slower parser takes a lone surrogate: one bad item must not lose the page.
        return json.loads(content)


async def _drop(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _NoPageError(Exception):
    """A 200 whose body is no page of referrals."""


def _problem_of(response: httpx.Response) -> _Problem:
    """Read both error shapes: `{"error": {code, message, innerError}}` and `{"statusCode", "message"}`."""
    try:
        body = json.loads(response.content)
    except ValueError:
        body = {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {"code": error}
    message = in_one_line(error.get("message") or "")
    return _Problem(response.status_code, tuple(_codes(error)), message, response.headers.get("request-id", "none"))


def _codes(error: Any) -> Iterator[str]:
    while isinstance(error, dict):
        code = error.get("code", error.get("statusCode"))
        if code is not None:
            yield in_one_line(code)
        error = error.get("innerError") or error.get("innererror")


def _retry_after(response: httpx.Response) -> float | None:
    """Read `Retry-After`, seconds or an HTTP date (RFC 9110, 10.2.3)."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(_LONGEST_RETRY_AFTER_SECONDS, float(text))
    try:
        seconds = (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(_LONGEST_RETRY_AFTER_SECONDS, max(0.0, seconds))
