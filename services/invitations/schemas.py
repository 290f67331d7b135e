"""Bodies of requests and answers, in the names that clients of the older API know."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from services.invitations.domain.bulk import MOST_CODES_EACH, MOST_RECIPIENTS, Channel
from services.invitations.domain.rows import LONGEST_NAME, LONGEST_NOTES, is_email

MOST_CODES_AT_ONCE = 100_000


def _email(text: str | None) -> str | None:
    if text and not is_email(text):
        raise ValueError("not an e-mail address")
    return text or None


def _future(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("say the time zone, such as 2027-01-01T00:00:00Z")
    if moment <= datetime.now(UTC):
        raise ValueError("must be in the future")
    return moment


def _whole_minutes(clock: time | None) -> time | None:
    if clock is not None and (clock.tzinfo is not None or clock.second or clock.microsecond):
        raise ValueError("give hours and minutes of Istanbul's clock, such as 21:00")
    return clock


Email = Annotated[str | None, AfterValidator(_email)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=LONGEST_NAME)]
Notes = Annotated[str, StringConstraints(max_length=LONGEST_NOTES)]
CodeCount = Annotated[int, Field(strict=True, ge=1, le=MOST_CODES_EACH)]
Code = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=4, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
]


class Body(BaseModel):
    """A body whose unknown fields are mistakes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


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
    recipients: Annotated[list[FarmerBody], Field(max_length=MOST_RECIPIENTS)]


class InviteBody(FarmerBody):
    """A sponsor's single invitation."""

    channel: Channel = Channel.SMS
    custom_message: str | None = None


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


class TierStock(BaseModel):
    """A sponsor's codes of one tier."""

    tier: str
    available: int
    reserved: int
    spent: int
    expired: int


class StockBody(BaseModel):
    """A sponsor's stock."""

    success: bool = True
    sponsorId: int  # noqa: N815 - the clients' name
    tiers: list[TierStock]


class SponsorBody(BaseModel):
    """A sponsor with its stock, for who chooses one."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)
    sponsor_id: int
    full_name: str
    is_active: bool
    tiers: list[TierStock]


class SponsorPage(BaseModel):
    """One page of sponsors."""

    items: list[SponsorBody]
    next_cursor: str | None


class SpentBody(BaseModel):
    """Codes of one tier that farmers took on one day in Istanbul."""

    day: date
    tier: str
    spent: int


class UsageBody(BaseModel):
    """Codes that farmers took, by day and tier; days without any are left out."""

    days: int
    spent: list[SpentBody]


class Answer(BaseModel):
    """What the older API's clients read; the routes write it themselves, this tells what they write."""

    model_config = ConfigDict(alias_generator=to_camel)


class Said(Answer):
    """That it is done."""

    success: Literal[True]
    message: str


class RecipientResult(Answer):
    """What became of one recipient; the invitation is there on success, the reason otherwise."""

    phone: str
    farmer_name: str
    code_count: int
    package_tier: str | None
    success: bool
    invitation_id: int = 0
    invitation_token: str = ""
    invitation_link: str = ""
    error_message: str = ""
    delivery_status: str


class CallData(Answer):
    """The recipients' results in the order of the request."""

    total_requested: int
    success_count: int
    failed_count: int
    results: list[RecipientResult]


class CallAnswer(Said):
    """The answer to a call for up to 1,000 recipients."""

    data: CallData


class UploadData(Answer):
    """The job that an upload became."""

    job_id: int
    total_dealers: int
    total_recipients: int
    invalid_rows: int
    status: str
    created_date: datetime
    status_check_url: str


class UploadAnswer(Said):
    """The answer to an upload."""

    data: UploadData


class PreviewData(Answer):
    """What an upload would do."""

    total_rows: int
    valid_rows: int
    invalid_rows: int
    mapping: dict[str, Any]
    ignored_columns: list[str]
    codes_needed: dict[str, int]


class PreviewAnswer(Said):
    """The answer to an upload with dryRun=true."""

    data: PreviewData


class JobData(Answer):
    """How far a job has come."""

    job_id: int
    sponsor_id: int
    sponsor_name: str
    channel: Channel
    status: str
    total_dealers: int
    total_recipients: int
    processed_count: int
    success_count: int
    failed_count: int
    counts: dict[str, int]
    percent: float
    rows_per_second: float | None
    estimated_end: datetime | None
    created_date: datetime
    completed_date: datetime | None
    status_check_url: str
    results_url: str


class JobAnswer(Said):
    """The state of a job."""

    data: JobData


class JobPage(BaseModel):
    """One page of jobs."""

    items: list[JobData]
    next_cursor: str | None


class FactsAnswer(Said):
    """That it is done, and the figures of what was done."""

    data: dict[str, int | str]


class QuietHoursData(Answer):
    """The quiet hours as HH:MM; null for none."""

    starts: str | None = Field(alias="from")
    ends: str | None = Field(alias="to")


class QuietHoursAnswer(Answer):
    """A sponsor's quiet hours."""

    success: Literal[True]
    data: QuietHoursData


class InvitationAnswer(Answer):
    """One invitation."""

    invitation_id: int
    sponsor_id: int
    job_id: int
    phone: str
    farmer_name: str | None
    email: str | None
    notes: str | None
    package_tier: str
    code_count: int
    channel: Channel
    status: str
    status_reason: str | None
    delivery_status: str | None
    created_date: datetime
    expires_date: datetime
    closed_date: datetime | None


class MessageAnswer(Answer):
    """One message of an invitation, with every attempt to send it."""

    delivery_id: str
    ordinal: int
    channel: Channel
    status: str
    error_code: str | None
    error_message: str | None
    created_date: datetime
    updated_date: datetime
    attempts: list[dict[str, Any]]


class InvitationDetail(InvitationAnswer):
    """One invitation with its link and its messages."""

    invitation_link: str
    deliveries: list[MessageAnswer]


class InvitationPage(BaseModel):
    """One page of invitations."""

    items: list[InvitationAnswer]
    next_cursor: str | None


class OfferData(Answer):
    """What the farmer is offered."""

    sponsor_name: str
    farmer_name: str | None
    package_tier: str
    code_count: int
    status: str
    expires_date: datetime


class OfferAnswer(Answer):
    """The invitation behind a link."""

    success: Literal[True]
    data: OfferData


class AcceptanceData(Answer):
    """The codes that are the farmer's now."""

    package_tier: str
    code_count: int
    codes: list[str]


class AcceptanceAnswer(Said):
    """The answer to accepting an invitation."""

    data: AcceptanceData
