"""All SQL of invitations, by noun."""
