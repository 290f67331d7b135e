"""gateway: the one address that clients call.

Owns no data. Routes HTTP to the services, after checking path, headers, token and limits. Publishes nothing.
Consumes SessionsRevoked and UserChanged (from a stream, each replica all of it), to refuse sessions that ended early.
"""
