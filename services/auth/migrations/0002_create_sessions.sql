-- A signed-in device. `sealed_secret` is what its refresh tokens follow from.
CREATE TABLE sessions (
    id uuid CONSTRAINT sessions_pkey PRIMARY KEY,
    account_id bigint NOT NULL CONSTRAINT sessions_account_fkey REFERENCES adminuser,
    sealed_secret bytea NOT NULL,
    with_second_factor boolean NOT NULL,
    ip text,
    user_agent text,
    created_at timestamptz NOT NULL,
    used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text
);
CREATE INDEX sessions_live_idx ON sessions (account_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);

-- Refresh tokens by their SHA-256. Spent ones stay as long as the session, to know a stolen one when it comes back.
CREATE TABLE refresh_tokens (
    token_hash bytea CONSTRAINT refresh_tokens_pkey PRIMARY KEY,
    session_id uuid NOT NULL CONSTRAINT refresh_tokens_session_fkey REFERENCES sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    spent_at timestamptz
);
CREATE INDEX refresh_tokens_session_idx ON refresh_tokens (session_id);

-- Failures in a row, by kind and subject (SHA-256 of the address: unknown addresses are counted alike).
CREATE TABLE throttles (
    kind text NOT NULL CONSTRAINT throttles_kind_is_known CHECK (kind IN ('sign-in', 'reset')),
    subject bytea NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    failed_at timestamptz,
    paused_until timestamptz,
    CONSTRAINT throttles_pkey PRIMARY KEY (kind, subject)
);
CREATE INDEX throttles_failed_at_idx ON throttles (failed_at);
