"""The provider of a developer's machine: a message is a log line."""

import logging
from uuid import UUID

from services.invitations.domain.messages import Accepted, Clue, LookUp, NotFound, Outcome, OutgoingMessage
from services.invitations.domain.pacing import Pace
from services.invitations.domain.phones import mask_phone

log = logging.getLogger(__name__)


class MessageLog:
    """Sends nothing; says who would have got a message. The text stays out: it holds the farmer's link."""

    name = "log"
    look_up_pace = Pace(per_second=100, burst=100)

    async def send(self, message: OutgoingMessage) -> Outcome:
        """Log that a message would go out."""
        log.info("message_not_really_sent phone=%s characters=%d", mask_phone(message.phone), len(message.text))
        return Accepted(str(message.delivery_id))

    async def look_up(self, delivery_id: UUID, provider_id: str | None, *, clue: Clue | None = None) -> LookUp:
        """Answer that nothing is known: nothing was sent."""
        del delivery_id, provider_id, clue
        return NotFound(authoritative=True)

    async def close(self) -> None:
        """Hold nothing, give nothing back."""
