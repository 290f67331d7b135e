"""allocation: how fast many codes are given to the recipients of one call."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import invitations
from benchmarks.arena import Arena
from benchmarks.contest import Aim, Row

OURS = "our call, one statement"
ONE_BY_ONE = "one code at a time, SKIP LOCKED"
STATEMENTS = "the same, a statement each"
STOCK = 6  # So many times the codes that are asked for: the index has more than what is taken.


def row(arena: Arena, *, recipients: int, codes_each: int) -> Row:
    """Reserve `codes_each` codes for each recipient."""
    invitations.prepare(arena)
    asked = recipients * codes_each

    def contender(style: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            invitations.fill(arena, STOCK * asked)
            figures = arena.run("allocation", style, str(recipients), str(codes_each))
            held = arena.value("SELECT count(*) FROM invitations.codes WHERE state = 'reserved'")
            linked = arena.value("SELECT count(*) FROM invitations.invitation_codes")
            assert held == linked == asked + recipients, f"{held} codes are reserved, {linked} of them linked"
            return figures

        return measure

    return Row(
        name="allocation",
        title=f"one call: {recipients} recipients who get {asked:,} codes of a stock of {STOCK * asked:,}",
        contenders={
            OURS: contender("call"),
            ONE_BY_ONE: contender("transactions"),
            STATEMENTS: contender("statements"),
        },
        units={"seconds": "s"},
        aims=[Aim(ONE_BY_ONE, "seconds", 20.0)],
        terms=[
            "all: the service's own tables and indexes, a warm connection by asyncpg, fsync on, a fresh stock",
            "ours: the whole transaction of an on-behalf-of call, without the sending: sponsor locked, codes listed;",
            "  rows, invitations with sealed tokens, messages and events stored as well",
            "one at a time: BEGIN, SELECT … LIMIT 1 FOR UPDATE SKIP LOCKED, UPDATE, INSERT of the link, COMMIT",
            "a statement each: these three in one prepared statement, the fastest form we know; no aim, to compare",
            "the two do nothing else: the invitations are there before the clock starts",
        ],
        less_is_better=True,
    )
