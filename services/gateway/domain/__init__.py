"""The gateway's rules, without any I/O: where a request goes, what of it may pass, how often, and what refuses it."""
