"""What callers send."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic.alias_generators import to_camel

from services.invitations.domain.bulk import MOST_CODES_EACH, MOST_RECIPIENTS, Channel
from services.invitations.domain.phones import read_phone
from services.invitations.domain.rows import LONGEST_EVIDENCE, LONGEST_NAME, LONGEST_NOTES, is_email
from shared.moments import in_utc

MOST_CODES_AT_ONCE = 100_000


def _email(text: str | None) -> str | None:
    if text and not is_email(text):
        raise ValueError("not an e-mail address")
    return text or None


def _phone(text: str) -> str:
    """Check a number and leave it as it was sent: the answer echoes it."""
    read_phone(text)
    return text


def _future(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("say the time zone, such as 2027-01-01T00:00:00Z")
    if moment <= datetime.now(UTC):
        raise ValueError("must be in the future")
    return in_utc(moment)


def _whole_minutes(clock: time | None) -> time | None:
    if clock is not None and (clock.tzinfo is not None or clock.second or clock.microsecond):
        raise ValueError("give hours and minutes of Istanbul's clock, such as 21:00")
    return clock


Email = Annotated[str | None, AfterValidator(_email)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=LONGEST_NAME)]
Notes = Annotated[str, StringConstraints(max_length=LONGEST_NOTES)]
ConsentEvidence = Annotated[
    str, StringConstraints(max_length=LONGEST_EVIDENCE), Field(description="On what ground the farmers may be written.")
]
CodeCount = Annotated[int, Field(strict=True, ge=1, le=MOST_CODES_EACH)]
Code = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=4, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]


class Body(BaseModel):
    """A body whose unknown fields are mistakes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_nul(cls, value: object) -> object:
        """Name the field: the database would only say that somewhere there is a character that it can't hold."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain NUL characters")
        return value


class FarmerBody(Body):
    """One farmer to invite."""

    phone: Annotated[str, Field(max_length=64, examples=["05421396386"])]
    farmer_name: Name = ""
    email: Email = None
    code_count: CodeCount
    package_tier: str | None = Field(
        None, max_length=16, description="S, M, L or XL; absent: the lowest that can serve the farmer."
    )
    notes: Notes | None = None


class OnBehalfBody(Body):
    """An admin's call for a sponsor."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "sponsorId": 6,
                    "channel": "SMS",
                    "customMessage": "Merhaba {farmerName}, {sponsorName} size {codeCount} adet paket hediye etti: "
                    "{deepLink}",
                    "recipients": [
                        {
                            "phone": "05421396386",
                            "farmerName": "Ahmet Yılmaz",
                            "email": "ahmet@example.com",
                            "codeCount": 5,
                            "packageTier": "M",
                            "notes": "Bölge 1 - Antalya",
                        }
                    ],
                }
            ]
        }
    )
    sponsor_id: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
    channel: Channel = Channel.SMS
    custom_message: str | None = None
    consent_evidence: ConsentEvidence | None = None
    recipients: Annotated[list[FarmerBody], Field(max_length=MOST_RECIPIENTS)]


class InviteBody(FarmerBody):
    """A sponsor's single invitation."""

    phone: Annotated[str, Field(max_length=64, examples=["05421396386"]), AfterValidator(_phone)]
    farmer_name: Annotated[Name, StringConstraints(min_length=1)]
    channel: Channel = Channel.SMS
    custom_message: str | None = None
    consent_evidence: ConsentEvidence | None = None


class CodesBody(Body):
    """Codes for a sponsor: so many new ones, or a list of given ones."""

    sponsor_id: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]
    tier: str
    count: Annotated[int, Field(strict=True, ge=1, le=MOST_CODES_AT_ONCE)] | None = None
    codes: Annotated[list[Code], Field(min_length=1, max_length=MOST_CODES_AT_ONCE)] | None = None
    expires_at: Annotated[datetime | None, AfterValidator(_future)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> CodesBody:
        if (self.count is None) == (self.codes is None):
            raise ValueError("give either count or codes")
        if self.codes is not None and len(set(self.codes)) != len(self.codes):
            raise ValueError("a code is listed twice")
        return self


class QuietHoursBody(Body):
    """Times of the day in Europe/Istanbul, such as 21:00 and 09:00; both null for none."""

    starts: Annotated[time | None, AfterValidator(_whole_minutes), Field(alias="from")]
    ends: Annotated[time | None, AfterValidator(_whole_minutes), Field(alias="to")]

    @model_validator(mode="after")
    def _both_or_none(self) -> QuietHoursBody:
        if (self.starts is None) != (self.ends is None):
            raise ValueError("give both times or none")
        if self.starts is not None and self.starts == self.ends:
            raise ValueError("the quiet hours must end some time")
        return self
