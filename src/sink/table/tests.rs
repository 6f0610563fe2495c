//! Records into a declared table of a state store in a file.

use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::expr::{Program, Purpose, fixtures};
use crate::model::{Digest, Metadata, Record};
use crate::progress::obligation::Scope;
use crate::runtime::handover::Handover;
use crate::runtime::inbox::inbox;
use crate::runtime::node::{Duties, ScopeId, Writer};
use crate::sink::config::TableSink as TableSinkConfig;
use crate::state::sqlite::SqliteStore;
use crate::state::{ColumnType, Declarations, DeclaredTable, PipelineIdentity, TableOwner};

const PATIENCE: Duration = Duration::from_secs(20);

fn table(owner: TableOwner) -> DeclaredTable {
    let columns =
        [("day", ColumnType::Date), ("hours", ColumnType::Int), ("kind", ColumnType::Text)];
    DeclaredTable {
        name: "hours".to_owned(),
        owner,
        columns: columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec(),
    }
}

fn writer(owner: TableOwner) -> (TableWriter, Inbox<TableBatch>) {
    let (sink, batches) = inbox("hours", 4);
    let kind = Program::compile("%topic", Purpose::Key).unwrap();
    let config =
        TableSinkConfig { table: "hours".to_owned(), set: vec![("kind".to_owned(), kind)] };
    let table = Arc::new(table(owner));
    let committed = Handover::default();
    let writer = TableWriter::new("rows".into(), "sales".into(), &config, table, sink, committed);
    (writer, batches)
}

fn record(fields: &str, member: Option<&str>) -> Record {
    let mut record = fixtures::record(fields);
    record.meta = Arc::new(Metadata {
        manifest: Some("m".into()),
        member: member.map(Into::into),
        digest: Some(Digest::from_bytes([1; 16])),
        ..Metadata::default()
    });
    record
}

const ROW: &str = r#"{"day":"2025-03-10","hours":4}"#;

/// What a writer hands over for these records of one input record.
fn commit(
    writer: &mut TableWriter,
    batches: &Inbox<TableBatch>,
    records: Vec<Record>,
) -> (Arc<Scope>, TableBatch) {
    for record in records {
        writer.accept(record, ScopeId::INPUT).unwrap();
    }
    writer.prepare().unwrap();
    let (scope, mut owed) = Scope::open(1);
    let duties = Duties::new(owed.remove(0));
    writer.commit(&duties);
    duties.into_innermost_first().for_each(|duty| duty.settle(Outcome::Filtered));
    let has_rows = scope.outcome(0).is_none();
    writer.flush().unwrap();
    let batch = if has_rows { batches.blocking_recv().unwrap() } else { Vec::new() };
    (scope, batch)
}

#[test]
fn the_rows_of_one_member_leave_together() {
    let (mut writer, batches) = writer(TableOwner::Member);
    let records = vec![record(ROW, Some("a")), record(ROW, Some("a")), record(ROW, Some("b"))];
    let (scope, batch) = commit(&mut writer, &batches, records);
    let rows: Vec<_> = batch
        .iter()
        .map(|owed| {
            let rows = &owed.value.rows;
            let count: usize = rows.rows.iter().map(|batch| batch.num_rows()).sum();
            (rows.member.clone(), count)
        })
        .collect();
    assert_eq!(rows, [(Some("a".into()), 2), (Some("b".into()), 1)]);
    assert_eq!(scope.outcome(0), None);
}

#[test]
fn a_record_without_rows_is_delivered_when_it_commits() {
    let (mut writer, batches) = writer(TableOwner::Member);
    let mut empty = record(ROW, Some("a"));
    let rows =
        arrow::record_batch::RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
    empty.body = crate::model::Body::Columns(crate::model::Columns { rows });
    let (scope, batch) = commit(&mut writer, &batches, vec![empty]);
    assert!(batch.is_empty());
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
}

#[test]
fn records_that_belong_to_nobody_or_do_not_fit_are_refused_and_forgotten() {
    let (mut writer, batches) = writer(TableOwner::Member);
    let no_member = record(ROW, None);
    let no_manifest = fixtures::record(ROW);
    let unfit = record(r#"{"day":"soon"}"#, Some("a"));
    for record in [no_member, no_manifest, unfit] {
        let failure = writer.accept(record, ScopeId::INPUT).unwrap_err();
        assert_eq!(failure.class(), Some(&FailureClass::REJECTED));
        writer.abort();
    }
    let (_, batch) = commit(&mut writer, &batches, vec![record(ROW, Some("a"))]);
    assert_eq!(batch.len(), 1);
}

#[test]
fn the_rows_of_one_record_have_a_limit() {
    let (writer, _batches) = writer(TableOwner::Manifest);
    let mut writer = writer.with_max_bytes(100);
    writer.accept(record(ROW, None), ScopeId::INPUT).unwrap();
    let failure = writer.accept(record(ROW, None), ScopeId::INPUT).unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
    writer.abort();
    writer.accept(record(ROW, None), ScopeId::INPUT).unwrap();
}

async fn store(folder: &TempDir) -> Arc<SqliteStore> {
    let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
    let identity = PipelineIdentity { pipeline: "sales".into(), group: "g".into(), shards: 1 };
    let declared =
        Declarations { tables: vec![table(TableOwner::Manifest)], ..Declarations::default() };
    store.prepare(&identity, &declared).await.unwrap();
    store
}

fn context(store: Arc<SqliteStore>) -> (TableSinkContext, Inbox<Failed>) {
    let (failures, failed) = inbox("failures", 4);
    let context = TableSinkContext {
        node: "rows".into(),
        store,
        failures,
        concurrency: 2,
        backoff: Backoff { first: Duration::ZERO, max: Duration::ZERO, factor: 1.0 },
        escalation: Arc::default(),
        instruments: Arc::default(),
    };
    (context, failed)
}

/// A batch made on a thread that may block, as a stage's is.
async fn batch(owner: TableOwner, member: Option<&'static str>) -> (Arc<Scope>, TableBatch) {
    let making = tokio::task::spawn_blocking(move || {
        let (mut writer, batches) = writer(owner);
        commit(&mut writer, &batches, vec![record(ROW, member)])
    });
    making.await.unwrap()
}

async fn outcome(scope: &Scope) -> Outcome {
    let looking = async {
        loop {
            match scope.outcome(0) {
                Some(outcome) => return outcome,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("never settled")
}

#[actix::test]
async fn rows_are_delivered_when_they_are_committed_and_written_once() {
    let folder = TempDir::new().unwrap();
    let store = store(&folder).await;
    let (context, _failed) = context(store.clone());
    let (sink, batches) = inbox("hours", 4);
    let instruments = context.instruments.clone();
    let _sink = TableSink::new(context, batches, Lifeline::detached()).start();
    for _ in 0..2 {
        let (scope, batch) = batch(TableOwner::Manifest, None).await;
        sink.send(batch).await.unwrap();
        assert_eq!(outcome(&scope).await, Outcome::Delivered);
    }
    let rows = store.table("hours").await.unwrap();
    assert_eq!(rows.len(), 1, "the second attempt writes nothing");
    assert_eq!(rows[0]["day"], "2025-03-10");
    assert_eq!((&rows[0]["hours"], &rows[0]["kind"]), (&4.into(), &"orders".into()));
    assert_eq!(instruments.records_out.get(), 1);
}

#[actix::test]
async fn rows_that_the_table_refuses_are_dead_lettered_as_rejected() {
    let folder = TempDir::new().unwrap();
    let (context, failed) = context(store(&folder).await);
    let (sink, batches) = inbox("hours", 4);
    let _sink = TableSink::new(context, batches, Lifeline::detached()).start();
    // The store knows the table as a manifest's.
    let (scope, batch) = batch(TableOwner::Member, Some("a")).await;
    sink.send(batch).await.unwrap();
    let failed = failed.open().await.recv().await.unwrap();
    assert_eq!(failed.failure.class(), Some(&FailureClass::REJECTED));
    assert_eq!(scope.outcome(0), None, "settled by the dead letters");
    failed.duty.settle(Outcome::DeadLettered);
    assert_eq!(outcome(&scope).await, Outcome::DeadLettered);
}
