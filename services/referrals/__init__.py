"""Referrals: the Partner Center connection and the referrals that come through it.

Owns: the stored sign-in at Microsoft, sync tasks, `partner_center_referrals` with the history of their statuses.
Publishes: ReferralReceived, ReferralChanged, ReferralSyncRequested, ReferralSyncCompleted, ReferralSyncFailed,
PartnerCenterSignInRequired, ReferralsAudit. Consumes: ReferralSyncRequested (its own work).
"""
