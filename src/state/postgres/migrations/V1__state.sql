-- What is fixed for a pipeline from its first start on.
CREATE TABLE tidemill_pipeline (
    pipeline text PRIMARY KEY,
    consumer_group text NOT NULL,
    shards integer NOT NULL
);

-- One row per shard locks, fences and chains. It is updated with each change, in place as long as
-- its page has room.
CREATE TABLE tidemill_shard (
    pipeline text NOT NULL,
    shard integer NOT NULL,
    epoch bigint NOT NULL,
    token uuid NOT NULL,
    next bigint,
    seq bigint NOT NULL,
    -- Mark of the change that was applied last: tells its sender that it was, if the answer is lost.
    mark uuid,
    PRIMARY KEY (pipeline, shard)
) WITH (fillfactor = 20);

CREATE TABLE tidemill_manifest (
    pipeline text NOT NULL,
    manifest text NOT NULL,
    kind text NOT NULL,
    shard integer NOT NULL,
    phase text NOT NULL,
    revision bigint NOT NULL,
    announced boolean NOT NULL,
    facts jsonb NOT NULL,
    first_at bigint NOT NULL,
    last_at bigint NOT NULL,
    completed_at bigint,
    duplicates bigint NOT NULL,
    conflicts bigint NOT NULL,
    late bigint NOT NULL,
    note text,
    -- Kept as it is written: nothing in the database looks into it.
    extra json NOT NULL,
    PRIMARY KEY (pipeline, manifest)
);

CREATE TABLE tidemill_member (
    pipeline text NOT NULL,
    manifest text NOT NULL,
    member text NOT NULL,
    expected boolean NOT NULL,
    state text NOT NULL,
    digest bytea,
    facts jsonb NOT NULL,
    settled_at bigint,
    PRIMARY KEY (pipeline, manifest, member)
);

CREATE TABLE tidemill_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline text NOT NULL,
    manifest text NOT NULL,
    revision bigint NOT NULL,
    action text NOT NULL,
    part bigint NOT NULL,
    idempotency_key uuid NOT NULL,
    -- What is delivered, to the letter.
    target json NOT NULL,
    not_before bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,
    last_error text,
    delivered_at bigint,
    UNIQUE (pipeline, manifest, action, revision, part)
);

CREATE INDEX tidemill_outbox_undelivered ON tidemill_outbox (pipeline, id)
    WHERE delivered_at IS NULL;

-- Declared tables and views, which are the only ones that can be read by name.
CREATE TABLE tidemill_table (
    name text PRIMARY KEY,
    pipeline text NOT NULL,
    owner text NOT NULL
);

CREATE TABLE tidemill_view (
    name text PRIMARY KEY,
    pipeline text NOT NULL,
    query text NOT NULL
);

-- What has been written into declared tables. Rows of a manifest have neither member nor digest
-- here: the first digest written is the one that counts.
CREATE TABLE tidemill_row_registry (
    declared_table text NOT NULL,
    sink text NOT NULL,
    manifest text NOT NULL,
    member text NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (declared_table, sink, manifest, member, digest)
);

-- Objects that nothing counts any more. A row stays for as long as tombstones are kept: whoever
-- writes such an object again has it deleted again.
CREATE TABLE tidemill_retired (
    pipeline text NOT NULL,
    url text NOT NULL,
    manifest text NOT NULL,
    retired_at bigint NOT NULL,
    not_before bigint NOT NULL DEFAULT 0,
    deleted_at bigint,
    PRIMARY KEY (pipeline, url)
);

CREATE INDEX tidemill_retired_deleted ON tidemill_retired (pipeline, deleted_at);

-- The catalogue of objects: where the rows of settled members lie, as far as they count.
CREATE VIEW tidemill_object AS
SELECT m.pipeline, m.manifest, m.member,
       o.value ->> 'sink' AS sink, o.value ->> 'url' AS url,
       o.value ->> 'schema' AS schema, CAST(o.value ->> 'rows' AS bigint) AS rows,
       CAST(o.value ->> 'bytes' AS bigint) AS bytes,
       coalesce(o.value -> 'partition_values', '{}') AS partition_values
FROM tidemill_member AS m CROSS JOIN LATERAL jsonb_array_elements(m.facts -> 'objects') AS o (value)
WHERE m.state IN ('done', 'empty')
  AND NOT EXISTS (SELECT 1 FROM tidemill_retired AS r
                  WHERE r.pipeline = m.pipeline AND r.url = o.value ->> 'url');
