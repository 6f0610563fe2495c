//! Statements of actions, made ready to run.
//!
//! Responsible for: what a completion runs, prepared and with its parameters bound, and what is
//! known to be wrong with it before it runs.
//! Not responsible for: running it, or what becomes of a completion that fails (`apply`).

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement as Prepared};

use crate::sql::Statement;
use crate::state::postgres::columns::Parameters;
use crate::state::postgres::errors::{may_pass, message};
use crate::state::postgres::parameters::{Bound, bind};
use crate::state::postgres::pipeline::{Request, execute};
use crate::state::postgres::pool::Pool;
use crate::state::postgres::retired::{ADDED_BY_RETIRING, retiring};
use crate::state::{CompletionRow, ManifestRow, ShardKey, StateError, refusals};

/// A statement with its values.
pub(super) struct Call {
    /// Name of its action.
    pub(super) action: String,
    statement: Prepared,
    bound: Vec<Bound>,
}

impl Call {
    pub(super) fn request<'a>(&'a self, client: &'a tokio_postgres::Client) -> Request<'a> {
        let parameters: Parameters<'a> =
            self.bound.iter().map(|bound| bound as &(dyn ToSql + Sync)).collect();
        execute(client, &self.statement, parameters)
    }
}

/// A completion, and what it runs.
pub(super) struct Planned<'a> {
    pub(super) completion: &'a CompletionRow,
    pub(super) calls: Vec<Call>,
}

/// A completion that is ready to run, or the manifest as it is stored if it cannot, and why.
pub(super) enum Plan<'a> {
    Ready(Planned<'a>),
    Blocked { row: Box<ManifestRow>, why: String },
}

impl<'a> Plan<'a> {
    /// Prepares what a completion runs.
    pub(super) async fn of(
        pool: &Pool,
        client: &Client,
        owner: &ShardKey,
        completion: &'a CompletionRow,
    ) -> Result<Self, StateError> {
        let mut calls = Vec::with_capacity(completion.statements.len() + completion.retire.len());
        let statements = completion.statements.iter().map(|call| (call, false));
        for ((action, text), names_objects) in
            statements.chain(completion.retire.iter().map(|call| (call, true)))
        {
            let source = Source { action, text, names_objects };
            match source.prepare(client, owner, completion).await {
                Ok(call) => calls.push(call),
                Err(Refused::Passing(error)) => return Err(failed(pool, action, &error)),
                Err(Refused::Staying(why)) => {
                    return Ok(Self::blocked(completion, format!("{action}: {why}")));
                }
            }
        }
        Ok(Self::Ready(Planned { completion, calls }))
    }

    /// The completion is rolled back alone.
    pub(super) fn blocked(completion: &CompletionRow, why: String) -> Self {
        let row = Box::new(refusals::blocked_row(&completion.manifest, &why));
        Self::Blocked { row, why }
    }

    /// The row of its manifest.
    pub(super) fn row(&self) -> &ManifestRow {
        match self {
            Self::Ready(planned) => &planned.completion.manifest,
            Self::Blocked { row, .. } => row,
        }
    }

    /// What it runs.
    pub(super) fn calls(&self) -> &[Call] {
        match self {
            Self::Ready(planned) => &planned.calls,
            Self::Blocked { .. } => &[],
        }
    }
}

/// An action could not run, and may another time.
pub(super) fn failed(pool: &Pool, action: &str, error: &Error) -> StateError {
    pool.failed(&format!("run action {action}"), error)
}

/// Why a statement cannot run.
enum Refused {
    /// Something that may pass.
    Passing(Error),
    /// Its own fault, now and ever.
    Staying(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        if may_pass(&error) { Self::Passing(error) } else { Self::Staying(message(&error)) }
    }
}

/// A statement of a topology.
struct Source<'a> {
    action: &'a str,
    text: &'a str,
    /// Whether it is a query that names objects to be retired.
    names_objects: bool,
}

impl Source<'_> {
    async fn prepare(
        &self,
        client: &Client,
        owner: &ShardKey,
        completion: &CompletionRow,
    ) -> Result<Call, Refused> {
        let parsed = if self.names_objects {
            Statement::parse_catalogue_query(self.text)
        } else {
            Statement::parse(self.text)
        };
        let parsed = parsed.map_err(|error| Refused::Staying(error.to_string()))?;
        let names = parsed.parameters();
        let unbound = names.iter().find(|name| !completion.parameters.contains_key(*name));
        if let Some(name) = unbound {
            return Err(Refused::Staying(format!("nothing is bound to :{name}")));
        }
        let Runnable { text, parameters } = Runnable::of(&parsed, self.names_objects);
        let statement = client.prepare_cached(&text).await?;
        let wanted = statement.params();
        if wanted.len() != parameters {
            return Err(Refused::Staying(OTHER_PARAMETERS.to_owned()));
        }
        let mut bound = bind(names, wanted, &completion.parameters).map_err(Refused::Staying)?;
        if self.names_objects {
            bound.push(Bound::text(owner.pipeline.as_str()));
            bound.push(Bound::text(completion.manifest.manifest.as_str()));
        }
        Ok(Call { action: self.action.to_owned(), statement, bound })
    }
}

/// Postgres nests comments, others end them at the first end.
pub(super) const OTHER_PARAMETERS: &str =
    "the database finds other parameters in it: leave out nested comments";

/// What is prepared for a statement of a topology.
pub(super) struct Runnable {
    pub(super) text: String,
    /// How many parameters it has.
    pub(super) parameters: usize,
}

impl Runnable {
    /// For a statement, or for a query that names objects.
    pub(super) fn of(parsed: &Statement, names_objects: bool) -> Self {
        let parameters = parsed.parameters().len();
        if names_objects {
            let text = retiring(parsed.numbered(), parameters);
            Self { text, parameters: parameters + ADDED_BY_RETIRING }
        } else {
            Self { text: parsed.numbered().to_owned(), parameters }
        }
    }
}
