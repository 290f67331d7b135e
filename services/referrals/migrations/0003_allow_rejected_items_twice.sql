-- The version of the code before these migrations still inserts each malformed item anew; a unique index would stop its syncs.
DROP INDEX referrals_rejected_once;
CREATE INDEX referrals_rejected_raw_idx ON referrals_rejected (md5(raw));
