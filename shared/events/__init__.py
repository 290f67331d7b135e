"""Every event that crosses the border of a service or of a process: the contract.

Publishers only ever add optional fields. A breaking change is a new class with the next version in its routing key,
published beside the old one until nobody consumes that. Consumers ignore fields that they do not know.
"""

from __future__ import annotations

from shared.events.audit import AuditAudit, AuditRecorded, AuthAudit, InvitationsAudit, ReferralsAudit
from shared.events.auth import (
    PasswordChanged,
    PasswordResetRequested,
    SessionsRevoked,
    UserChanged,
    UserRegistered,
)
from shared.events.envelope import Envelope, Event, Undecodable, catalog, decode, encode, with_sequence
from shared.events.invitations import (
    BulkChunkQueued,
    BulkJobAccepted,
    BulkJobCompleted,
    CodesAdded,
    InvitationAccepted,
    InvitationCreated,
    InvitationFailed,
    InvitationSent,
)
from shared.events.referrals import (
    PartnerCenterSignInRequired,
    ReferralChanged,
    ReferralReceived,
    ReferralSyncCompleted,
    ReferralSyncFailed,
    ReferralSyncRequested,
)

__all__ = [
    "AuditAudit",
    "AuditRecorded",
    "AuthAudit",
    "BulkChunkQueued",
    "BulkJobAccepted",
    "BulkJobCompleted",
    "CodesAdded",
    "Envelope",
    "Event",
    "InvitationAccepted",
    "InvitationCreated",
    "InvitationFailed",
    "InvitationSent",
    "InvitationsAudit",
    "PartnerCenterSignInRequired",
    "PasswordChanged",
    "PasswordResetRequested",
    "ReferralChanged",
    "ReferralReceived",
    "ReferralSyncCompleted",
    "ReferralSyncFailed",
    "ReferralSyncRequested",
    "ReferralsAudit",
    "SessionsRevoked",
    "Undecodable",
    "UserChanged",
    "UserRegistered",
    "catalog",
    "decode",
    "encode",
    "with_sequence",
]
