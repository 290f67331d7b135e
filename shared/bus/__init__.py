"""RabbitMQ: publishing with confirms, consuming under supervision, retry and dead letters.

Plain connections of aiormq, not the robust ones of aio-pika above it: those heal silently or not at all (a queue that
can't be declared again keeps a whole connection closed, a cancelled consumer is retried at DEBUG for ever;
docs/messaging.md M2.10). Here a lost connection, channel or consumer ends a session, and a supervisor starts the next
one and turns readiness red meanwhile.
"""
