"""All SQL of referrals, split by noun."""
