"""The rules of accounts, passwords, tokens, sessions and throttling; no I/O."""
