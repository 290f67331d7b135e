"""What referrals can be asked to do, split by noun; the only place that changes state and publishes."""
