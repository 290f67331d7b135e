"""What goes wrong while the system is set up, as one clear sentence for the person at the keyboard."""


class LocalError(Exception):
    """The system cannot be set up or started here; the message says why and what would help."""
