"""What auth can be asked to do; the only place that changes state and publishes.

Each command runs in the caller's transaction. What must be kept although the answer is no (a counted guess, a revoked
family, an audit event) is why some commands return their Failure: the caller raises it after the commit.
"""
