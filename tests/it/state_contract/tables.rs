//! Declared tables and views: what is written, what is seen, what is refused.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, StringArray, TimestampMillisecondArray,
};
use arrow::record_batch::RecordBatch;
use serde_json::json;
use tidemill::model::event::MemberState;
use tidemill::model::{ManifestKey, NodeName};
use tidemill::state::{
    Applied, Change, ColumnType, CompletionRow, Declarations, Lease, ManifestRow, Parameters,
    StateError, StateStore, TableOwner, TableRows,
};

use super::kit::{
    Database, SUM, Tested, accepted, batch, change, column, completion, declarations, digest, done,
    identity, manifest, member, mismatch, owned, part, prepared, shard, table, view,
};

pub(super) async fn rows_of_a_digest_are_written_once(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let rows = part("a", "1", digest(1), &[("x", 1.0), ("x", 1.0)])?;
    assert!(store.write_rows(rows.clone()).await?);
    assert!(!store.write_rows(rows.clone()).await?, "they had been written before");
    let other_sink = TableRows { sink: NodeName::from("further"), ..rows.clone() };
    assert!(store.write_rows(other_sink).await?, "another sink writes rows of its own");
    let nothing = TableRows { member: Some("2".into()), rows: vec![], ..rows.clone() };
    assert!(store.write_rows(nothing.clone()).await?);
    assert!(!store.write_rows(nothing).await?, "no rows are written once, too");
    assert_eq!(store.apply(&lease, accepted(0, "a", "1", digest(1))).await, done());
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    assert!(!store.write_rows(rows).await?);
    assert_eq!(column(store.as_ref(), "part", "name").await?, ["x", "x", "x", "x"]);
    Ok(())
}

pub(super) async fn only_rows_of_the_accepted_digest_are_seen(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    store.write_rows(part("a", "1", digest(1), &[("first", 1.0)])?).await?;
    assert_eq!(store.table("part").await?.len(), 0, "nothing was accepted yet");
    let pending = Change {
        members: vec![(ManifestKey::from("a"), member("1", MemberState::Pending, None))],
        ..accepted(0, "a", "2", digest(2))
    };
    assert_eq!(store.apply(&lease, pending).await, done());
    assert_eq!(store.table("part").await?.len(), 0);

    assert_eq!(store.apply(&lease, accepted(1, "a", "1", digest(1))).await, done());
    store.write_rows(part("a", "1", digest(9), &[("second", 2.0), ("second", 2.0)])?).await?;
    store.write_rows(part("b", "1", digest(1), &[("elsewhere", 3.0)])?).await?;
    let seen = store.table("part").await?;
    let wanted = json!([{"name": "first", "n": 1.0, "_manifest": "a", "_member": "1"}]);
    assert_eq!(serde_json::to_value(&seen)?, wanted);
    let columns: Vec<&str> = seen[0].keys().map(String::as_str).collect();
    assert_eq!(columns, ["name", "n", "_manifest", "_member"], "in the order of the columns");
    let parts = serde_json::to_value(store.table("parts").await?)?;
    assert_eq!(parts, json!([{"manifest": "a", "parts": 1}]), "views see what tables show");

    // A statement sees the same rows as the rest of the world.
    let completing = Change { completions: vec![completion("a", 1, &[SUM])], ..change(2, 3) };
    assert_eq!(store.apply(&lease, completing).await, done());
    assert_eq!(column(store.as_ref(), "sums", "n").await?, ["1.0"]);
    Ok(())
}

pub(super) async fn a_dead_lettered_member_shows_no_rows(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    store.write_rows(part("a", "1", digest(1), &[("x", 1.0)])?).await?;
    let failed = member("1", MemberState::DeadLettered, Some(digest(1)));
    let settled = Change {
        members: vec![(ManifestKey::from("a"), failed)],
        ..accepted(0, "a", "2", digest(2))
    };
    assert_eq!(store.apply(&lease, settled).await, done());
    assert_eq!(store.table("part").await?.len(), 0);
    // Replayed: the same digest writes nothing new, and what was written counts now.
    assert!(!store.write_rows(part("a", "1", digest(1), &[("x", 1.0)])?).await?);
    assert_eq!(store.apply(&lease, accepted(1, "a", "1", digest(1))).await, done());
    assert_eq!(column(store.as_ref(), "part", "name").await?, ["x"]);
    Ok(())
}

pub(super) async fn rows_of_a_manifest_are_written_by_one_of_its_announcements(
    database: Box<dyn Database>,
) -> Tested {
    const ANNOUNCEMENTS: u8 = 16;
    let store = prepared(database.as_ref()).await?;
    let rows = |key: &str, seed: u8| -> Result<TableRows, Box<dyn std::error::Error>> {
        let rows = part(key, "", digest(seed), &[("x", 1.0), ("y", 2.0)])?;
        Ok(TableRows { table: "claim".to_owned(), member: None, ..rows })
    };
    let mut written = 0;
    for number in 0..ANNOUNCEMENTS {
        // Some announce it in the same words, some do not.
        written += usize::from(store.write_rows(rows("a", number / 4)?).await?);
    }
    assert_eq!(written, 1);
    assert!(store.write_rows(rows("b", 0)?).await?, "another manifest has rows of its own");
    assert_eq!(column(store.as_ref(), "claim", "name").await?, ["x", "x", "y", "y"]);
    assert_eq!(column(store.as_ref(), "claim", "_manifest").await?, ["a", "a", "b", "b"]);
    Ok(())
}

pub(super) async fn rows_that_do_not_fit_are_refused_and_leave_nothing(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let good = part("a", "1", digest(1), &[("x", 1.0)])?;
    let words: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    let bad = RecordBatch::try_from_iter([("n", words)])?;
    let half = TableRows { rows: vec![batch(&[("x", 1.0)])?, bad], ..good.clone() };
    let why = mismatch(store.write_rows(half).await)?;
    assert!(why.contains("table part") && why.contains("column n"), "{why}");
    for (table, member) in [("sums", None), ("part", None), ("claim", Some("1")), ("no", None)] {
        let member = member.map(|id: &str| id.into());
        let rows = TableRows { table: table.to_owned(), member, ..good.clone() };
        let why = mismatch(store.write_rows(rows).await)?;
        assert!(why.contains(&format!("table {table}")), "{why}");
    }
    assert!(store.write_rows(good).await?, "what was refused is not taken for written");
    assert_eq!(store.apply(&lease, accepted(0, "a", "1", digest(1))).await, done());
    assert_eq!(column(store.as_ref(), "part", "name").await?, ["x"]);
    mismatch(store.table("no").await)?;
    mismatch(store.table("tidemill_outbox").await)?;
    Ok(())
}

fn every_type() -> Declarations {
    let columns = [
        ("word", ColumnType::Text),
        ("whole", ColumnType::Int),
        ("real", ColumnType::Double),
        ("flag", ColumnType::Bool),
        ("day", ColumnType::Date),
        ("at", ColumnType::Instant),
        ("doc", ColumnType::Json),
        ("missing", ColumnType::Text),
    ];
    let owner = TableOwner::Manifest;
    Declarations {
        tables: vec![table("every", owner, &columns)],
        views: vec![
            view("seen", "SELECT * FROM every"),
            view("seen_again", "SELECT flag, doc FROM seen WHERE flag"),
        ],
        statements: vec![],
        queries: vec![],
    }
}

pub(super) async fn values_come_back_as_declared(database: Box<dyn Database>) -> Tested {
    let store = database.store();
    store.prepare(&identity(), &every_type()).await?;
    let arrays: [(&str, ArrayRef); 7] = [
        ("doc", Arc::new(StringArray::from(vec![Some(r#"{"b":[1]}"#), None]))),
        ("word", Arc::new(StringArray::from(vec![Some("it's"), None]))),
        ("whole", Arc::new(Float64Array::from(vec![Some(7.0), None]))),
        ("real", Arc::new(Float64Array::from(vec![Some(0.1), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(20_157), None]))),
        (
            "at",
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(1_741_564_800_123), None])
                    .with_timezone("UTC"),
            ),
        ),
    ];
    let rows = TableRows {
        table: "every".to_owned(),
        member: None,
        rows: vec![RecordBatch::try_from_iter(arrays)?],
        ..part("a", "", digest(1), &[])?
    };
    assert!(store.write_rows(rows).await?);
    let wanted = json!([
        {
            "word": "it's", "whole": 7, "real": 0.1, "flag": true, "day": "2025-03-10",
            "at": "2025-03-10T00:00:00.123Z", "doc": {"b": [1]}, "missing": null,
            "_manifest": "a"
        },
        {
            "word": null, "whole": null, "real": null, "flag": null, "day": null, "at": null,
            "doc": null, "missing": null, "_manifest": "a"
        },
    ]);
    assert_eq!(serde_json::to_value(store.table("every").await?)?, wanted);
    assert_eq!(serde_json::to_value(store.table("seen").await?)?, wanted);
    let again = serde_json::to_value(store.table("seen_again").await?)?;
    assert_eq!(again, json!([{"flag": true, "doc": {"b": [1]}}]));
    Ok(())
}

pub(super) async fn a_changed_table_is_refused_by_name(database: Box<dyn Database>) -> Tested {
    let store = prepared(database.as_ref()).await?;
    let key = |name: &str| TableOwner::Key(vec![name.to_owned()]);
    let (text, double, int) = (ColumnType::Text, ColumnType::Double, ColumnType::Int);
    let changed = [
        (table("part", TableOwner::Member, &[("name", text), ("n", int)]), "column n"),
        (table("part", TableOwner::Member, &[("name", text)]), "column n"),
        (
            table("part", TableOwner::Member, &[("name", text), ("n", double), ("m", int)]),
            "column m",
        ),
        (table("part", TableOwner::Manifest, &[("name", text), ("n", double)]), "owner"),
        (table("part", key("name"), &[("name", text), ("n", double)]), "owner"),
        (table("sums", key("n"), &[("manifest", text), ("n", double)]), "key"),
        (table("parts", key("n"), &[("n", text)]), "parts"),
        (table("tidemill_x", key("n"), &[("n", text)]), "tidemill_x"),
        (table("new", TableOwner::Member, &[("_digest", text)]), "_digest"),
    ];
    for (table, what) in changed {
        let name = table.name.clone();
        let declared = Declarations { tables: vec![table], ..Declarations::default() };
        let why = mismatch(store.prepare(&identity(), &declared).await)?;
        assert!(why.contains(&name) && why.contains(what), "{why}");
    }
    store.prepare(&identity(), &declarations()).await?;
    Ok(())
}

pub(super) async fn a_changed_view_is_made_again(database: Box<dyn Database>) -> Tested {
    let store = prepared(database.as_ref()).await?;
    let changed = Declarations {
        views: vec![view("parts", "SELECT 'changed' AS manifest")],
        ..declarations()
    };
    store.prepare(&identity(), &changed).await?;
    assert_eq!(column(store.as_ref(), "parts", "manifest").await?, ["changed"]);
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    assert_eq!(column(store.as_ref(), "parts", "manifest").await?, ["changed"]);
    store.prepare(&identity(), &declarations()).await?;
    assert_eq!(store.table("parts").await?.len(), 0);
    Ok(())
}

pub(super) async fn statements_and_views_that_cannot_work_are_refused_at_start(
    database: Box<dyn Database>,
) -> Tested {
    let store = prepared(database.as_ref()).await?;
    let statements = [
        ("INSERT INTO sums (manifest,\n n) VALUES (:manifest, :n::text)", "CAST"),
        ("INSERT INTO sums VALUES (1, 2)", "list of columns"),
        ("DELETE FROM summs WHERE\n n = 1", "summs"),
        ("DELETE FROM sums\n WHERE amount = 1", "amount"),
        ("DELETE FROM part WHERE name = 'x'", "part"),
        ("SELECT 1", "INSERT, UPDATE or DELETE"),
        ("COMMIT", "INSERT, UPDATE, DELETE"),
    ];
    for (statement, what) in statements {
        let declared = Declarations { statements: vec![statement.to_owned()], ..declarations() };
        let why = mismatch(store.prepare(&identity(), &declared).await)?;
        let first_line = statement.lines().next().unwrap_or_default();
        assert!(why.contains(first_line) && why.contains(what), "{why}");
    }
    for query in ["SELECT * FROM nowhere", "SELECT :a", "DELETE FROM sums", "SELECT 1; SELECT 2"] {
        let declared = Declarations { views: vec![view("broken", query)], ..declarations() };
        let why = mismatch(store.prepare(&identity(), &declared).await)?;
        assert!(why.contains("view broken"), "{why}");
        mismatch(store.table("broken").await)?;
    }
    Ok(())
}

/// The rule of cost management: of the reports of a cluster's day the one with more hours counts.
fn reports() -> Declarations {
    let (text, int, double) = (ColumnType::Text, ColumnType::Int, ColumnType::Double);
    let key =
        |names: &[&str]| TableOwner::Key(names.iter().map(|name| (*name).to_owned()).collect());
    let day = "SELECT m.cluster, m.manifest, h.day, COALESCE(NULLIF((SELECT MAX(c.hours) \
               FROM claimed c WHERE c._manifest = m.manifest AND c.day = h.day), 0), \
               MAX(h.hours)) AS hours FROM report m JOIN hours h ON h._manifest = m.manifest \
               GROUP BY m.cluster, m.manifest, h.day";
    let ranked = "SELECT d.*, ROW_NUMBER() OVER (PARTITION BY cluster, day \
                  ORDER BY hours DESC, manifest DESC) AS place FROM report_day d";
    let statements = [
        "INSERT INTO report (manifest, cluster) VALUES (:manifest, :cluster) \
         ON CONFLICT (manifest) DO NOTHING",
        "DELETE FROM summary WHERE cluster = :cluster AND day IN \
         (SELECT day FROM hours WHERE _manifest = :manifest)",
        "INSERT INTO summary (cluster, day, cpu) SELECT k.cluster, p.day, SUM(p.cpu) / 3600 \
         FROM usage p JOIN report_ranked k ON k.manifest = p._manifest AND k.day = p.day \
         AND k.place = 1 WHERE k.cluster = :cluster AND p.day IN \
         (SELECT day FROM hours WHERE _manifest = :manifest) GROUP BY k.cluster, p.day",
    ];
    Declarations {
        tables: vec![
            table("claimed", TableOwner::Manifest, &[("day", ColumnType::Date), ("hours", int)]),
            table("hours", TableOwner::Member, &[("day", ColumnType::Date), ("hours", int)]),
            table("usage", TableOwner::Member, &[("day", ColumnType::Date), ("cpu", double)]),
            table("report", key(&["manifest"]), &[("manifest", text), ("cluster", text)]),
            table(
                "summary",
                key(&["cluster", "day"]),
                &[("cluster", text), ("day", ColumnType::Date), ("cpu", double)],
            ),
        ],
        views: vec![view("report_day", day), view("report_ranked", ranked)],
        statements: statements.map(str::to_owned).to_vec(),
        queries: vec![],
    }
}

/// Writes what a report of one member brings, and completes it.
async fn report(
    store: &dyn StateStore,
    lease: &Lease,
    from: i64,
    key: &str,
    (hours, cpu): (f64, f64),
) -> Result<Applied, Box<dyn std::error::Error>> {
    let rows = |table: &str, member: Option<&str>, column: &str, value: f64| {
        let day: ArrayRef = Arc::new(StringArray::from(vec!["2025-03-10"]));
        let value: ArrayRef = Arc::new(Float64Array::from(vec![value]));
        let batch = RecordBatch::try_from_iter([("day", day), (column, value)])?;
        Ok::<_, Box<dyn std::error::Error>>(TableRows {
            table: table.to_owned(),
            manifest: ManifestKey::from(key),
            member: member.map(Into::into),
            digest: digest(1),
            sink: NodeName::from(table),
            rows: vec![batch],
        })
    };
    store.write_rows(rows("claimed", None, "hours", hours)?).await?;
    store.write_rows(rows("hours", Some("1"), "hours", hours)?).await?;
    store.write_rows(rows("usage", Some("1"), "cpu", cpu)?).await?;
    let parameters =
        Parameters::from([("manifest".to_owned(), json!(key)), ("cluster".to_owned(), json!("c"))]);
    let statements = reports().statements.into_iter().map(|text| ("summarise".to_owned(), text));
    let completion =
        CompletionRow { statements: statements.collect(), parameters, ..completion(key, 1, &[]) };
    let change = Change { completions: vec![completion], ..accepted(from, key, "1", digest(1)) };
    Ok(store.apply(lease, change).await?)
}

pub(super) async fn a_newer_report_replaces_an_older_one_in_sql(
    database: Box<dyn Database>,
) -> Tested {
    let store = database.store();
    store.prepare(&identity(), &reports()).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    let unfinished = ManifestRow { last_at: 1, ..manifest("open") };
    let open = Change { manifests: vec![unfinished], ..change(0, 1) };
    assert_eq!(store.apply(&lease, open).await, done());
    let summary = async || -> Result<_, StateError> {
        let rows = store.table("summary").await?;
        Ok(rows.iter().map(|row| row["cpu"].clone()).collect::<Vec<_>>())
    };
    // Hours, CPU seconds, and the CPU hours that the summary shows afterwards.
    let arriving = [("a", 5.0, 3600.0, 1.0), ("c", 9.0, 7200.0, 2.0), ("b", 7.0, 36.0, 2.0)];
    for ((key, hours, cpu, shown), from) in arriving.into_iter().zip(1..) {
        let applied = report(store.as_ref(), &lease, from, key, (hours, cpu)).await?;
        assert_eq!(Ok(applied), done(), "{key}");
        assert_eq!(summary().await?, [json!(shown)], "after {key}");
    }
    Ok(())
}
