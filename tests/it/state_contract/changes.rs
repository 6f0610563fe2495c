//! Changes: what they store, run and owe.

use std::collections::BTreeMap;

use serde_json::{Map, json};
use tidemill::model::event::{FailureFact, MemberFacts, MemberState, ObjectFact};
use tidemill::model::{ManifestKey, NodeName};
use tidemill::state::{
    Applied, Change, ManifestFilter, ManifestPhase, ManifestRow, MemberRow, StateError,
    StoredManifest,
};

use super::kit::{
    Database, SUM, Tested, accepted, change, column, completion, delivery, digest, done, manifest,
    member, named, owned, part, pipeline, prepared, shard,
};

fn full_facts() -> MemberFacts {
    let columns = Map::from_iter([("usage_date".to_owned(), json!("2025-03-10"))]);
    MemberFacts {
        rows: 12,
        bytes: 3_456,
        rejected: BTreeMap::from([("long_row".to_owned(), 2)]),
        mended: BTreeMap::from([("cpu".to_owned(), 1)]),
        objects: vec![ObjectFact {
            sink: NodeName::from("lake"),
            url: "file:///lake/a.parquet".to_owned(),
            schema: Some("pod_usage".to_owned()),
            rows: 12,
            bytes: 999,
            partition_values: columns,
        }],
        failure: Some(FailureFact {
            node: NodeName::from("rows"),
            class: "unmatched".to_owned(),
            why: "no schema fits".to_owned(),
        }),
    }
}

pub(super) async fn members_and_manifests_come_back_as_they_were(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let row = ManifestRow {
        facts: Map::from_iter([
            ("cluster".to_owned(), json!("c'1\"ü")),
            ("additive".to_owned(), json!(true)),
            ("nested".to_owned(), json!({"b": [1, 2.5, null], "a": {}})),
        ]),
        announced: false,
        phase: ManifestPhase::Failed,
        completed_at: Some(9_000),
        revision: 3,
        duplicates: 4,
        conflicts: 5,
        late: 6,
        note: Some("a deadline".to_owned()),
        extra: json!({"since": 1_000, "deadlines": ["first"]}),
        ..manifest("a")
    };
    let full = MemberRow {
        facts: full_facts(),
        expected: false,
        ..member("1.csv", MemberState::DeadLettered, Some(digest(1)))
    };
    let members = vec![full, member("2.csv", MemberState::Pending, None)];
    let of = |row: &MemberRow| (ManifestKey::from("a"), row.clone());
    let first = Change {
        manifests: vec![row.clone()],
        members: members.iter().map(of).collect(),
        ..change(0, 3)
    };
    assert_eq!(store.apply(&lease, first).await, done());
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    let wanted = [ManifestKey::from("a"), ManifestKey::from("unknown")];
    let found = store.load(&lease, &wanted).await?;
    assert_eq!(found, [StoredManifest { row: row.clone(), members }]);

    let settled = member("2.csv", MemberState::Done, Some(digest(2)));
    let second = Change { members: vec![of(&settled)], ..change(3, 4) };
    assert_eq!(store.apply(&lease, second).await, done(), "a lease outlives the process");
    let found = store.load(&lease, &wanted).await?;
    assert_eq!(found[0].members[1], settled);
    assert_eq!(found[0].members[0].facts, full_facts(), "other members are left alone");
    assert_eq!(found[0].row, row);
    Ok(())
}

pub(super) async fn a_completion_runs_its_statements_and_owes_its_deliveries_once(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    store.write_rows(part("a", "1", digest(1), &[("x", 1.5), ("y", 2.0)])?).await?;
    // The member is accepted in the change that completes its manifest.
    let completing = Change {
        completions: vec![completion("a", 1, &[SUM])],
        ..accepted(0, "a", "1", digest(1))
    };
    assert_eq!(store.apply(&lease, completing.clone()).await, done());
    let sums = store.table("sums").await?;
    assert_eq!(serde_json::to_value(&sums)?, json!([{"manifest": "a", "n": 3.5}]));
    assert!(store.apply(&lease, completing).await.is_err(), "it is applied once");
    assert_eq!(store.table("sums").await?, sums);

    let known = store.manifest(&pipeline(), &ManifestKey::from("a")).await?;
    let (stored, deliveries) = known.ok_or("the manifest is known")?;
    assert_eq!(stored.row, completion("a", 1, &[]).manifest);
    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].row, delivery("a", 1, "tell"));

    // The same (manifest, revision, action, part) is owed once, whatever brings it again.
    let again = Change { completions: vec![completion("a", 1, &[])], ..change(1, 2) };
    assert_eq!(store.apply(&lease, again).await, done());
    assert_eq!(named(&store.claim(&pipeline(), 1, 2, 10).await?), [("a", 1)]);
    Ok(())
}

pub(super) async fn a_statement_that_cannot_work_blocks_its_completion_alone(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let nothing = "INSERT INTO sums (manifest, n) VALUES (:manifest, 1)";
    let null_key = "INSERT INTO sums (manifest, n) VALUES (NULL, 1)";
    let unbound = "INSERT INTO sums (manifest, n) VALUES (:stranger, 1)";
    let no_table = "INSERT INTO elsewhere (a) VALUES (1)";
    let completing = Change {
        completions: vec![
            completion("null", 1, &[nothing, null_key]),
            completion("good", 1, &[nothing]),
            completion("unbound", 1, &[nothing, unbound]),
            completion("syntax", 1, &[no_table]),
            completion("fine", 1, &[nothing]),
        ],
        ..accepted(0, "null", "1", digest(1))
    };
    let Applied::Yes { blocked } = store.apply(&lease, completing).await? else {
        return Err("the owner was fenced".into());
    };
    let names: Vec<&str> = blocked.iter().map(|blocked| blocked.manifest.as_str()).collect();
    assert_eq!(names, ["null", "unbound", "syntax"]);
    assert!(blocked.iter().all(|blocked| blocked.why.starts_with("sum: ")), "{blocked:?}");
    assert!(blocked[1].why.contains(":stranger"), "{}", blocked[1].why);
    let wanted = ["fine", "good"];
    assert_eq!(column(store.as_ref(), "sums", "manifest").await?, wanted);
    assert_eq!(named(&store.claim(&pipeline(), 1, 2, 10).await?), [("good", 1), ("fine", 1)]);

    let stored = store.load(&lease, &[ManifestKey::from("null")]).await?;
    let row = &stored[0].row;
    assert_eq!((row.phase, row.completed_at), (ManifestPhase::Open, None));
    assert_eq!(row.note, Some(format!("blocked: {}", blocked[0].why)));
    assert_eq!(stored[0].members.len(), 1, "members are kept");
    let mended = Change { completions: vec![completion("null", 1, &[nothing])], ..change(1, 1) };
    assert_eq!(store.apply(&lease, mended).await, done());
    assert_eq!(column(store.as_ref(), "sums", "n").await?.len(), 3);
    Ok(())
}

pub(super) async fn listings_count_members_and_filter_manifests(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let key = ManifestKey::from("books-1");
    let rows = |mut row: MemberRow, rows: u64| {
        row.facts.rows = rows;
        (key.clone(), row)
    };
    let extra = MemberRow { expected: false, ..member("5", MemberState::Done, Some(digest(5))) };
    let change = Change {
        manifests: vec![
            manifest("books-1"),
            ManifestRow { last_at: 9_000, ..manifest("films-1") },
            ManifestRow { last_at: 5_000, phase: ManifestPhase::Failed, ..manifest("books-2") },
        ],
        members: vec![
            rows(member("1", MemberState::Done, Some(digest(1))), 10),
            rows(member("2", MemberState::Empty, Some(digest(2))), 0),
            rows(member("3", MemberState::DeadLettered, Some(digest(3))), 0),
            rows(member("4", MemberState::Pending, None), 0),
            rows(extra, 7),
        ],
        ..change(0, 1)
    };
    assert_eq!(store.apply(&lease, change).await, done());
    let listed = async |filter: ManifestFilter| -> Result<Vec<String>, StateError> {
        let found = store.manifests(&pipeline(), &filter).await?;
        Ok(found.iter().map(|summary| summary.row.manifest.to_string()).collect())
    };
    let all = ManifestFilter::default();
    assert_eq!(listed(all.clone()).await?, ["films-1", "books-2", "books-1"]);
    assert_eq!(listed(ManifestFilter { limit: 2, ..all.clone() }).await?, ["films-1", "books-2"]);
    let books = ManifestFilter { prefix: Some("books-".to_owned()), ..all.clone() };
    assert_eq!(listed(books.clone()).await?, ["books-2", "books-1"]);
    let failed = ManifestFilter { phase: Some(ManifestPhase::Failed), ..all };
    assert_eq!(listed(failed).await?, ["books-2"]);

    let found = store.manifests(&pipeline(), &books).await?;
    let counts = &found[1];
    let numbers = (counts.expected, counts.done, counts.dead_lettered, counts.rows);
    assert_eq!(numbers, (4, 2, 1, 17));
    Ok(())
}

pub(super) async fn many_shards_are_applied_at_the_same_time(
    database: Box<dyn Database>,
) -> Tested {
    const SHARDS: i32 = 200;
    let store = prepared(database.as_ref()).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..SHARDS {
        let store = store.clone();
        tasks.spawn(async move {
            let lease = store.take_over(&shard(number)).await?.lease;
            let key = format!("m-{number}");
            let row = ManifestRow { shard: number, ..manifest(&key) };
            for from in 0..3 {
                let change = Change { manifests: vec![row.clone()], ..change(from, from + 1) };
                assert_eq!(store.apply(&lease, change).await, done());
            }
            Ok::<_, StateError>(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let found = store.manifests(&pipeline(), &ManifestFilter::default()).await?;
    assert_eq!(found.len(), SHARDS as usize);
    Ok(())
}
