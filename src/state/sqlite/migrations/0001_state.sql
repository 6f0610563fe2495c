-- What is fixed for a pipeline from its first start on.
CREATE TABLE tidemill_pipeline (
    pipeline TEXT NOT NULL PRIMARY KEY,
    consumer_group TEXT NOT NULL,
    shards INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per shard locks, fences and chains.
CREATE TABLE tidemill_shard (
    pipeline TEXT NOT NULL,
    shard INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    token BLOB NOT NULL,
    next INTEGER,
    seq INTEGER NOT NULL,
    PRIMARY KEY (pipeline, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE tidemill_manifest (
    pipeline TEXT NOT NULL,
    manifest TEXT NOT NULL,
    kind TEXT NOT NULL,
    shard INTEGER NOT NULL,
    phase TEXT NOT NULL,
    revision INTEGER NOT NULL,
    announced INTEGER NOT NULL,
    facts TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    completed_at INTEGER,
    duplicates INTEGER NOT NULL,
    conflicts INTEGER NOT NULL,
    late INTEGER NOT NULL,
    note TEXT,
    extra TEXT NOT NULL,
    PRIMARY KEY (pipeline, manifest)
) STRICT, WITHOUT ROWID;

CREATE TABLE tidemill_member (
    pipeline TEXT NOT NULL,
    manifest TEXT NOT NULL,
    member TEXT NOT NULL,
    expected INTEGER NOT NULL,
    state TEXT NOT NULL,
    digest BLOB,
    facts TEXT NOT NULL,
    settled_at INTEGER,
    PRIMARY KEY (pipeline, manifest, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE tidemill_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL,
    manifest TEXT NOT NULL,
    revision INTEGER NOT NULL,
    action TEXT NOT NULL,
    part INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    target TEXT NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    delivered_at INTEGER,
    UNIQUE (pipeline, manifest, action, revision, part)
) STRICT;

CREATE INDEX tidemill_outbox_undelivered ON tidemill_outbox (pipeline, id)
    WHERE delivered_at IS NULL;

-- Declared tables and views, which are the only ones that can be read by name.
CREATE TABLE tidemill_table (
    name TEXT NOT NULL PRIMARY KEY,
    pipeline TEXT NOT NULL,
    owner TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tidemill_view (
    name TEXT NOT NULL PRIMARY KEY,
    pipeline TEXT NOT NULL,
    query TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What has been written into declared tables. Rows of a manifest have neither member nor digest
-- here: the first digest written is the one that counts.
CREATE TABLE tidemill_row_registry (
    declared_table TEXT NOT NULL,
    sink TEXT NOT NULL,
    manifest TEXT NOT NULL,
    member TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (declared_table, sink, manifest, member, digest)
) STRICT, WITHOUT ROWID;

-- The catalogue of objects: where the rows of settled members lie.
CREATE VIEW tidemill_object AS
SELECT m.pipeline, m.manifest, m.member,
       o.value ->> '$.sink' AS sink, o.value ->> '$.url' AS url,
       o.value ->> '$.schema' AS schema, o.value ->> '$.rows' AS rows,
       o.value ->> '$.bytes' AS bytes
FROM tidemill_member m, json_each(m.facts, '$.objects') o
WHERE m.state IN ('done', 'empty');
