-- The log. Monthly partitions by the time of recording, which never runs backwards along the chain: a partition is a
-- whole stretch of places. The payload is the bytes that were hashed; the columns beside it are derived, for searching.
CREATE TABLE records (
    seq bigint NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL,
    payload bytea NOT NULL,
    event_id uuid NOT NULL,
    service text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    actor_id bigint,
    action text COLLATE "C" NOT NULL,
    target text COLLATE "C",
    outcome text COLLATE "C" NOT NULL,
    severity text COLLATE "C" NOT NULL,
    request_id text COLLATE "C",
    on_behalf_of bigint
) PARTITION BY RANGE (recorded_at);

-- One index for each filter, each ending in the order of the answer: a page is read, not sorted.
CREATE INDEX records_occurred_at_idx ON records (occurred_at, seq);
CREATE INDEX records_service_idx ON records (service, occurred_at, seq);
CREATE INDEX records_action_idx ON records (action, occurred_at, seq);
CREATE INDEX records_outcome_idx ON records (outcome, occurred_at, seq);
CREATE INDEX records_actor_id_idx ON records (actor_id, occurred_at, seq) WHERE actor_id IS NOT NULL;
CREATE INDEX records_target_idx ON records (target, occurred_at, seq) WHERE target IS NOT NULL;
CREATE INDEX records_request_id_idx ON records (request_id, occurred_at, seq) WHERE request_id IS NOT NULL;
CREATE INDEX records_on_behalf_of_idx ON records (on_behalf_of, occurred_at, seq) WHERE on_behalf_of IS NOT NULL;

-- Where the chain stands. One row that always exists: locking "the newest record" would not serialise two sealers.
CREATE TABLE chain_head (
    one boolean CONSTRAINT chain_head_pkey PRIMARY KEY DEFAULT true CONSTRAINT chain_head_one_row CHECK (one),
    chain_id uuid NOT NULL DEFAULT gen_random_uuid(),
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    recorded_at timestamptz NOT NULL
);
INSERT INTO chain_head (seq, hash, recorded_at) VALUES (0, decode(repeat('00', 32), 'hex'), '2000-01-01T00:00:00Z');

-- Which event is where. Every unique index on a partitioned table must hold the partition key, so that "each event
-- once" needs a table of its own; it outlives the inbox, so that a redrive after months has no second effect either.
CREATE TABLE seen_events (
    event_id uuid CONSTRAINT seen_events_pkey PRIMARY KEY,
    seq bigint NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX seen_events_recorded_at_idx ON seen_events USING brin (recorded_at);

-- The key of each record's personal data, sealed by the service's key. Deleting it erases the data; the chain stays whole.
CREATE TABLE personal_keys (
    event_id uuid CONSTRAINT personal_keys_pkey PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    actor_id bigint,
    subjects bytea[] NOT NULL,
    wrapped_key bytea NOT NULL
);
CREATE INDEX personal_keys_subjects_idx ON personal_keys USING gin (subjects) WHERE subjects <> '{}';
CREATE INDEX personal_keys_actor_id_idx ON personal_keys (actor_id) WHERE actor_id IS NOT NULL;
CREATE INDEX personal_keys_recorded_at_idx ON personal_keys USING brin (recorded_at);

CREATE TABLE checkpoints (
    number bigint CONSTRAINT checkpoints_pkey PRIMARY KEY,
    seq bigint NOT NULL,
    taken_at timestamptz NOT NULL,
    note text NOT NULL
);
CREATE INDEX checkpoints_seq_idx ON checkpoints (seq);

CREATE TABLE verifications (
    id uuid CONSTRAINT verifications_pkey PRIMARY KEY,
    status text NOT NULL CONSTRAINT verifications_known_status CHECK (status IN ('queued', 'running', 'finished')),
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by bigint,
    request_id text,
    whole boolean NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    ok boolean,
    last_seq bigint,
    report jsonb
);
CREATE INDEX verifications_queued_idx ON verifications (requested_at) WHERE status <> 'finished';
CREATE INDEX verifications_finished_idx ON verifications (finished_at) WHERE status = 'finished';

-- Whole months that were exported, verified and dropped; the signed note is what the rest of the chain now begins at.
CREATE TABLE prunings (
    last_seq bigint CONSTRAINT prunings_pkey PRIMARY KEY,
    pruned_at timestamptz NOT NULL DEFAULT now(),
    note text NOT NULL
);
