"""What invitations can be asked to do; the only place that changes state and publishes."""
