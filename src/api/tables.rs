//! Rows of declared tables and views.
//!
//! Responsible for: paths and parameters.
//! Not responsible for: the rows (`ops::tables`).

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::refusal::Refusal;
use crate::api::{Shared, most};
use crate::ops::OpsError;
use crate::ops::tables::{Rows, rows};

/// Rows of an answer if nobody says how many.
const SHOWN: u32 = 100;

/// How many rows are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowsQuery {
    limit: Option<u32>,
}

/// Names of declared tables and views.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TableNames {
    /// The names, sorted.
    tables: Vec<String>,
}

/// Rows of a declared table or view.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct TableRowsAnswer {
    /// Its columns, in order.
    columns: Vec<String>,
    /// The rows, as objects in the order of the columns.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<Map<String, Value>>,
    /// Whether the limit left some out.
    more: bool,
}

/// The names of tables and views.
pub(super) async fn names(shared: web::Data<Shared>) -> Result<HttpResponse, Refusal> {
    let (store, _) = shared.store()?;
    let tables = store.tables().await.map_err(OpsError::from)?;
    Ok(HttpResponse::Ok().json(TableNames { tables }))
}

/// The first rows of one.
pub(super) async fn show(
    shared: web::Data<Shared>,
    name: web::Path<String>,
    query: web::Query<RowsQuery>,
) -> Result<HttpResponse, Refusal> {
    let (store, _) = shared.store()?;
    let Rows { page, more } = rows(store, &name, most(query.limit, SHOWN)).await?;
    let answer = TableRowsAnswer { columns: page.columns, rows: page.rows, more };
    Ok(HttpResponse::Ok().json(answer))
}
