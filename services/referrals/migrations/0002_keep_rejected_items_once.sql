-- A malformed item comes with every sweep: it is kept once, and counted.
ALTER TABLE referrals_rejected
    ADD COLUMN times integer NOT NULL DEFAULT 1,
    ADD COLUMN last_rejected_at timestamptz NOT NULL DEFAULT now();
DELETE FROM referrals_rejected AS later USING referrals_rejected AS earlier
WHERE md5(later.raw) = md5(earlier.raw) AND later.id > earlier.id;
CREATE UNIQUE INDEX referrals_rejected_once ON referrals_rejected (md5(raw));

-- No query of ours used it: lists compare without regard to case and walk along the time of change.
DROP INDEX partner_center_referrals_status_idx;
