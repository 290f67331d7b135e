-- What handling one message leaves behind, the same for every contender; clock_timestamp() tells when, not its transaction's begin.
CREATE TABLE effects (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT effects_pkey PRIMARY KEY,
    user_id bigint NOT NULL,
    email text NOT NULL,
    full_name text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
