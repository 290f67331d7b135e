"""Argon2id in a bounded thread pool.

One hash takes about 19 MiB and 50 to 100 ms of a core (measured), so the number of threads is the memory budget. Who
waits for a turn holds a connection of the gateway's, of which every other call to this service needs one too; so a
flood of sign-ins is turned away after some seconds, whoever sends it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher as Argon2
from argon2 import Type
from argon2.exceptions import InvalidHashError, VerificationError

from services.auth.domain.passwords import normal_password
from shared.errors import Unavailable

T = TypeVar("T")
LEAST_MEMORY_KIB: Final = 19 * 1024  # OWASP password storage: m=19 MiB, t=2, p=1 at least
# Far below the time after which the gateway takes a service that does not answer for one that is broken.
LONGEST_WAIT_SECONDS: Final = 5.0


class TooBusy(Unavailable):
    """More passwords wait to be checked than can be checked in time."""

    code, message = "TOO_BUSY", "Too many sign-ins at this moment. Try again in some seconds."


@dataclass(frozen=True, slots=True)
class HashCost:
    """The parameters of Argon2id."""

    memory_kib: int = LEAST_MEMORY_KIB
    passes: int = 2
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password fits, and whether its hash was made with other parameters than today's."""

    matches: bool
    is_outdated: bool = False


class PasswordHasher:
    """Hashes and verifies passwords; an account without a hash costs the same time as one with."""

    def __init__(self, cost: HashCost, *, threads: int = 2, longest_wait: float = LONGEST_WAIT_SECONDS) -> None:
        self._argon2 = Argon2(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._turns = asyncio.Semaphore(threads)
        self._longest_wait = longest_wait
        # Nobody knows its password; verifying against it takes as long as against a real one.
        self._nobody = self._argon2.hash(os.urandom(32))

    async def hash(self, password: str) -> str:
        """Hash a password in its normal form."""
        return await self._run(self._argon2.hash, normal_password(password))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Compare; no stored hash never matches, in the same time."""
        return await self._run(self._verify, stored, normal_password(password))

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str | None, password: str) -> Verdict:
        try:
            self._argon2.verify(stored or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return Verdict(matches=False)
        if stored is None:
            return Verdict(matches=False)
        return Verdict(matches=True, is_outdated=self._argon2.check_needs_rehash(stored))

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._turns.acquire()
        except TimeoutError:
            raise TooBusy from None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        finally:
            self._turns.release()
