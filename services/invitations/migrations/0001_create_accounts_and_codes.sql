-- Accounts as auth tells of them (UserRegistered, UserChanged); a sponsor is an account with that role. The row is also the lock
-- under which one sponsor's codes are given out.
CREATE TABLE accounts (
    id bigint CONSTRAINT accounts_pkey PRIMARY KEY,
    version bigint NOT NULL,
    full_name text NOT NULL,
    roles text[] NOT NULL,
    is_active boolean NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- The stock. A code without end has expires_at = infinity, so that one index serves both the filter and the order.
CREATE TABLE codes (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT codes_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT codes_code_once UNIQUE,
    sponsor_id bigint NOT NULL CONSTRAINT codes_sponsor_known REFERENCES accounts,
    tier text NOT NULL CONSTRAINT codes_tier_known CHECK (tier IN ('S', 'M', 'L', 'XL')),
    state text NOT NULL DEFAULT 'available' CONSTRAINT codes_state_known CHECK (state IN ('available', 'reserved', 'spent')),
    expires_at timestamptz NOT NULL DEFAULT 'infinity',
    added_by bigint NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- Those that expire first are given out first.
CREATE INDEX codes_available_idx ON codes (sponsor_id, tier, expires_at, id) WHERE state = 'available';
CREATE INDEX codes_held_idx ON codes (sponsor_id, tier, state) WHERE state <> 'available';
