"""The settings of referrals: what is malformed is named before anything starts."""

from __future__ import annotations

import pytest

from services.referrals.settings import ReferralsSettings
from shared.settings import SettingsInvalid


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HUNTER_PARTNER_CENTER_TENANT_ID", "contoso", "valid UUID"),
        ("HUNTER_PARTNER_CENTER_API_URL", "http://api.partner.microsoft.com", "https://"),
        ("HUNTER_PARTNER_CENTER_API_URL", "https://user@api.example", "https://"),
        ("HUNTER_PARTNER_CENTER_PROXY_URL", "proxy:3128", "address of a proxy"),
        ("HUNTER_PARTNER_CENTER_SCOPE", "offline_access", "one scope"),
        ("HUNTER_PARTNER_CENTER_SCOPE", "a b", "one scope"),
        ("HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS", "c2hvcnQ=", "32 random bytes"),
        ("HUNTER_PARTNER_CENTER_CA_FILE", "nowhere.pem", "no file"),
        ("HUNTER_PARTNER_CENTER_CA_FILE", __file__, "holds no certificates"),
        ("HUNTER_PARTNER_CENTER_SYNC_INTERVAL_SECONDS", "0", "greater than or equal to 1"),
        ("HUNTER_PARTNER_CENTER_OVERLAP_SECONDS", "99999999999", "less than or equal to"),
        ("HUNTER_PARTNER_CENTER_CLIENT_ID", "", "HUNTER_PARTNER_CENTER_CLIENT_ID"),
        ("ENVIRONMENT", "production", "HUNTER_PARTNER_CENTER_TOKEN_CACHE_KEYS"),
    ],
)
def test_a_malformed_setting_ends_the_start_with_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    good = {
        "REFERRALS_DATABASE_URL": "postgresql://localhost/x",
        "REFERRALS_AMQP_URL": "amqp://localhost",
        "HUNTER_PARTNER_CENTER_ENABLED": "true",
        "HUNTER_PARTNER_CENTER_TENANT_ID": "3f1c9a52-7f0e-4b7c-9a64-1d1f6c2b8e10",
        "HUNTER_PARTNER_CENTER_CLIENT_ID": "9b1f7c04-52a8-4c39-8a4e-0c6d2f7e5b21",
    }
    for name, text in good.items():
        monkeypatch.setenv(name, text)
    assert ReferralsSettings.load().enabled
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=words):
        ReferralsSettings.load()
