"""RabbitMQ: publishing with confirms, consuming under supervision, retry and dead letters.

Plain aio-pika connections, not its robust ones: those heal silently or not at all (a queue that can't be declared again
keeps a whole connection closed, a cancelled consumer is retried at DEBUG for ever; facts/messaging 3.2). Here a lost
connection, channel or consumer ends a session, and a supervisor starts the next one and turns readiness red meanwhile.
"""
