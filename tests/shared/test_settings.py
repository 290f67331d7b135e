"""Every variable has one name, the service's own beats the general one, and a wrong one gets one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field, SecretStr

from shared.settings import ServiceSettings, SettingsInvalid, StoreSettings, find_setting


class PostOfficeSettings(StoreSettings):
    service: ClassVar[str] = "postoffice"

    delivery: Literal["log", "smtp"] = "log"
    lease_seconds: float = Field(60.0, gt=0)
    secret_keys: SecretStr


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "DATABASE_URL": "postgresql://general@127.0.0.1/hub",
        "AMQP_URL": "amqp://general@127.0.0.1/",
        "POSTOFFICE_SECRET_KEYS": "not for logs",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_variable_is_called_service_and_field(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("POSTOFFICE_DELIVERY", "smtp")
    environment.setenv("POSTOFFICE_LEASE_SECONDS", "2.5")
    environment.setenv("POSTOFFICE_PORT", "8123")

    settings = PostOfficeSettings.load()

    assert (settings.delivery, settings.lease_seconds, settings.port) == ("smtp", 2.5, 8123)


def test_a_variable_of_the_service_beats_the_general_one(environment: pytest.MonkeyPatch) -> None:
    assert PostOfficeSettings.load().database_url.get_secret_value() == "postgresql://general@127.0.0.1/hub"

    environment.setenv("POSTOFFICE_DATABASE_URL", "postgresql://own@127.0.0.1/hub")
    environment.setenv("POSTOFFICE_AMQP_URL", "amqp://own@127.0.0.1/")
    settings = PostOfficeSettings.load()

    assert settings.database_url.get_secret_value() == "postgresql://own@127.0.0.1/hub"
    assert settings.amqp_url.get_secret_value() == "amqp://own@127.0.0.1/"


def test_a_variable_of_another_service_is_not_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_LEASE_SECONDS", "1")
    environment.setenv("LEASE_SECONDS", "1")
    environment.setenv("PORT", "1")

    assert (PostOfficeSettings.load().lease_seconds, PostOfficeSettings.load().port) == (60.0, 8000)


def test_a_test_or_a_program_may_give_settings_by_their_plain_names() -> None:
    assert PostOfficeSettings(port=8123, lease_seconds=1).port == 8123


def test_what_all_services_share_has_no_prefix(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENVIRONMENT", "production")
    environment.setenv("LOG_LEVEL", "debug")
    environment.setenv("TOKEN_AUDIENCE", "another-hub")

    settings = PostOfficeSettings.load()

    assert (settings.environment, settings.log_level, settings.token_audience) == ("production", "DEBUG", "another-hub")


def refusal() -> list[str]:
    with pytest.raises(SettingsInvalid) as refused:
        PostOfficeSettings.load()
    return str(refused.value).splitlines()


def test_each_wrong_variable_gets_a_line_that_names_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("POSTOFFICE_DELIVERY", "pigeon")
    environment.setenv("POSTOFFICE_LEASE_SECONDS", "-1")
    environment.setenv("ENVIRONMENT", "staging")
    environment.delenv("DATABASE_URL")

    head, *lines = refusal()

    assert head == "postoffice can't start, its settings are wrong:"
    assert sorted(line.split(":")[0].strip() for line in lines) == [
        "ENVIRONMENT",
        "POSTOFFICE_DATABASE_URL (or DATABASE_URL)",
        "POSTOFFICE_DELIVERY",
        "POSTOFFICE_LEASE_SECONDS",
    ]
    assert "'log' or 'smtp'" in next(line for line in lines if "DELIVERY" in line)


def test_a_wrong_log_level_is_refused_at_the_start(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOG_LEVEL", "LOUD")

    assert any("LOG_LEVEL" in line for line in refusal())


def test_a_missing_secret_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("POSTOFFICE_SECRET_KEYS")

    assert refusal()[1:] == ["  POSTOFFICE_SECRET_KEYS: Field required"]


def test_settings_that_are_printed_show_no_secret() -> None:
    shown = f"{PostOfficeSettings.load()!r} {PostOfficeSettings.load()}"

    assert "not for logs" not in shown
    assert "general@" not in shown


def test_a_setting_can_not_be_changed_while_the_service_runs() -> None:
    settings = PostOfficeSettings.load()

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]  # that is what is tried


def test_the_class_that_every_service_shares_stays_as_it_was() -> None:
    assert ServiceSettings.model_fields["port"].validation_alias is None
    assert StoreSettings.model_fields["database_url"].validation_alias is None


@pytest.fixture
def secrets(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    environment.setattr("shared.settings._SECRETS", tmp_path)
    return tmp_path


def test_a_setting_may_be_a_file_among_the_secrets(environment: pytest.MonkeyPatch, secrets: Path) -> None:
    environment.delenv("POSTOFFICE_SECRET_KEYS")
    (secrets / "POSTOFFICE_SECRET_KEYS").write_text("from a file\n")
    (secrets / "DATABASE_URL").write_text("postgresql://file@127.0.0.1/hub")

    loaded = PostOfficeSettings.load()

    assert loaded.secret_keys.get_secret_value() == "from a file"
    assert loaded.database_url.get_secret_value() == "postgresql://general@127.0.0.1/hub", "a variable beats a file"


def test_a_step_finds_its_few_settings_in_the_same_places(environment: pytest.MonkeyPatch, secrets: Path) -> None:
    assert find_setting("POSTOFFICE_DATABASE_URL", "DATABASE_URL") == "postgresql://general@127.0.0.1/hub"
    (secrets / "POSTOFFICE_DATABASE_URL").write_text("postgresql://file@127.0.0.1/hub\n")
    assert find_setting("POSTOFFICE_DATABASE_URL", "DATABASE_URL") == "postgresql://file@127.0.0.1/hub"
    assert find_setting("OWNER_DATABASE_URL") is None
    environment.setenv("OWNER_DATABASE_URL", "")
    assert find_setting("OWNER_DATABASE_URL") is None, "an empty variable is none"
