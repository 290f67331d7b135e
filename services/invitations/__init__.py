"""invitations: sponsors, or admins on a sponsor's behalf, invite farmers by SMS and WhatsApp and spend codes on them.

Owns the schema `invitations`: accounts (a copy), codes, jobs and their rows, invitations, deliveries, opt-outs.
Publishes BulkJobAccepted, BulkJobCompleted, InvitationCreated, InvitationSent, InvitationAccepted, InvitationFailed,
CodesAdded, BulkChunkQueued (to itself) and audit events. Consumes UserRegistered, UserChanged, BulkChunkQueued.
"""
