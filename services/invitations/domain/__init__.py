"""Entities and rules of bulk invitations: codes, phones, invitations, deliveries, jobs; no I/O."""
