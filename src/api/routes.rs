//! What the API serves.
//!
//! Responsible for: the list of all routes: path, method, handler, parameters and the form of
//! bodies and answers.
//! Not responsible for: writing the list as OpenAPI (`description`), or who may ask (`gate`).

use actix_web::web;

use crate::api::dead_letters::LettersBody;
use crate::api::description::{Schema, schema};
use crate::api::health::Liveness;
use crate::api::manifests::CommandBody;
use crate::api::tables::{TableNames, TableRowsAnswer};
use crate::api::{dead_letters, health, manifests, refusal, tables};
use crate::engine::health::Readiness;
use crate::ops::Commanded;
use crate::ops::dead_letters::{LetterDetails, LetterLine, LetterListing};
use crate::ops::explanation::Explanation;
use crate::ops::manifests::{Listing, ManifestDetails, Missing};

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET: a question.
    Ask,
    /// POST: a change.
    Change,
}

/// What is answered.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// JSON of this form.
    Json(Schema),
    /// A JSON array of these.
    Many(Schema),
    /// JSON of this form, or text for whoever accepts that rather.
    JsonOrText(Schema),
    /// Text.
    Text,
    /// JSON whose form is a standard of its own.
    Document,
}

/// A path and what it does.
pub struct Route {
    /// What is done with it.
    pub verb: Verb,
    /// The path, with `{name}` for what is filled in.
    pub path: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// Parameters of the query, and what they mean.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// Form of the body.
    pub(super) body: Option<Schema>,
    /// What is answered.
    pub(super) answer: Answer,
    /// Whether anybody may ask.
    pub(super) open: bool,
    install: fn() -> actix_web::Route,
}

impl Route {
    const fn ask(
        path: &'static str,
        summary: &'static str,
        answer: Answer,
        install: fn() -> actix_web::Route,
    ) -> Self {
        Self {
            verb: Verb::Ask,
            path,
            summary,
            query: &[],
            body: None,
            answer,
            open: false,
            install,
        }
    }

    const fn change(
        path: &'static str,
        summary: &'static str,
        body: Schema,
        answer: Answer,
        install: fn() -> actix_web::Route,
    ) -> Self {
        Self {
            verb: Verb::Change,
            path,
            summary,
            query: &[],
            body: Some(body),
            answer,
            open: false,
            install,
        }
    }

    const fn with(self, query: &'static [(&'static str, &'static str)]) -> Self {
        Self { query, ..self }
    }

    const fn open(self) -> Self {
        Self { open: true, ..self }
    }
}

const LIMIT: (&str, &str) = ("limit", "At most so many; 0 is as many as there can be (10,000).");

/// All routes.
pub const ROUTES: &[Route] = &[
    Route::ask(
        "/livez",
        "Whether all threads show progress: 200, or 503.",
        Answer::Json(schema::<Liveness>),
        || web::get().to(health::livez),
    )
    .open(),
    Route::ask(
        "/readyz",
        "Whether the pipeline can do its work: 200, or 503 with what is away.",
        Answer::Json(schema::<Readiness>),
        || web::get().to(health::readyz),
    )
    .open(),
    Route::ask("/metrics", "All metrics, as Prometheus reads them.", Answer::Text, || {
        web::get().to(health::metrics)
    }),
    Route::ask("/api/v1/openapi.json", "This description.", Answer::Document, || {
        web::get().to(health::openapi)
    }),
    Route::ask(
        "/api/v1/manifests",
        "Manifests, newest event first.",
        Answer::Json(schema::<Listing>),
        || web::get().to(manifests::list),
    )
    .with(&[
        ("phase", "Only this phase: open, complete, cancelled or failed."),
        ("prefix", "Only keys that begin like this."),
        LIMIT,
    ]),
    Route::ask(
        "/api/v1/manifests/{key}",
        "Everything that is stored of a manifest.",
        Answer::Json(schema::<ManifestDetails>),
        || web::get().to(manifests::show),
    ),
    Route::ask(
        "/api/v1/manifests/{key}/missing",
        "The members that a manifest waits for.",
        Answer::Json(schema::<Missing>),
        || web::get().to(manifests::missing),
    ),
    Route::ask(
        "/api/v1/manifests/{key}/explain",
        "Why a manifest is not complete, or why it is.",
        Answer::JsonOrText(schema::<Explanation>),
        || web::get().to(manifests::explain),
    ),
    Route::change(
        "/api/v1/manifests/{key}/{command}",
        "Sends a command to a manifest (force, cancel, reopen, retry or extend), and waits until \
         it is applied.",
        schema::<CommandBody>,
        Answer::Json(schema::<Commanded>),
        || web::post().to(manifests::command),
    ),
    Route::ask(
        "/api/v1/tables",
        "Names of declared tables and views.",
        Answer::Json(schema::<TableNames>),
        || web::get().to(tables::names),
    ),
    Route::ask(
        "/api/v1/tables/{name}",
        "The first rows of a declared table or view.",
        Answer::Json(schema::<TableRowsAnswer>),
        || web::get().to(tables::show),
    )
    .with(&[LIMIT]),
    Route::ask(
        "/api/v1/dead-letters",
        "Dead letters, newest failure first.",
        Answer::Json(schema::<LetterListing>),
        || web::get().to(dead_letters::list),
    )
    .with(&[
        ("ids", "Only these, by id, separated by commas."),
        ("node", "Only those that this node gave up."),
        ("class", "Only those of this failure class."),
        ("manifest", "Only those of members of this manifest."),
        ("member", "Only those of members with this id."),
        ("since", "Only those that failed at this time or later, in ms since the Unix epoch."),
        ("state", "Only those in this state: waiting, replayed or discarded."),
        LIMIT,
    ]),
    Route::change(
        "/api/v1/dead-letters/replay",
        "Tries dead letters again: their records go to the sources that they came from.",
        schema::<LettersBody>,
        Answer::Many(schema::<LetterLine>),
        || web::post().to(dead_letters::replay),
    ),
    Route::change(
        "/api/v1/dead-letters/discard",
        "Lets dead letters go: they are no longer listed as waiting.",
        schema::<LettersBody>,
        Answer::Many(schema::<LetterLine>),
        || web::post().to(dead_letters::discard),
    ),
    Route::ask(
        "/api/v1/dead-letters/{id}",
        "One dead letter with everything that it holds.",
        Answer::Json(schema::<LetterDetails>),
        || web::get().to(dead_letters::show),
    ),
];

/// Serves all routes.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    for route in ROUTES {
        let resource = web::resource(route.path)
            .route((route.install)())
            .default_service(web::to(refusal::wrong_method));
        config.service(resource);
    }
}
