//! What the contract of the state store needs: databases to try it on, and short ways to write
//! what it takes.
//!
//! Responsible for: opening each kind of store, opening it again, and builders with defaults.
//! Not responsible for: what is expected of a store.

use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::record_batch::RecordBatch;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tidemill::model::event::{MemberFacts, MemberState};
use tidemill::model::{Digest, ManifestKey, MemberId, NodeName, Offset, PipelineName};
use tidemill::state::postgres::{PostgresConfig, PostgresStore};
use tidemill::state::sqlite::SqliteStore;
use tidemill::state::{
    Applied, Change, Claimed, ColumnType, CompletionRow, Declarations, DeclaredTable, DeclaredView,
    Lease, ManifestPhase, ManifestRow, MemberRow, OutboxRow, OutboxTarget, Parameters,
    PipelineIdentity, ShardKey, StateError, StateStore, TableOwner, TableRows,
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::database::server;

/// What a test returns, so that `?` ends it.
pub(super) type Tested = Result<(), Box<dyn Error>>;

/// A store of its own for one test.
pub(super) trait Database {
    /// The store.
    fn store(&self) -> Arc<dyn StateStore>;

    /// Closes the store and opens what it left behind. Handles from before have to be gone.
    fn reopened(self: Box<Self>) -> Opening;
}

/// A database that is being opened.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Database>, Box<dyn Error>>>>>;

pub(super) struct Sqlite {
    store: Arc<SqliteStore>,
    folder: TempDir,
}

impl Sqlite {
    pub(super) fn open() -> Result<Box<dyn Database>, Box<dyn Error>> {
        Self::open_in(tempfile::tempdir()?)
    }

    fn open_in(folder: TempDir) -> Result<Box<dyn Database>, Box<dyn Error>> {
        let path: &Path = folder.path();
        let store = SqliteStore::open(&path.join("state.db"))?;
        Ok(Box::new(Self { store, folder }))
    }
}

impl Database for Sqlite {
    fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.store) as Arc<dyn StateStore>
    }

    fn reopened(self: Box<Self>) -> Opening {
        let Self { store, folder } = *self;
        drop(store);
        Box::pin(async move { Self::open_in(folder) })
    }
}

pub(super) struct Postgres {
    store: Arc<PostgresStore>,
    url: String,
}

/// The database of a test, to be removed once the test has succeeded.
pub(super) struct OwnDatabase {
    name: String,
    /// Its address, for stores and for looking at what they do.
    pub(super) url: String,
}

impl OwnDatabase {
    /// Makes an empty database on the test server.
    pub(super) async fn create() -> Result<Self, Box<dyn Error>> {
        let server = server();
        let name = format!("state_{}", Uuid::new_v4().simple());
        let admin = client(&server).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let (base, _) = server.rsplit_once('/').ok_or("the server's url names a database")?;
        let url = format!("{base}/{name}");
        Ok(Self { name, url })
    }

    /// A store in it.
    pub(super) async fn store(&self) -> Result<Arc<PostgresStore>, StateError> {
        PostgresStore::connect(config(&self.url)).await
    }

    /// A connection to it.
    pub(super) async fn client(&self) -> Result<Client, Box<dyn Error>> {
        client(&self.url).await
    }

    /// Removes it, with whoever is still connected.
    pub(super) async fn remove(self) -> Tested {
        let admin = client(&server()).await?;
        admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?;
        Ok(())
    }
}

/// Settings that lead to a database.
pub(super) fn config(url: &str) -> PostgresConfig {
    PostgresConfig::new(SecretString::from(url))
}

async fn client(url: &str) -> Result<Client, Box<dyn Error>> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

impl Postgres {
    pub(super) async fn open() -> Result<(Box<dyn Database>, OwnDatabase), Box<dyn Error>> {
        let own = OwnDatabase::create().await?;
        let database = Self { store: own.store().await?, url: own.url.clone() };
        Ok((Box::new(database), own))
    }
}

impl Database for Postgres {
    fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.store) as Arc<dyn StateStore>
    }

    fn reopened(self: Box<Self>) -> Opening {
        let Self { store, url } = *self;
        drop(store);
        Box::pin(async move {
            let store = PostgresStore::connect(config(&url)).await?;
            let database: Box<dyn Database> = Box::new(Self { store, url });
            Ok(database)
        })
    }
}

pub(super) fn pipeline() -> PipelineName {
    PipelineName::from("books")
}

pub(super) fn identity() -> PipelineIdentity {
    PipelineIdentity { pipeline: pipeline(), group: "readers".to_owned(), shards: 4 }
}

pub(super) fn shard(shard: i32) -> ShardKey {
    ShardKey { pipeline: pipeline(), shard }
}

pub(super) fn table(
    name: &str,
    owner: TableOwner,
    columns: &[(&str, ColumnType)],
) -> DeclaredTable {
    let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    DeclaredTable { name: name.to_owned(), owner, columns }
}

pub(super) fn view(name: &str, query: &str) -> DeclaredView {
    DeclaredView { name: name.to_owned(), query: query.to_owned() }
}

/// What most tests declare: parts of members, claims of manifests, and sums that actions write.
pub(super) fn declarations() -> Declarations {
    let key = TableOwner::Key(vec!["manifest".to_owned()]);
    let tables = vec![
        table("part", TableOwner::Member, &[("name", ColumnType::Text), ("n", ColumnType::Double)]),
        table("claim", TableOwner::Manifest, &[("name", ColumnType::Text)]),
        table("sums", key, &[("manifest", ColumnType::Text), ("n", ColumnType::Double)]),
    ];
    let names = "SELECT _manifest AS manifest, count(*) AS parts FROM part GROUP BY _manifest";
    let (views, statements) = (vec![view("parts", names)], vec![SUM.to_owned()]);
    Declarations { tables, views, statements, queries: vec![] }
}

/// Adds up the parts of a manifest.
pub(super) const SUM: &str = "INSERT INTO sums (manifest, n) \
     SELECT :manifest, sum(n) FROM part WHERE _manifest = :manifest";

/// A store that is prepared with [`declarations`].
pub(super) async fn prepared(
    database: &dyn Database,
) -> Result<Arc<dyn StateStore>, Box<dyn Error>> {
    let store = database.store();
    store.prepare(&identity(), &declarations()).await?;
    Ok(store)
}

/// A prepared store whose shard 0 is owned.
pub(super) async fn owned(
    database: &dyn Database,
) -> Result<(Arc<dyn StateStore>, Lease), Box<dyn Error>> {
    let store = prepared(database).await?;
    let lease = store.take_over(&shard(0)).await?.lease;
    Ok((store, lease))
}

pub(super) fn digest(seed: u8) -> Digest {
    Digest::from_bytes([seed; 16])
}

/// An open manifest of shard 0.
pub(super) fn manifest(key: &str) -> ManifestRow {
    ManifestRow {
        manifest: ManifestKey::from(key),
        kind: NodeName::from("report"),
        shard: 0,
        phase: ManifestPhase::Open,
        revision: 1,
        announced: true,
        facts: Map::new(),
        first_at: 1_000,
        last_at: 2_000,
        completed_at: None,
        duplicates: 0,
        conflicts: 0,
        late: 0,
        note: None,
        extra: Value::Null,
    }
}

pub(super) fn member(id: &str, state: MemberState, accepted: Option<Digest>) -> MemberRow {
    MemberRow {
        member: MemberId::from(id),
        expected: true,
        state,
        digest: accepted,
        facts: MemberFacts::default(),
        settled_at: accepted.map(|_| 3_000),
    }
}

/// A change that says nothing yet.
pub(super) fn change(from: i64, to: i64) -> Change {
    Change { from: Offset(from), to: Offset(to), ..Change::default() }
}

/// A change in which one member of a manifest settled as done.
pub(super) fn accepted(from: i64, key: &str, id: &str, digest: Digest) -> Change {
    let row = member(id, MemberState::Done, Some(digest));
    Change {
        manifests: vec![manifest(key)],
        members: vec![(ManifestKey::from(key), row)],
        ..change(from, from + 1)
    }
}

/// The completion of a manifest, with the statements of action `sum`.
pub(super) fn completion(key: &str, revision: u32, statements: &[&str]) -> CompletionRow {
    let manifest = ManifestRow {
        phase: ManifestPhase::Complete,
        revision,
        completed_at: Some(4_000),
        ..manifest(key)
    };
    let statements = statements.iter().map(|text| ("sum".to_owned(), (*text).to_owned())).collect();
    let parameters = Parameters::from([("manifest".to_owned(), Value::from(key))]);
    let outbox = vec![delivery(key, revision, "tell")];
    CompletionRow { manifest, statements, parameters, outbox, retire: vec![] }
}

pub(super) fn delivery(key: &str, revision: u32, action: &str) -> OutboxRow {
    let name = format!("{key}/{revision}/{action}");
    OutboxRow {
        manifest: ManifestKey::from(key),
        revision,
        action: action.to_owned(),
        part: 0,
        idempotency_key: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        target: OutboxTarget::Kafka {
            topic: "summaries".to_owned(),
            key: None,
            payload: serde_json::json!({"manifest": key, "revision": revision}),
        },
    }
}

/// A batch with the columns of table `part`.
pub(super) fn batch(rows: &[(&str, f64)]) -> Result<RecordBatch, Box<dyn Error>> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)));
    Ok(RecordBatch::try_from_iter([("name", names), ("n", numbers)])?)
}

/// Rows of a member for table `part`.
pub(super) fn part(
    key: &str,
    id: &str,
    digest: Digest,
    rows: &[(&str, f64)],
) -> Result<TableRows, Box<dyn Error>> {
    Ok(TableRows {
        table: "part".to_owned(),
        manifest: ManifestKey::from(key),
        member: Some(MemberId::from(id)),
        digest,
        sink: NodeName::from("parts"),
        rows: vec![batch(rows)?],
    })
}

pub(super) fn done() -> Result<Applied, StateError> {
    Ok(Applied::Yes { blocked: vec![] })
}

/// The values of one column of a table or view, as text, sorted.
pub(super) async fn column(
    store: &dyn StateStore,
    table: &str,
    column: &str,
) -> Result<Vec<String>, StateError> {
    let rows = store.table(table).await?;
    let mut values: Vec<String> = rows
        .iter()
        .map(|row| match row.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "no such column".to_owned(),
        })
        .collect();
    values.sort();
    Ok(values)
}

/// Manifest and revision of each delivery.
pub(super) fn named(claimed: &[Claimed]) -> Vec<(&str, u32)> {
    claimed.iter().map(|claimed| (claimed.row.manifest.as_str(), claimed.row.revision)).collect()
}

/// The text of a mismatch.
pub(super) fn mismatch<T>(result: Result<T, StateError>) -> Result<String, Box<dyn Error>> {
    match result {
        Err(StateError::Mismatch(why)) => Ok(why),
        Err(other) => Err(format!("not a mismatch: {other}").into()),
        Ok(_) => Err("a mismatch was expected".into()),
    }
}
