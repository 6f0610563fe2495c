-- Objects that nothing counts any more. A row stays for as long as tombstones are kept: whoever
-- writes such an object again has it deleted again.
CREATE TABLE tidemill_retired (
    pipeline TEXT NOT NULL,
    url TEXT NOT NULL,
    manifest TEXT NOT NULL,
    retired_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL DEFAULT 0,
    deleted_at INTEGER,
    PRIMARY KEY (pipeline, url)
) STRICT, WITHOUT ROWID;

CREATE INDEX tidemill_retired_deleted ON tidemill_retired (pipeline, deleted_at);

-- The catalogue of objects: where the rows of settled members lie, as far as they count.
DROP VIEW tidemill_object;

CREATE VIEW tidemill_object AS
SELECT m.pipeline, m.manifest, m.member,
       o.value ->> '$.sink' AS sink, o.value ->> '$.url' AS url,
       o.value ->> '$.schema' AS schema, o.value ->> '$.rows' AS rows,
       o.value ->> '$.bytes' AS bytes,
       coalesce(o.value -> '$.partition_values', o.value -> '$.columns', '{}') AS partition_values
FROM tidemill_member m, json_each(m.facts, '$.objects') o
WHERE m.state IN ('done', 'empty')
  AND NOT EXISTS (SELECT 1 FROM tidemill_retired r
                  WHERE r.pipeline = m.pipeline AND r.url = o.value ->> '$.url');
