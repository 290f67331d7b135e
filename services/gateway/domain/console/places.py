"""Who may see which page, and where a person may be sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from services.gateway.domain.console.sessions import Person

# A path of our own: no scheme, no host, nothing that a browser could take for one (`//host`, `/\host`).
_OWN: Final = re.compile(r"/(?![/\\])[A-Za-z0-9/_.~%?&=:,@+\-]{0,1500}")


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the menu: its text's key, its address, who sees it."""

    name: str
    path: str
    roles: tuple[str, ...]
    group: str = "main"


PLACES: Final = (
    Place("home", "/", ("Admin",)),
    Place("partner_center", "/partner-center", ("Admin",)),
    Place("referrals", "/referrals", ("Admin",)),
    Place("invitations", "/invitations", ("Admin", "Sponsor")),
    Place("codes", "/codes", ("Admin", "Sponsor")),
    Place("users", "/users", ("Admin",), "system"),
    Place("audit", "/audit", ("Admin", "Auditor"), "system"),
    Place("queues", "/queues", ("Admin",), "system"),
)


def menu_of(person: Person) -> list[Place]:
    """List what a person may open."""
    return [place for place in PLACES if person.has_role(*place.roles)]


def first_place(person: Person) -> str:
    """Say where a person begins."""
    places = menu_of(person)
    return places[0].path if places else "/account"


def own_path(text: str | None, otherwise: str) -> str:
    """Give a path of ours that somebody asked to be sent to; anything else would be an open redirect."""
    return text if text is not None and _OWN.fullmatch(text) else otherwise


def id_in_path(text: str) -> str:
    """Keep of an id that came in an address what may stand in a path of the interface; never nothing, another path."""
    return "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "-_")) or "-"
