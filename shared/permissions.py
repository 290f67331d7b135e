"""Who may do what at the broker: least rights for each service, derived from the topology.

A service declares nothing. It publishes events under its own name alone, reads its own queues, and writes to its own
exchanges for retry and dead letters. One more user, the owner of the topology, declares everything and publishes no
event. See docs/messaging.md M1.9.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from shared import topology
from shared.events import catalog

NOTHING: Final = "^$"
PUBLISHERS: Final = frozenset(event.publisher() for event in catalog().values())
SERVICES: Final = tuple(sorted(PUBLISHERS | {bound.name.partition(".")[0] for bound in topology.BOUND}))
# The user of `python -m shared.bus declare`.
OWNER: Final = "topology"


@dataclass(frozen=True, slots=True)
class Rights:
    """Patterns of the names that a user may declare, write to and read from, and of the events to publish and bind."""

    configure: str
    write: str
    read: str
    publish: str = NOTHING
    bind: str = NOTHING


def rights() -> dict[str, Rights]:
    """Give the rights of each service and of the owner of the topology, by name."""
    return {service: _rights_of(service) for service in SERVICES} | {OWNER: _rights_of_owner()}


def _rights_of_owner() -> Rights:
    everything = rf"({'|'.join(map(re.escape, SERVICES))})\..+"
    with_events = f"^({topology.EVENTS}|{everything})$"
    # A binding needs write on the queue and read on the exchange, a queue with dead letters write on their exchange.
    return Rights(configure=with_events, write=f"^{everything}$", read=with_events, bind=".*")


def _rights_of(service: str) -> Rights:
    readable = [bound.name for bound in topology.BOUND if bound.name.partition(".")[0] == service]
    writable = []
    if service in topology.CONSUMERS:
        readable.append(topology.dead_letters_of(service))
        writable += [
            topology.dead_letter_exchange_of(service),
            topology.retry_exchange_of(service),
            topology.return_exchange_of(service),
        ]
    if service not in PUBLISHERS:
        return Rights(configure=NOTHING, write=_any_of(writable), read=_any_of(readable))
    return Rights(
        configure=NOTHING,
        write=_any_of([topology.EVENTS, *writable]),
        read=_any_of(readable),
        publish=rf"^{re.escape(service)}\.",
    )


def _any_of(names: Iterable[str]) -> str:
    pattern = "|".join(map(re.escape, sorted(names)))
    return f"^({pattern})$" if pattern else NOTHING


@dataclass(frozen=True, slots=True)
class User:
    """A user of the broker, as it stands in a URL."""

    name: str
    password: str
    vhost: str

    @classmethod
    def of(cls, url: str) -> User:
        """Read it from the URL with which its service connects."""
        parts = urlsplit(url)
        if not (parts.username and parts.password):
            raise ValueError("names no user with a password")
        # The path is the virtual host; none, or a bare slash as our driver reads it, means the default one.
        return cls(unquote(parts.username), unquote(parts.password), unquote(parts.path[1:]) or "/")


def definitions(users: Mapping[str, User]) -> dict[str, Any]:
    """Write the definitions that a broker imports: these users, keyed as `rights()` is, with what each may do."""
    if len({user.name for user in users.values()}) < len(users):
        raise ValueError("two services share a user: each needs one of its own")
    allowed = [(user, rights()[key]) for key, user in users.items()]
    return {
        "vhosts": [{"name": name} for name in sorted({user.vhost for user in users.values()})],
        "users": [
            {
                "name": user.name,
                "password_hash": _password_hash(user.password),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            }
            for user in users.values()
        ],
        "permissions": [
            {"user": user.name, "vhost": user.vhost, "configure": may.configure, "write": may.write, "read": may.read}
            for user, may in allowed
        ],
        "topic_permissions": [
            {
                "user": user.name,
                "vhost": user.vhost,
                "exchange": topology.EVENTS,
                "write": may.publish,
                "read": may.bind,
            }
            for user, may in allowed
        ],
    }


def _password_hash(password: str) -> str:
    # Base64 of a salt of four bytes and the hash of salt and password: the broker's own form.
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
