"""Every environment variable of invitations."""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator

from shared.sealing import Sealer, parse_keys
from shared.settings import StoreSettings

# Until a request is written, at most: waiting for a connection, opening it, writing (the clients' time-outs).
_LONGEST_WRITE_SECONDS: Final = 15.0
# So long a busy process may take from the commit of `sending` to the request without losing its message to others.
_LEAST_START_SECONDS: Final = 2.0


class InvitationsSettings(StoreSettings):
    """What invitations reads from its environment."""

    service: ClassVar[str] = "invitations"

    secret_keys: SecretStr
    # The address in the farmers' messages: the gateway as farmers reach it.
    link_base_url: str = "http://127.0.0.1:8000"
    callback_base_url: str = "http://127.0.0.1:8000"
    # A file that is read takes a process of up to 280 MiB; others wait their turn.
    files_at_once: int = Field(2, ge=1)
    upload_folder: Path = Field(default_factory=lambda: Path(gettempdir()))

    sms_provider: Literal["verimor", "twilio", "log"] | None = None
    whatsapp_provider: Literal["twilio", "log"] | None = None
    verimor_url: str | None = None
    verimor_username: str = ""
    verimor_password: SecretStr = SecretStr("")
    verimor_sender: str = ""
    verimor_commercial: bool = True
    twilio_url: str | None = None
    twilio_account_sid: str = ""
    twilio_auth_token: SecretStr = SecretStr("")
    # Who sends on WhatsApp and who by SMS, each a number or a Messaging Service SID, and the template for WhatsApp.
    twilio_from: str = ""
    twilio_sms_from: str = ""
    twilio_content_sid: str | None = None

    # The token bucket of each provider account, shared by all senders.
    messages_per_second: float = Field(100.0, gt=0)
    messages_burst: float = Field(200.0, ge=1)
    # So long a provider may take to answer; Twilio itself takes up to 26 s (its notes on error 20500).
    provider_seconds: float = Field(30.0, gt=0)
    # A process has so many requests to providers under way at the same time.
    requests_at_once: int = Field(64, ge=1)
    # After so long a claim is taken back, and a send that gave no sign is doubted and looked up.
    lease_seconds: float = 60.0
    sweep_seconds: float = Field(2.0, gt=0)
    poll_seconds: float = Field(1.0, gt=0)
    # An on-behalf-of call answers after so long at the latest; what is not settled then is `Pending`.
    bulk_deadline_seconds: float = Field(20.0, gt=0)
    expiry_days: float = Field(7.0, gt=0, le=365)
    resend_pause_seconds: float = Field(600.0, ge=0)
    accept_attempts_per_minute: int = Field(30, ge=1)

    def make_sealer(self) -> Sealer:
        """Make the sealer of the farmers' tokens."""
        return Sealer(parse_keys(self.secret_keys.get_secret_value()))

    @property
    def start_seconds(self) -> float:
        """So long after the commit of `sending` the request may begin, and be answered before the lease is over."""
        return self.lease_seconds - self.provider_seconds - _LONGEST_WRITE_SECONDS

    def provider_of(self, channel: str) -> str:
        """Name the provider of a channel: the one that is set, else the one that has an address, else the log."""
        if channel == "SMS":
            chosen = self.sms_provider or ("verimor" if self.verimor_url else "log")
            return "twilio-sms" if chosen == "twilio" else chosen
        return self.whatsapp_provider or ("twilio" if self.twilio_url else "log")

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_keys(self.secret_keys.get_secret_value())
        chosen = {self.provider_of("SMS"), self.provider_of("WhatsApp")}
        if "verimor" in chosen and not self.verimor_url:
            raise ValueError("INVITATIONS_VERIMOR_URL is needed to send by Verimor")
        if chosen & {"twilio", "twilio-sms"} and not self.twilio_url:
            raise ValueError("INVITATIONS_TWILIO_URL is needed to send by Twilio")
        if "twilio" in chosen and not self.twilio_content_sid:
            raise ValueError("INVITATIONS_TWILIO_CONTENT_SID is needed: WhatsApp takes approved templates only")
        if "twilio-sms" in chosen and not self.twilio_sms_from:
            raise ValueError("INVITATIONS_TWILIO_SMS_FROM is needed to send SMS by Twilio")
        if self.environment == "production" and "log" in chosen:
            raise ValueError("in production each channel needs a real provider: the log sends nothing")
        # A shorter lease would doubt sends that still run, and what the provider does not know yet would go out twice.
        if self.start_seconds < _LEAST_START_SECONDS:
            least = self.provider_seconds + _LONGEST_WRITE_SECONDS + _LEAST_START_SECONDS
            raise ValueError(f"INVITATIONS_LEASE_SECONDS must be at least {least:.0f}: so long a send may take")
        return self
