-- What a task per row needs, as one would design it for that: fewer columns and indexes than the service's own tables.
CREATE TABLE peer_codes (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT peer_codes_pkey PRIMARY KEY,
    code text NOT NULL CONSTRAINT peer_codes_code_once UNIQUE,
    sponsor_id bigint NOT NULL,
    tier text NOT NULL,
    state text NOT NULL DEFAULT 'available',
    invitation_id bigint
);
CREATE INDEX peer_codes_available_idx ON peer_codes (sponsor_id, tier) WHERE state = 'available';

CREATE TABLE peer_invitations (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT peer_invitations_pkey PRIMARY KEY,
    job_id bigint NOT NULL,
    row_no integer NOT NULL,
    sponsor_id bigint NOT NULL,
    phone text NOT NULL,
    farmer_name text NOT NULL,
    email text,
    notes text,
    tier text NOT NULL,
    token text NOT NULL CONSTRAINT peer_invitations_token_once UNIQUE,
    state text NOT NULL DEFAULT 'sending',
    provider_id text,
    CONSTRAINT peer_invitations_one_per_row UNIQUE (job_id, row_no)
);
