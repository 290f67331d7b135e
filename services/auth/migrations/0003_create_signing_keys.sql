-- Key pairs. The newest whose `signs_from` has come signs; all verify until `ends_at`.
CREATE TABLE signing_keys (
    kid text CONSTRAINT signing_keys_pkey PRIMARY KEY,
    public jsonb NOT NULL,
    sealed_private bytea NOT NULL,
    signs_from timestamptz NOT NULL,
    ends_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
