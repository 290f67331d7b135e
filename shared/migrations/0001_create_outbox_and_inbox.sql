-- The outbox: events that were decided in a transaction and wait for the relay. The relay deletes what the broker confirmed.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_pkey PRIMARY KEY,
    event_id uuid NOT NULL,
    routing_key text NOT NULL,
    envelope bytea NOT NULL,
    sequence bigint,
    failures integer NOT NULL DEFAULT 0,
    held_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_unnumbered_idx ON outbox (id) WHERE sequence IS NULL;

-- The last number given to each type of event; numbers are given by the relay, so that they have no gaps.
CREATE TABLE outbox_sequences (
    routing_key text CONSTRAINT outbox_sequences_pkey PRIMARY KEY,
    last bigint NOT NULL
);

-- The inbox: which events this service has handled. A row is written in the transaction of the effect.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inbox_pkey PRIMARY KEY (consumer, event_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX inbox_received_at_idx ON inbox USING brin (received_at);
