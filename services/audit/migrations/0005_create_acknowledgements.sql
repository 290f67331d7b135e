-- What an operator has said, signed, about findings that are understood and can't be undone.
CREATE TABLE acknowledgements (
    id uuid CONSTRAINT acknowledgements_pkey PRIMARY KEY,
    kind text NOT NULL,
    seq bigint NOT NULL,
    detail text NOT NULL,
    reason text NOT NULL,
    os_user text NOT NULL,
    host text NOT NULL,
    acknowledged_at timestamptz NOT NULL,
    signature bytea NOT NULL
);
SELECT leave_only('acknowledgements', 'SELECT, INSERT'), make_append_only('acknowledgements');
