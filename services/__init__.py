"""The services, each a stranger to the others."""
