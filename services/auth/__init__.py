"""Accounts: people sign in, an admin's forgotten password is reset by a fixed procedure, break-glass when nobody can.

Owns: accounts, sessions, signing keys (schema `auth`).
Publishes: UserRegistered, UserChanged, SessionsRevoked, PasswordResetRequested, PasswordChanged, AuthAudit.
Consumes: PasswordResetRequested and PasswordChanged, its own, to write to the owners of accounts.
"""
