"""Events of invitations: jobs, invitations, codes."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.events.envelope import Event


class BulkJob(Event):
    """Something about one bulk job."""

    job_id: int
    sponsor_id: int

    def about(self) -> str:
        """Name it."""
        return f"bulk_job/{self.job_id}"


class BulkJobAccepted(BulkJob):
    """An uploaded file became a job."""

    routing_key: ClassVar[str] = "invitations.bulk_job.accepted.v1"
    rows: int


class BulkChunkQueued(BulkJob):
    """Rows `first_row` to `last_row` of a job wait for their codes; the work of invitations for itself."""

    routing_key: ClassVar[str] = "invitations.bulk_chunk.queued.v1"
    first_row: int
    last_row: int


class BulkJobCompleted(BulkJob):
    """Every row of a job is settled."""

    routing_key: ClassVar[str] = "invitations.bulk_job.completed.v1"
    status: Literal["Completed", "CompletedWithErrors", "Cancelled", "Failed"]
    succeeded: int
    failed: int


class Invitation(Event):
    """Something about one invitation."""

    invitation_id: int
    sponsor_id: int

    def about(self) -> str:
        """Name it."""
        return f"invitation/{self.invitation_id}"


class InvitationCreated(Invitation):
    """A farmer is invited and codes are reserved."""

    routing_key: ClassVar[str] = "invitations.invitation.created.v1"
    package_tier: str
    code_count: int
    job_id: int | None = None


class InvitationSent(Invitation):
    """A provider took the message."""

    routing_key: ClassVar[str] = "invitations.invitation.sent.v1"
    channel: str
    provider: str


class InvitationAccepted(Invitation):
    """The farmer accepted; the codes are spent."""

    routing_key: ClassVar[str] = "invitations.invitation.accepted.v1"


class InvitationFailed(Invitation):
    """The message can't be delivered. If the provider refused it, the invitation has ended and its codes are free."""

    routing_key: ClassVar[str] = "invitations.invitation.failed.v1"
    reason: str


class CodesAdded(Event):
    """A sponsor's stock grew."""

    routing_key: ClassVar[str] = "invitations.codes.added.v1"
    sponsor_id: int
    package_tier: str
    count: int

    def about(self) -> str:
        """Name it."""
        return f"sponsor/{self.sponsor_id}"
