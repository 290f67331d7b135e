"""What the providers took: the truth against which tests count."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(slots=True)
class Message:
    """One message that a provider took; the farmer's phone would have rung."""

    number: int
    provider: str
    provider_id: str
    custom_id: str
    phone: str
    sender: str
    text: str
    status: str
    error_code: str = ""
    details: dict[str, str] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_json(self) -> dict[str, Any]:
        """Show the message to a test."""
        names = ("number", "provider", "provider_id", "custom_id", "phone", "sender", "text", "status", "error_code")
        return {name: getattr(self, name) for name in names} | {"details": self.details, "at": self.at.isoformat()}


class Ledger:
    """Every message taken, in order, with the indexes that look-ups and counts need."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answers: Counter[str] = Counter()
        self.phones: Counter[str] = Counter()
        self._copies: Counter[tuple[str, str, str]] = Counter()
        self._by_provider_id: dict[str, Message] = {}
        self._by_custom_id: dict[str, list[Message]] = {}
        self._by_phone: dict[str, list[Message]] = {}

    def take(self, message: Message) -> Message:
        """Record a message as sent."""
        self.messages.append(message)
        self.phones[message.phone] += 1
        self._copies[message.provider, message.phone, message.text] += 1
        self._by_provider_id[message.provider_id] = message
        self._by_custom_id.setdefault(message.custom_id, []).append(message)
        self._by_phone.setdefault(message.phone, []).append(message)
        return message

    def has_copy(self, provider: str, phone: str, text: str) -> bool:
        """Say whether this very message was taken before."""
        return (provider, phone, text) in self._copies

    def find(self, provider_id: str) -> Message | None:
        """Find a message by the provider's id."""
        return self._by_provider_id.get(provider_id)

    def list_by_custom_id(self, custom_id: str) -> list[Message]:
        """List what came under one id of the client's."""
        return self._by_custom_id.get(custom_id, [])

    def list_by_phone(self, phone: str) -> list[Message]:
        """List what one phone got."""
        return self._by_phone.get(phone, [])

    def next_number(self) -> int:
        """Give the number of the next message."""
        return len(self.messages) + 1

    def count(self) -> dict[str, Any]:
        """Give the figures that tests check: a duplicate is a message beyond the first with the same phone and text."""
        return {
            "messages": len(self.messages),
            "phones": len(self.phones),
            "duplicates": len(self.messages) - len(self._copies),
            "by_provider": dict(Counter(message.provider for message in self.messages)),
            "answers": dict(self.answers),
        }
