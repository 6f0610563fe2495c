-- When a delivery came to be owed; unknown of those that were owed before this was noted.
ALTER TABLE tidemill_outbox ADD COLUMN created_at bigint;

-- Few manifests are open at a time, and these are counted again and again.
CREATE INDEX tidemill_manifest_open ON tidemill_manifest (pipeline) WHERE phase = 'open';
