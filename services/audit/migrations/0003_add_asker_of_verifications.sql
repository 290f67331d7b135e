-- Who asked, as the record of the result names them: the id alone does not say whether it was an admin.
ALTER TABLE verifications ADD COLUMN asked_by jsonb NOT NULL DEFAULT '{"kind": "service"}';
UPDATE verifications SET asked_by = jsonb_build_object('kind', 'user', 'id', requested_by) WHERE requested_by IS NOT NULL;
