"""audit: the shared log consumer.

Owns the schema `audit`: an append-only, hash-chained log of every audit event of every service, with signed
checkpoints, verifications and the keys of sealed personal data. It is the only writer of that log.
Consumes `AuthAudit`, `ReferralsAudit`, `InvitationsAudit`, `AuditAudit`. Publishes `AuditAudit` (reading, exporting,
verifying, erasing and pruning the log are acts like any other).
"""
