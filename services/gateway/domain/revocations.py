"""Which genuine tokens are refused all the same, because what they say is no longer true."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

# An access token lives ten minutes; twice that covers clocks that differ.
KEPT_SECONDS: Final = 1_200.0

# An event takes about 300 bytes here. So many within twenty minutes are a mass change of accounts, or an accident.
MOST_KEPT: Final = 100_000

Grants = frozenset[int] | Literal["all"]


class Claims(NamedTuple):
    """What a token says, as far as it can be overtaken."""

    account_id: int
    session_id: str
    roles: frozenset[str]
    grants: Grants
    issued_at: int


class Standing(NamedTuple):
    """What an account may do since `at` (seconds since 1970)."""

    roles: frozenset[str]
    grants: Grants
    at: float

    def covers(self, claims: Claims) -> bool:
        """Tell whether the account still has everything that a token claims; what was added shows in the next token."""
        if not claims.roles <= self.roles:
            return False
        return self.grants == "all" or (claims.grants != "all" and claims.grants <= self.grants)


class Revocations:
    """What the last minutes of SessionsRevoked and UserChanged say; older tokens have expired by themselves.

    Beyond `most` of them the older half is forgotten, and every token that was issued up to then is refused instead:
    a flood of events makes people refresh their tokens, and lets nobody in who was put out.
    """

    __slots__ = ("_accounts", "_not_before", "_sessions", "_standings", "most", "taken")

    def __init__(self, *, most: int = MOST_KEPT) -> None:
        self.most = most
        self.taken = 0
        self._not_before = 0.0
        self._sessions: dict[str, float] = {}
        self._accounts: dict[int, float] = {}
        self._standings: dict[int, Standing] = {}

    def revoke_session(self, session_id: str, at: float) -> None:
        """Refuse every token of this session."""
        self._sessions[session_id] = max(at, self._sessions.get(session_id, 0.0))
        self._take()

    def revoke_account(self, account_id: int, at: float) -> None:
        """Refuse every token of this account that was issued before `at` (seconds since 1970)."""
        self._accounts[account_id] = max(at, self._accounts.get(account_id, 0.0))
        self._take()

    def change_account(self, account_id: int, standing: Standing) -> None:
        """Refuse the older tokens of this account that claim what it no longer has."""
        known = self._standings.get(account_id)
        if known is None or standing.at >= known.at:
            self._standings[account_id] = standing
        self._take()

    def refuse(self, claims: Claims) -> bool:
        """Tell whether a token is refused.

        Tokens carry whole seconds. One of the same second as an account's revocation counts as newer: whoever resets a
        password and signs in at once must get in. What auth ends by session has no such blur.
        """
        if claims.issued_at <= self._not_before or claims.session_id in self._sessions:
            return True
        if claims.issued_at + 1 <= self._accounts.get(claims.account_id, 0.0):
            return True
        standing = self._standings.get(claims.account_id)
        return standing is not None and claims.issued_at <= standing.at and not standing.covers(claims)

    def forget(self, now: float) -> None:
        """Drop what no living token can be about."""
        oldest = now - KEPT_SECONDS
        if self._not_before <= oldest:
            self._not_before = 0.0
        self._forget_until(oldest)

    def _take(self) -> None:
        self.taken += 1
        if len(self) <= self.most:
            return
        times = [*self._sessions.values(), *self._accounts.values(), *(each.at for each in self._standings.values())]
        self._not_before = max(self._not_before, sorted(times)[len(times) // 2])
        self._forget_until(self._not_before)

    def _forget_until(self, oldest: float) -> None:
        self._sessions = {key: at for key, at in self._sessions.items() if at > oldest}
        self._accounts = {key: at for key, at in self._accounts.items() if at > oldest}
        self._standings = {key: standing for key, standing in self._standings.items() if standing.at > oldest}

    def __bool__(self) -> bool:
        return self._not_before > 0.0 or len(self) > 0

    def __len__(self) -> int:
        return len(self._sessions) + len(self._accounts) + len(self._standings)
