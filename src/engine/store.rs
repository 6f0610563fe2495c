//! The state store of a pipeline.
//!
//! Responsible for: opening the one that the settings name, and telling it what the topology
//! declares.
//! Not responsible for: what it does (`state`), or who works with it (`completion`).

use std::sync::Arc;

use crate::completion::config::{ActionKind, Owner, Table, TableType};
use crate::config::Config;
use crate::engine::{Context, EngineError};
use crate::source::config::Config as Source;
use crate::state::postgres::PostgresStore;
use crate::state::sqlite::SqliteStore;
use crate::state::{
    ColumnType, Declarations, DeclaredTable, DeclaredView, PipelineIdentity, StateError,
    StateStore, TableOwner,
};
use crate::topology::{NodeKind, Topology};

/// Opens the state store, if the topology needs one, and prepares what it declares.
pub async fn open_store(
    context: &Context,
    topology: &Topology,
) -> Result<Option<Arc<dyn StateStore>>, EngineError> {
    if topology.manifests.is_empty() && topology.tables.is_empty() {
        return Ok(None);
    }
    let store = open(&context.config).await?;
    let identity = PipelineIdentity {
        pipeline: context.pipeline.clone(),
        group: group_of(topology),
        shards: topology.progress.partitions,
    };
    store.prepare(&identity, &declarations(topology)).await.map_err(refused)?;
    Ok(Some(store))
}

/// The database that the settings name, or else the embedded store.
async fn open(config: &Config) -> Result<Arc<dyn StateStore>, EngineError> {
    if let Some(database) = config.database() {
        let store: Arc<dyn StateStore> = PostgresStore::connect(database).await.map_err(refused)?;
        return Ok(store);
    }
    let path = config.state_path();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await;
    let store: Arc<dyn StateStore> = opened.map_err(EngineError::internal)?.map_err(refused)?;
    Ok(store)
}

fn refused(error: StateError) -> EngineError {
    match error {
        StateError::Mismatch(why) => EngineError::misconfigured(why),
        StateError::Unavailable(why) | StateError::Fatal(why) => EngineError::dependency(why),
    }
}

/// Consumer group of the pipeline: that of its first source.
pub fn group_of(topology: &Topology) -> String {
    let group = topology.graph.nodes.iter().find_map(|node| match &node.kind {
        NodeKind::Source(Source::Kafka(source)) => Some(source.group.clone()),
        _ => None,
    });
    group.unwrap_or_else(|| topology.name.to_string())
}

/// A table as the state store knows it.
pub fn declared(table: &Table) -> DeclaredTable {
    DeclaredTable {
        name: table.name.clone(),
        owner: match &table.owner {
            Owner::Member => TableOwner::Member,
            Owner::Manifest => TableOwner::Manifest,
            Owner::Key(columns) => TableOwner::Key(columns.clone()),
        },
        columns: table.columns.iter().map(|(name, kind)| (name.clone(), column(*kind))).collect(),
    }
}

fn declarations(topology: &Topology) -> Declarations {
    let tables = topology.tables.iter().map(declared);
    let views = topology.views.iter();
    let actions = topology.manifests.iter().flat_map(|(_, manifest)| &manifest.on_complete);
    Declarations {
        tables: tables.collect(),
        views: views
            .map(|view| DeclaredView { name: view.name.clone(), query: view.query.clone() })
            .collect(),
        statements: actions
            .clone()
            .filter_map(|action| match &action.kind {
                ActionKind::Sql { statements } => Some(statements.clone()),
                _ => None,
            })
            .flatten()
            .collect(),
        queries: actions
            .filter_map(|action| match &action.kind {
                ActionKind::Retire { query } => Some(query.clone()),
                _ => None,
            })
            .collect(),
    }
}

fn column(kind: TableType) -> ColumnType {
    match kind {
        TableType::Text => ColumnType::Text,
        TableType::Int => ColumnType::Int,
        TableType::Double => ColumnType::Double,
        TableType::Bool => ColumnType::Bool,
        TableType::Date => ColumnType::Date,
        TableType::Instant => ColumnType::Instant,
        TableType::Json => ColumnType::Json,
    }
}
