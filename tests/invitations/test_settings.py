"""What a wrong setting is told, before the first message could go the wrong way."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from services.invitations.context import open_context
from services.invitations.settings import InvitationsSettings
from tests.invitations.conftest import SECRET_KEYS

TWILIO: dict[str, Any] = {
    "twilio_url": "http://127.0.0.1:1",
    "twilio_account_sid": "AC" + "0" * 32,
    "twilio_auth_token": SecretStr("sandbox"),
}
TEMPLATE = {"twilio_from": "+15005550006", "twilio_content_sid": "HX" + "0" * 32}


def settings_with(**changes: Any) -> InvitationsSettings:
    needed: dict[str, Any] = {
        "database_url": SecretStr("postgresql://invitations@127.0.0.1:1/partner_hub"),
        "amqp_url": SecretStr("amqp://127.0.0.1:1"),
        "secret_keys": SecretStr(SECRET_KEYS),
    }
    return InvitationsSettings(**(needed | changes))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"lease_seconds": 46.0}, "INVITATIONS_LEASE_SECONDS must be at least 47"),
        ({"provider_seconds": 60.0}, "INVITATIONS_LEASE_SECONDS must be at least 77"),
        ({"sms_provider": "verimor"}, "INVITATIONS_VERIMOR_URL"),
        ({"whatsapp_provider": "twilio"}, "INVITATIONS_TWILIO_URL"),
        (TWILIO, "INVITATIONS_TWILIO_CONTENT_SID"),
        (TWILIO | TEMPLATE | {"sms_provider": "twilio"}, "INVITATIONS_TWILIO_SMS_FROM"),
        ({"secret_keys": SecretStr("short")}, "key"),
    ],
    ids=["lease", "answer", "no Verimor", "no Twilio", "no template", "no sender of SMS", "key"],
)
def test_a_setting_that_would_send_wrongly_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        settings_with(**changes)


@pytest.mark.parametrize("name", ["messages_per_second", "messages_burst", "requests_at_once", "expiry_days"])
def test_a_pace_at_which_nothing_would_ever_go_out_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        settings_with(**{name: 0})


async def test_each_channel_has_its_own_sender_at_twilio() -> None:
    settings = settings_with(**TWILIO, **TEMPLATE, sms_provider="twilio", twilio_sms_from="+15005550009")
    assert (settings.provider_of("SMS"), settings.provider_of("WhatsApp")) == ("twilio-sms", "twilio")
    async with open_context(settings) as context:
        assert set(context.providers) == {"twilio", "twilio-sms", "log"}
