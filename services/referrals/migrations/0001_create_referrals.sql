-- Referrals as Microsoft tells them: the whole object in `raw`, beside it the columns that people query.
-- Values are text, not enums: the contract grows, and an unknown status must not stop a sync.
CREATE TABLE partner_center_referrals (
    referral_id text CONSTRAINT partner_center_referrals_pkey PRIMARY KEY,
    engagement_id text,
    name text,
    referral_type text,
    direction text,
    qualification text,
    category text,
    status text,
    substatus text,
    status_reason text,
    company_name text,
    domain text,
    country text,
    deal_value numeric,
    currency text,
    created_at timestamptz,
    updated_at timestamptz NOT NULL,
    updated_raw text NOT NULL,
    raw jsonb NOT NULL,
    digest bytea NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    synced_at timestamptz NOT NULL DEFAULT now(),
    missing_since timestamptz
);
COMMENT ON COLUMN partner_center_referrals.synced_at IS 'when the row last changed by a sync';
COMMENT ON COLUMN partner_center_referrals.missing_since IS 'first full sweep that no longer saw it; never deleted, absence is no deletion';
CREATE INDEX partner_center_referrals_updated_at_idx ON partner_center_referrals (updated_at DESC, referral_id DESC);
CREATE INDEX partner_center_referrals_status_idx ON partner_center_referrals (status, substatus);

-- The raw objects are 3 kB each; lz4 compresses them several times faster than the default, where the server was built with it.
DO $$
BEGIN
    ALTER TABLE partner_center_referrals ALTER COLUMN raw SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

CREATE TABLE referral_statuses (
    referral_id text NOT NULL CONSTRAINT referral_statuses_referral_fkey REFERENCES partner_center_referrals,
    status text,
    substatus text,
    changed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT referral_statuses_once UNIQUE NULLS NOT DISTINCT (referral_id, changed_at, status, substatus)
);

CREATE TABLE referral_syncs (
    task_id uuid CONSTRAINT referral_syncs_pkey PRIMARY KEY,
    mode text NOT NULL CONSTRAINT referral_syncs_mode CHECK (mode IN ('incremental', 'full')),
    state text NOT NULL DEFAULT 'queued'
        CONSTRAINT referral_syncs_state CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'sign_in_required')),
    asked_by jsonb NOT NULL,
    listing text,
    since timestamptz,
    next_target text,
    account_id text,
    newest_at timestamptz,
    newest_raw text,
    pages integer NOT NULL DEFAULT 0,
    fetched integer NOT NULL DEFAULT 0,
    created integer NOT NULL DEFAULT 0,
    updated integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    rejected integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    restarts integer NOT NULL DEFAULT 0,
    wait_until timestamptz,
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    moved_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error_code text,
    error text
);
-- One sync at a time: asking while one is open finds that one.
CREATE UNIQUE INDEX referral_syncs_one_open ON referral_syncs ((true)) WHERE state IN ('queued', 'running');
CREATE INDEX referral_syncs_requested_at_idx ON referral_syncs (requested_at DESC, task_id DESC);

-- Which referrals, of those known before it, a full sweep has seen so far; narrow, so that a sweep does not rewrite the referrals themselves.
CREATE TABLE referral_sightings (
    task_id uuid NOT NULL CONSTRAINT referral_sightings_sync_fkey REFERENCES referral_syncs,
    referral_id text NOT NULL,
    CONSTRAINT referral_sightings_pkey PRIMARY KEY (task_id, referral_id)
);

-- Items that are no referral, as JSON text: jsonb could not hold each of them.
CREATE TABLE referrals_rejected (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT referrals_rejected_pkey PRIMARY KEY,
    task_id uuid NOT NULL CONSTRAINT referrals_rejected_sync_fkey REFERENCES referral_syncs,
    page integer NOT NULL,
    position integer NOT NULL,
    reason text NOT NULL,
    raw text NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sign_ins (
    sign_in_id uuid CONSTRAINT sign_ins_pkey PRIMARY KEY,
    state text NOT NULL DEFAULT 'pending'
        CONSTRAINT sign_ins_state CHECK (state IN ('pending', 'succeeded', 'declined', 'expired', 'failed')),
    asked_by jsonb NOT NULL,
    sealed_flow bytea,
    verification_uri text NOT NULL,
    interval_seconds double precision NOT NULL,
    next_poll_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    account text,
    error_code text,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX sign_ins_due_idx ON sign_ins (next_poll_at) WHERE state = 'pending';

-- The stored sign-in: one row, or none. The token cache is sealed and bound to this row.
CREATE TABLE partner_center_connections (
    id integer CONSTRAINT partner_center_connections_pkey PRIMARY KEY CONSTRAINT partner_center_connections_single CHECK (id = 1),
    home_account_id text NOT NULL,
    username text NOT NULL,
    tenant_id text NOT NULL,
    sealed_cache bytea NOT NULL,
    version integer NOT NULL DEFAULT 1,
    connected_at timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz NOT NULL DEFAULT now(),
    token_expires_at timestamptz NOT NULL,
    refused_because text,
    reported text NOT NULL DEFAULT 'healthy'
);
