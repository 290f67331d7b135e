"""What callers are answered."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.invitations.domain.bulk import Channel, Refusal


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
    warnings: list[str] = Field([], description="What the caller may not have meant; absent if there is nothing.")


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


class PreviewRow(Answer):
    """One of the first rows as it would be taken; the phone as it is written if it can't be read."""

    row: int
    phone: str
    farmer_name: str
    email: str | None
    package_tier: str | None
    notes: str | None
    error: str | None


class PreviewError(Answer):
    """Why a row would be left out."""

    row: int
    column: str | None
    reason: str
    code: Refusal


class SmsSegments(Answer):
    """How the message goes out by SMS."""

    alphabet: str
    length: int
    parts: int


class PreviewData(Answer):
    """What an upload would do; rows are numbered as the spreadsheet program shows them."""

    total_rows: int
    valid_rows: int
    invalid_rows: int
    mapping: dict[str, str]
    ignored_columns: list[str]
    hidden_rows: int
    hidden_columns: int
    first_rows: list[PreviewRow]
    errors: list[PreviewError] = Field(description="The first 1,000; `invalidRows` counts all.")
    already_invited: list[int]
    opted_out: list[int]
    codes_needed: dict[str, int] = Field(description="By tier; `any` for rows that name none.")
    codes_available: dict[str, int]
    message_preview: str | None = Field(description="What goes out by SMS; WhatsApp has its approved template.")
    sms_segments: SmsSegments | None


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
    consent_evidence: str | None
    is_commercial: bool
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
