-- Append only. Rights are one lock, these triggers are the second: they also stop a role that was given too many rights.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: the audit log only grows', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

-- Take every right on a table from everybody but its owner, then give the service's role these.
CREATE FUNCTION leave_only(which regclass, rights text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    grantee regrole;
BEGIN
    FOR grantee IN
        SELECT DISTINCT entry.grantee::regrole
        FROM pg_class AS class CROSS JOIN LATERAL aclexplode(class.relacl) AS entry
        WHERE class.oid = which AND entry.grantee <> class.relowner AND entry.grantee <> 0
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE %s FROM %s', which, grantee);
        IF rights <> '' THEN
            EXECUTE format('GRANT %s ON TABLE %s TO %s', rights, which, grantee);
        END IF;
    END LOOP;
END $$;

-- Statement triggers of a partitioned table do not reach its partitions: each table gets its own.
CREATE FUNCTION make_append_only(which regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
        which
    );
END $$;

-- Make the partition of one month. ATTACH takes a lock that readers and the sealer do not feel; CREATE … PARTITION OF would.
CREATE FUNCTION make_partition(first timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text := 'records_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE records INCLUDING STORAGE)', name);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I PRIMARY KEY (seq)', name, name || '_pkey');
    -- A loud guard: two records can't follow the same one.
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (prev_hash)', name, name || '_no_fork');
    PERFORM leave_only(name::regclass, '');
    PERFORM make_append_only(name::regclass);
    EXECUTE format(
        'ALTER TABLE records ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, first, (first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
    );
    RETURN name;
END $$;

-- Make the partitions of this month and the coming ones ahead of time; gives the names of new ones. It runs with the
-- owner's rights, because the service's role can't create tables.
CREATE FUNCTION make_partitions(ahead integer) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7261, 1);
    RETURN QUERY
        SELECT made FROM generate_series(0, least(ahead, 24)) AS month, LATERAL make_partition(
            (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => month)) AT TIME ZONE 'UTC'
        ) AS made
        WHERE made IS NOT NULL;
END $$;

SELECT leave_only('records', 'SELECT, INSERT'), make_append_only('records');
SELECT leave_only('seen_events', 'SELECT, INSERT'), make_append_only('seen_events');
SELECT leave_only('checkpoints', 'SELECT, INSERT'), make_append_only('checkpoints');
SELECT leave_only('prunings', 'SELECT'), make_append_only('prunings');
SELECT leave_only('chain_head', 'SELECT, UPDATE');
SELECT leave_only('personal_keys', 'SELECT, INSERT, DELETE');
SELECT make_partitions(3);
