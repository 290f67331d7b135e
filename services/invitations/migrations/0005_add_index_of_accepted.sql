-- "How many codes did farmers take on each of the last days?" must not read invitations that are open, expired or old.
CREATE INDEX invitations_accepted_idx ON invitations (closed_at, sponsor_id, tier) INCLUDE (code_count) WHERE status = 'Accepted';
