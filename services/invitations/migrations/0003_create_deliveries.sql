-- One message on one channel. A resend is a new delivery of the same invitation, with the next ordinal.
CREATE TABLE deliveries (
    id uuid CONSTRAINT deliveries_pkey PRIMARY KEY,
    invitation_id bigint NOT NULL CONSTRAINT deliveries_invitation_known REFERENCES invitations,
    ordinal integer NOT NULL,
    channel text NOT NULL CONSTRAINT deliveries_channel_known CHECK (channel IN ('SMS', 'WhatsApp')),
    provider text NOT NULL,
    state text NOT NULL DEFAULT 'queued' CONSTRAINT deliveries_state_known CHECK (state IN (
        'queued', 'claimed', 'sending', 'unknown', 'accepted', 'sent', 'delivered', 'read', 'undelivered', 'failed',
        'rejected', 'cancelled', 'needs_review')),
    attempts integer NOT NULL DEFAULT 0,
    look_ups integer NOT NULL DEFAULT 0,
    was_requeued boolean NOT NULL DEFAULT false,
    -- The request that carried it, where a provider takes many messages at once; `alone`: not in such a request.
    batch_id uuid,
    alone boolean NOT NULL DEFAULT false,
    due_at timestamptz NOT NULL DEFAULT now(),
    claimed_by text,
    lease_until timestamptz,
    provider_id text,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT deliveries_ordinal_once UNIQUE (invitation_id, ordinal)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX deliveries_queued_idx ON deliveries (provider, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_leased_idx ON deliveries (lease_until) WHERE state IN ('claimed', 'sending');
CREATE INDEX deliveries_unknown_idx ON deliveries (due_at) WHERE state = 'unknown';
CREATE INDEX deliveries_provider_id_idx ON deliveries (provider_id) WHERE provider_id IS NOT NULL;
-- Never a second message while the outcome of the first is open.
CREATE UNIQUE INDEX deliveries_one_in_flight ON deliveries (invitation_id)
    WHERE state IN ('queued', 'claimed', 'sending', 'unknown');

-- Every attempt stays, as it was.
CREATE TABLE delivery_attempts (
    delivery_id uuid NOT NULL CONSTRAINT delivery_attempts_delivery_known REFERENCES deliveries,
    number integer NOT NULL,
    provider text NOT NULL,
    sender text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    outcome text,
    provider_id text,
    code text,
    reason text,
    CONSTRAINT delivery_attempts_pkey PRIMARY KEY (delivery_id, number)
);

-- One account at a provider: the token bucket and the circuit breaker that all senders share.
CREATE TABLE provider_accounts (
    provider text CONSTRAINT provider_accounts_pkey PRIMARY KEY,
    tokens double precision NOT NULL,
    refilled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures integer NOT NULL DEFAULT 0,
    paused_until timestamptz
);

-- What was answered to a request with an Idempotency-Key; without an answer, the request is still running.
CREATE TABLE idempotency_keys (
    account_id bigint NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    job_id bigint CONSTRAINT idempotency_keys_job_known REFERENCES jobs,
    status integer,
    -- Sealed, because the answer holds the farmers' links.
    answer_sealed bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (account_id, key)
);
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);
