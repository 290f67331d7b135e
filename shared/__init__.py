"""Mechanisms that every service uses and the contract of the events between them; no business rule."""
