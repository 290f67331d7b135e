"""Referrals, sync tasks, sign-ins and the connection: what they are, what may become of them, what can go wrong."""
