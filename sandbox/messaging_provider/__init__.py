"""Stand-in of Verimor (SMS) and Twilio (WhatsApp, SMS): their HTTP interfaces, a ledger of what was sent, and faults.

Both answer at one address, each on the paths of the real one. What was sent is read back, and faults are ordered, under
`/_sandbox/`: `GET count | messages | phones | knobs`, `POST knobs | reset`.
"""

from sandbox.messaging_provider.app import MessagingProvider
from sandbox.messaging_provider.http import Connection
from sandbox.messaging_provider.server import KEEP_ALIVE_SECONDS, run

__all__ = ["KEEP_ALIVE_SECONDS", "Connection", "MessagingProvider", "run"]
